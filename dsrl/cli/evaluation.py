"""Commands that score and picture: benchmark, table, plot-examples, plot-curves, plot-classes,
plot-sweep."""

from pathlib import Path
from typing import Any

from dsrl.cli.options import (
    Arguments,
    add_command,
    add_data,
    add_device,
    add_split,
    data_of_weights,
    file_named,
    whole_number,
)


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_benchmark(commands)
    add_table(commands)
    add_plot_examples(commands)
    add_plot_curves(commands)
    for name, run, text in (
        ("plot-classes", plot_classes, "picture the IoU of each class"),
        ("plot-sweep", plot_sweep, "picture mean IoU against input size and GFLOPs"),
    ):
        parser = add_command(commands, name, run, text)
        parser.add_argument("benchmark", type=Path, metavar="CSV", help="of `dsrl table`")
        parser.add_argument("--output", type=Path, required=True, help="picture to write")


def add_benchmark(commands: Any) -> None:
    parser = add_command(commands, "benchmark", benchmark, "score weights on a split")
    parser.add_argument("--weights", type=Path, required=True, help="weights of any stage")
    add_data(parser, "weights")
    add_split(parser)
    parser.add_argument(
        "--output",
        type=file_named(".txt"),
        default=Path("outputs/benchmark.txt"),
        help="text file to write; a CSV goes beside it",
    )
    parser.add_argument("--latency-runs", type=whole_number, default=20, help="timed passes")
    parser.add_argument("--experiment", default="", help="name of the row's experiment")
    parser.add_argument("--seed", type=int, help="that of the training, for the row")
    add_device(parser)


def benchmark(arguments: Arguments) -> None:
    from dsrl.evaluation.benchmark import benchmark

    benchmark(
        arguments.weights,
        data_of_weights(arguments, arguments.weights),
        arguments.dataset_split,
        arguments.output,
        arguments.device,
        arguments.latency_runs,
        arguments.experiment,
        arguments.seed,
    )
    print(arguments.output.read_text(encoding="utf-8"), end="")


def add_table(commands: Any) -> None:
    parser = add_command(commands, "table", table, "merge benchmarks into the results table")
    parser.add_argument("benchmarks", type=Path, nargs="+", metavar="CSV", help="in row order")
    parser.add_argument(
        "--output",
        type=file_named(".txt"),
        required=True,
        help="text file to write; a CSV goes beside it",
    )


def table(arguments: Arguments) -> None:
    from dsrl.evaluation.table import write_table

    write_table(arguments.benchmarks, arguments.output)


def add_plot_examples(commands: Any) -> None:
    parser = add_command(
        commands, "plot-examples", plot_examples, "picture inputs, predictions and truth"
    )
    parser.add_argument("weights", type=Path, nargs="+", metavar="WEIGHTS", help="a column each")
    add_data(parser, "weights")
    add_split(parser)
    parser.add_argument(
        "--count", type=whole_number, default=4, help="images, spread over the split"
    )
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    add_device(parser)


def plot_examples(arguments: Arguments) -> None:
    from dsrl.figures.examples import plot_examples

    plot_examples(
        arguments.weights,
        data_of_weights(arguments, arguments.weights[0]),
        arguments.dataset_split,
        arguments.count,
        arguments.output,
        arguments.device,
    )


def add_plot_curves(commands: Any) -> None:
    parser = add_command(commands, "plot-curves", plot_curves, "picture the histories of stages")
    parser.add_argument("histories", type=Path, nargs="+", metavar="CSV", help="stage 1, 2, ...")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")


def plot_curves(arguments: Arguments) -> None:
    from dsrl.figures.charts import plot_curves

    plot_curves(arguments.histories, arguments.output)


def plot_classes(arguments: Arguments) -> None:
    from dsrl.figures.charts import plot_classes

    plot_classes(arguments.benchmark, arguments.output)


def plot_sweep(arguments: Arguments) -> None:
    from dsrl.figures.charts import plot_sweep

    plot_sweep(arguments.benchmark, arguments.output)
