"""The `dsrl` command: one subcommand per rule of the workflow and per command of the original.

Exit codes: 0 done; 2 wrong usage; 1 a failure, told in one line on stderr. What a command needs is
imported when it is called, so that `dsrl --help` does not wait for PyTorch.
"""

import os
import sys
from pathlib import Path
from typing import Any

from dsrl import __version__
from dsrl.config import (
    STAGES,
    Augmentation,
    Data,
    Demo,
    Loss,
    Model,
    Resources,
    Training,
)
from dsrl.options import (
    Arguments,
    Parser,
    UsageError,
    add_command,
    add_settings,
    settings_from,
)


def main(argv: list[str] | None = None) -> None:
    """Run a command line and exit."""
    # Threads that spin while they wait make training several times slower on a shared machine.
    # OpenMP reads this when PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except UsageError as error:
        arguments.parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if arguments.debug:
            raise
        expected = isinstance(error, (OSError, ValueError))
        text = " ".join(str(error).split())
        if not expected:
            text = f"{type(error).__name__}: {text}; add --debug for the traceback"
        sys.exit(f"dsrl {arguments.command}: {text}")


def build_parser() -> Parser:
    """The parser of all subcommands."""
    parser = Parser(prog="dsrl", description="Dual Super-Resolution Learning for Segmentation.")
    parser.add_argument("--version", action="version", version=f"dsrl {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    for add in (
        add_demo_data,
        add_download,
        add_unpack,
        add_preprocess,
        add_train,
        add_prune_weights,
        add_benchmark,
        add_table,
        add_plot_examples,
        add_plot_curves,
    ):
        add(commands)
    return parser


def add_demo_data(commands: Any) -> None:
    parser = add_command(commands, "demo-data", demo_data, "draw a street-scene data set")
    parser.add_argument("--output", type=Path, default=Path("data/archives/demo"), help="folder")
    add_config(parser)
    add_jobs(parser)
    add_settings(parser, Demo)


def demo_data(arguments: Arguments) -> None:
    from dsrl.data.demo import write_demo_archives

    demo = settings_from(arguments).demo
    write_demo_archives(
        arguments.output,
        demo.train_images,
        demo.val_images,
        demo.image_size,
        demo.demo_seed,
        arguments.jobs,
    )


def add_download(commands: Any) -> None:
    parser = add_command(commands, "download", download, "fetch a public archive")
    add_dataset(parser)
    parser.add_argument("archive", type=Path, help="where to put it; its name says which it is")


def download(arguments: Arguments) -> None:
    from dsrl.data import archives
    from dsrl.data.labels import load_description

    description = load_description(arguments.dataset)
    name = arguments.archive.name
    if name not in description.urls:
        folder = arguments.archive.parent
        raise ValueError(archives.missing_archive_message(description, name, folder))
    archives.download(description.urls[name], arguments.archive)


def add_unpack(commands: Any) -> None:
    parser = add_command(commands, "unpack", unpack, "extract archives into one folder")
    parser.add_argument("archives", type=Path, nargs="+", metavar="ARCHIVE", help="zip file")
    parser.add_argument("--output", type=Path, required=True, help="folder; replaced as a whole")


def unpack(arguments: Arguments) -> None:
    from dsrl.data import archives

    archives.unpack(arguments.archives, arguments.output)


def add_preprocess(commands: Any) -> None:
    parser = add_command(
        commands, "preprocess", preprocess, "pair, check, resize and pack one split of a data set"
    )
    add_dataset(parser)
    parser.add_argument("--raw", type=Path, required=True, help="folder that `unpack` wrote")
    parser.add_argument("--dataset-split", default="train", help="train, val or test")
    parser.add_argument(
        "--size", type=int, nargs=2, required=True, metavar=("H", "W"), help="of stored images"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of the prepared data set"
    )
    add_jobs(parser)


def preprocess(arguments: Arguments) -> None:
    from dsrl.data import preprocess
    from dsrl.data.labels import load_description

    split = arguments.dataset_split
    preprocess.preprocess(
        load_description(arguments.dataset),
        arguments.raw,
        split,
        tuple(arguments.size),
        arguments.output / split,
        arguments.jobs,
    )


def add_train(commands: Any) -> None:
    parser = add_command(commands, "train", train, "train one stage")
    parser.add_argument("--stage", type=int, choices=STAGES, required=True, help="which")
    add_data(parser)
    parser.add_argument(
        "--init-weights", type=Path, help="final weights of the stage before (stages 2 and 3)"
    )
    parser.add_argument("--output", type=Path, help="folder of the stage; weights/stage<K>")
    add_config(parser)
    parser.add_argument("--seed", type=int, help="of weights, data order and augmentation")
    add_settings(parser, Training, Loss, Model)
    add_settings(parser, Data, leave_out=("dataset", "prepared_size"))
    add_settings(parser, Augmentation, Resources)


def train(arguments: Arguments) -> None:
    from dsrl.training.loop import train_stage

    train_stage(
        settings_from(arguments, arguments.stage),
        arguments.stage,
        arguments.data,
        arguments.output or Path(f"weights/stage{arguments.stage}"),
        arguments.init_weights,
    )


def add_prune_weights(commands: Any) -> None:
    parser = add_command(
        commands, "prune-weights", prune_weights, "keep the layers that inference needs"
    )
    parser.add_argument("--src-weights", type=Path, required=True, help="weights of any stage")
    parser.add_argument("--dest-weights", type=Path, required=True, help="file to write")


def prune_weights(arguments: Arguments) -> None:
    from dsrl.training.weights import load_weights, prune, save_weights

    source = arguments.src_weights
    save_weights(arguments.dest_weights, prune(load_weights(source), str(source)))


def add_benchmark(commands: Any) -> None:
    parser = add_command(commands, "benchmark", benchmark, "score weights on a split")
    parser.add_argument("--weights", type=Path, required=True, help="weights of any stage")
    add_data(parser)
    add_split(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/benchmark.txt"), help="a CSV goes beside it"
    )
    parser.add_argument("--latency-runs", type=int, default=20, help="timed passes")
    add_device(parser)


def benchmark(arguments: Arguments) -> None:
    from dsrl.evaluation.benchmark import benchmark

    benchmark(
        arguments.weights,
        arguments.data,
        arguments.dataset_split,
        arguments.output,
        arguments.device,
        arguments.latency_runs,
    )
    print(arguments.output.read_text(encoding="utf-8"), end="")


def add_table(commands: Any) -> None:
    parser = add_command(commands, "table", table, "merge benchmarks into the results table")
    parser.add_argument("benchmarks", type=Path, nargs="+", metavar="CSV", help="in row order")
    parser.add_argument("--output", type=Path, required=True, help="a CSV goes beside it")


def table(arguments: Arguments) -> None:
    from dsrl.evaluation.table import write_table

    write_table(arguments.benchmarks, arguments.output)


def add_plot_examples(commands: Any) -> None:
    parser = add_command(
        commands, "plot-examples", plot_examples, "picture inputs, predictions and truth"
    )
    parser.add_argument("weights", type=Path, nargs="+", metavar="WEIGHTS", help="a column each")
    add_data(parser)
    add_split(parser)
    parser.add_argument("--count", type=int, default=4, help="images, spread over the split")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    add_device(parser)


def plot_examples(arguments: Arguments) -> None:
    from dsrl.inference.visualise import plot_examples

    plot_examples(
        arguments.weights,
        arguments.data,
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
    from dsrl.inference.visualise import plot_curves

    plot_curves(arguments.histories, arguments.output)


def add_config(parser: Parser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="settings; a YAML file, or a mapping in braces"
    )


def add_jobs(parser: Parser) -> None:
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="processes")


def add_dataset(parser: Parser) -> None:
    parser.add_argument(
        "--dataset", required=True, help="demo, cityscapes, camvid, or a YAML description"
    )


def add_data(parser: Parser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of a prepared data set")


def add_split(parser: Parser) -> None:
    parser.add_argument("--dataset-split", default="val", help="train, val or test")


def add_device(parser: Parser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="where")
