"""Commands that prepare data: demo-data, download, unpack, preprocess."""

from pathlib import Path
from typing import Any

from dsrl.cli.options import (
    Arguments,
    add_command,
    add_config,
    add_dataset,
    add_jobs,
    add_settings,
    settings_from,
    whole_number,
)
from dsrl.config.sections import Demo


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_demo_data(commands)
    add_download(commands)
    add_unpack(commands)
    add_preprocess(commands)


def add_demo_data(commands: Any) -> None:
    parser = add_command(commands, "demo-data", demo_data, "draw a street-scene data set")
    parser.add_output("--output", folder=True, default=Path("data/archives/demo"), help="folder")
    add_config(parser)
    add_settings(parser, Demo)


def demo_data(arguments: Arguments) -> None:
    from dsrl.demo.archives import write_demo_archives

    demo = settings_from(arguments).demo
    write_demo_archives(
        arguments.output, demo.train_images, demo.val_images, demo.image_size, demo.demo_seed
    )


def add_download(commands: Any) -> None:
    parser = add_command(commands, "download", download, "download an archive of a data set")
    add_dataset(parser)
    parser.add_output("archive", help="file to write, named as in the description")


def download(arguments: Arguments) -> None:
    from dsrl.data import archives
    from dsrl.data.description import load_description

    description = load_description(arguments.dataset)
    name = arguments.archive.name
    if name not in description.downloads:
        folder = arguments.archive.parent
        raise ValueError(archives.missing_archive_message(description, name, folder))
    archives.download(description.downloads[name], arguments.archive)


def add_unpack(commands: Any) -> None:
    parser = add_command(commands, "unpack", unpack, "extract archives into one folder")
    parser.add_input("archives", nargs="+", metavar="ARCHIVE", help="zip file")
    parser.add_output("--output", folder=True, required=True, help="folder; replaced as a whole")


def unpack(arguments: Arguments) -> None:
    from dsrl.data import archives

    archives.unpack(arguments.archives, arguments.output)


def add_preprocess(commands: Any) -> None:
    parser = add_command(
        commands, "preprocess", preprocess, "pair, check, resize and pack one split of a data set"
    )
    add_dataset(parser)
    parser.add_input("--raw", required=True, help="folder written by `dsrl unpack`")
    parser.add_argument("--dataset-split", default="train", help="train, val or test")
    parser.add_argument(
        "--size",
        type=whole_number,
        nargs=2,
        required=True,
        metavar=("H", "W"),
        help="height and width of the stored images, in pixels",
    )
    parser.add_output(
        "--output", folder=True, required=True, help="folder of the prepared data set"
    )
    add_jobs(parser)


def preprocess(arguments: Arguments) -> None:
    from dsrl.data import preprocess
    from dsrl.data.description import load_description
    from dsrl.data.manifest import MANIFEST_NAME

    split = arguments.dataset_split
    output = arguments.output / split
    if output.is_dir() and any(output.iterdir()) and not (output / MANIFEST_NAME).exists():
        raise ValueError(f"{output}: exists and is not a prepared split; choose another --output")
    preprocess.preprocess(
        load_description(arguments.dataset),
        arguments.raw,
        split,
        tuple(arguments.size),
        output,
        arguments.jobs,
    )
