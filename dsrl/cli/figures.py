"""Commands that plot: plot-examples, plot-curves, plot-classes, plot-sweep, plot-confusion,
plot-super-resolution, plot-affinity."""

from typing import Any

from dsrl.cli.evaluation import add_class_map
from dsrl.cli.options import (
    Arguments,
    Parser,
    add_command,
    add_data,
    add_device,
    add_split,
    data_of_weights,
    whole_number,
)


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_plot_examples(commands)
    add_plot_curves(commands)
    add_plot_classes(commands)
    add_plot_sweep(commands)
    add_plot_confusion(commands)
    add_plot_super_resolution(commands)
    add_plot_affinity(commands)


def add_plot_examples(commands: Any) -> None:
    parser = add_command(
        commands, "plot-examples", plot_examples, "plot inputs, predictions and ground truth"
    )
    parser.add_input("weights", nargs="+", metavar="WEIGHTS", help="one column of predictions each")
    add_data(parser, "weights")
    add_split(parser)
    add_class_map(parser)
    parser.add_input(
        "--worst",
        metavar="CSV",
        help="plot the images with the lowest mean IoU, with maps of the errors; the `.images.csv` "
        "of `dsrl benchmark` for this split",
    )
    add_count(parser)
    add_image_output(parser)
    add_device(parser)


def plot_examples(arguments: Arguments) -> None:
    from dsrl.figures.examples import plot_examples

    plot_examples(**of_split(arguments), class_map=arguments.class_map, worst=arguments.worst)


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


def add_plot_confusion(commands: Any) -> None:
    parser = add_command(
        commands, "plot-confusion", plot_confusion, "plot which classes are taken for which"
    )
    parser.add_input(
        "confusions",
        nargs="+",
        metavar="CSV",
        help="`.confusion.csv` of `dsrl benchmark`; one matrix each",
    )
    add_image_output(parser)


def plot_confusion(arguments: Arguments) -> None:
    from dsrl.figures.confusion import plot_confusion

    plot_confusion(arguments.confusions, arguments.output)


def add_plot_super_resolution(commands: Any) -> None:
    parser = add_command(
        commands,
        "plot-super-resolution",
        plot_super_resolution,
        "plot what the super-resolution branch reconstructs, with its PSNR and SSIM",
    )
    add_branches(parser)
    add_count(parser)
    add_image_output(parser, beside=(".csv",), text="; a CSV file of the same name goes beside it")
    add_device(parser)


def plot_super_resolution(arguments: Arguments) -> None:
    from dsrl.figures.super_resolution import plot_super_resolution

    plot_super_resolution(**of_split(arguments))


def add_plot_affinity(commands: Any) -> None:
    parser = add_command(
        commands,
        "plot-affinity",
        plot_affinity,
        "plot how similar the features of all pixels are to those of one, in both branches",
    )
    add_branches(parser)
    parser.add_argument(
        "--pixel",
        type=int,
        nargs=2,
        metavar=("ROW", "COLUMN"),
        help="the pixel, in the network's input (default: the centre)",
    )
    add_count(parser)
    add_image_output(parser)
    add_device(parser)


def plot_affinity(arguments: Arguments) -> None:
    from dsrl.figures.affinity import plot_affinity

    plot_affinity(**of_split(arguments), pixel=arguments.pixel and tuple(arguments.pixel))


def of_split(arguments: Arguments) -> dict[str, Any]:
    """What the figures of weights on a split have in common."""
    return {
        "weights": arguments.weights,
        "data": data_of_weights(arguments, arguments.weights[0]),
        "split": arguments.dataset_split,
        "count": arguments.count,
        "output": arguments.output,
        "device": arguments.device,
    }


def add_branches(parser: Parser) -> None:
    parser.add_input(
        "weights", nargs="+", metavar="WEIGHTS", help="of stage 2 or 3, not pruned; one column each"
    )
    add_data(parser, "weights")
    add_split(parser)


def add_count(parser: Parser) -> None:
    parser.add_argument(
        "--count",
        type=whole_number,
        default=4,
        help="number of images, spread over the split (default: %(default)s)",
    )


def add_scores(parser: Parser) -> None:
    parser.add_input("benchmark", metavar="CSV", help="written by `dsrl table`")


def add_image_output(parser: Parser, beside: tuple[str, ...] = (), text: str = "") -> None:
    parser.add_output("--output", required=True, beside=beside, help=f"image file to write{text}")
