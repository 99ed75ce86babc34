"""Commands that score and plot: benchmark, table, plot-examples, plot-curves, plot-classes,
plot-sweep."""

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
    add_plot_examples(commands)
    add_plot_curves(commands)
    add_plot_classes(commands)
    add_plot_sweep(commands)


def add_benchmark(commands: Any) -> None:
    parser = add_command(commands, "benchmark", benchmark, "score weights on a split")
    parser.add_input("--weights", required=True, help="weights of any stage")
    add_data(parser, "weights")
    add_split(parser)
    add_class_map(parser)
    add_table_output(parser, default=Path("outputs/benchmark.txt"))
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
    add_table_output(parser, required=True)


def table(arguments: Arguments) -> None:
    from dsrl.evaluation.table import read_scores, write_table

    write_table([read_scores(path) for path in arguments.benchmarks], arguments.output)


def add_plot_examples(commands: Any) -> None:
    parser = add_command(
        commands, "plot-examples", plot_examples, "plot inputs, predictions and ground truth"
    )
    parser.add_input("weights", nargs="+", metavar="WEIGHTS", help="one column of predictions each")
    add_data(parser, "weights")
    add_split(parser)
    add_class_map(parser)
    parser.add_argument(
        "--count", type=whole_number, default=4, help="number of images, spread over the split"
    )
    add_image_output(parser)
    add_device(parser)


def plot_examples(arguments: Arguments) -> None:
    from dsrl.figures.examples import plot_examples

    plot_examples(
        arguments.weights,
        data_of_weights(arguments, arguments.weights[0]),
        split=arguments.dataset_split,
        count=arguments.count,
        output=arguments.output,
        device=arguments.device,
        class_map=arguments.class_map,
    )


def add_plot_curves(commands: Any) -> None:
    parser = add_command(
        commands, "plot-curves", plot_curves, "plot losses and scores over the epochs"
    )
    parser.add_input(
        "histories",
        nargs="+",
        metavar="CSV",
        help="history.csv of stage 1, 2, ... in this order",
    )
    add_image_output(parser)


def plot_curves(arguments: Arguments) -> None:
    from dsrl.figures.charts import plot_curves

    plot_curves(arguments.histories, arguments.output)


def add_plot_classes(commands: Any) -> None:
    parser = add_command(commands, "plot-classes", plot_classes, "plot the IoU of each class")
    add_scores(parser)
    add_image_output(parser)


def plot_classes(arguments: Arguments) -> None:
    from dsrl.figures.charts import plot_classes

    plot_classes(arguments.benchmark, arguments.output)


def add_plot_sweep(commands: Any) -> None:
    parser = add_command(
        commands, "plot-sweep", plot_sweep, "plot mean IoU over input size and GFLOPs"
    )
    add_scores(parser)
    add_image_output(parser)


def plot_sweep(arguments: Arguments) -> None:
    from dsrl.figures.charts import plot_sweep

    plot_sweep(arguments.benchmark, arguments.output)


def add_scores(parser: Parser) -> None:
    parser.add_input("benchmark", metavar="CSV", help="written by `dsrl table`")


def add_class_map(parser: Parser) -> None:
    parser.add_input(
        "--class-map",
        type=str,
        metavar="FILE",
        help="which classes of the weights count as which of the data, where they differ: "
        "cityscapes-camvid, or a YAML file",
    )


def add_table_output(parser: Parser, **options: Any) -> None:
    parser.add_output(
        "--output",
        type=file_named(".txt"),
        beside=(".csv",),
        help="text file to write; a CSV file of the same name goes beside it",
        **options,
    )


def add_image_output(parser: Parser) -> None:
    parser.add_output("--output", required=True, help="image file to write")
