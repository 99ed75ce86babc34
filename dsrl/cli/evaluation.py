"""Commands that score: benchmark, table."""

from pathlib import Path
from typing import Any

from dsrl.cli.options import (
    Arguments,
    Parser,
    add_command,
    add_data,
    add_device,
    add_split,
    data_of_weights,
    file_named,
    whole_number,
)
from dsrl.config.settings import read_settings


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_benchmark(commands)
    add_table(commands)


def add_benchmark(commands: Any) -> None:
    parser = add_command(commands, "benchmark", benchmark, "score weights on a split")
    parser.add_input("--weights", required=True, help="weights of any stage")
    add_data(parser, "weights")
    add_split(parser)
    add_class_map(parser)
    add_table_output(
        parser,
        beside=(".csv", ".confusion.csv", ".images.csv"),
        text="three CSV files of the same name go beside it: the row, the confusion of classes, "
        "and the scores of each image",
        default=Path("outputs/benchmark.txt"),
    )
    parser.add_argument(
        "--latency-runs", type=whole_number, default=20, help="number of timed passes"
    )
    parser.add_argument("--experiment", default="", help="experiment of the table row")
    parser.add_argument("--seed", type=int, help="seed of the table row")
    parser.add_input(
        "--recipe",
        type=str,
        metavar="FILE",
        help="config; weights that were trained with other settings are refused",
    )
    add_device(parser)


def benchmark(arguments: Arguments) -> None:
    from dsrl.evaluation.benchmark import benchmark

    benchmark(
        arguments.weights,
        data_of_weights(arguments, arguments.weights),
        split=arguments.dataset_split,
        output=arguments.output,
        device=arguments.device,
        latency_runs=arguments.latency_runs,
        experiment=arguments.experiment,
        seed=arguments.seed,
        settings=None if arguments.recipe is None else read_settings(arguments.recipe),
        class_map=arguments.class_map,
    )
    print(arguments.output.read_text(encoding="utf-8"), end="")


def add_table(commands: Any) -> None:
    parser = add_command(commands, "table", table, "merge benchmarks into the results table")
    parser.add_input(
        "benchmarks",
        nargs="+",
        metavar="CSV",
        help="written by `dsrl benchmark`, in the order of the rows",
    )
    add_table_output(
        parser,
        beside=(".csv",),
        text="a CSV file of the same name goes beside it",
        required=True,
    )


def table(arguments: Arguments) -> None:
    from dsrl.evaluation.table import read_scores, write_table

    write_table([read_scores(path) for path in arguments.benchmarks], arguments.output)


def add_class_map(parser: Parser) -> None:
    parser.add_input(
        "--class-map",
        type=str,
        metavar="FILE",
        help="which classes of the weights count as which of the data, where they differ: "
        "cityscapes-camvid, or a YAML file",
    )


def add_table_output(parser: Parser, beside: tuple[str, ...], text: str, **options: Any) -> None:
    parser.add_output(
        "--output",
        type=file_named(".txt"),
        beside=beside,
        help=f"text file to write; {text}",
        **options,
    )
