"""Commands that prepare data: demo-data, download, unpack, describe, preprocess."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

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
from dsrl.config.sections import Demo, Fit


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_demo_data(commands)
    add_download(commands)
    add_unpack(commands)
    add_describe(commands)
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
    for name, source in description.downloads.items():
        if f"/{arguments.archive.as_posix()}".endswith(f"/{name}"):
            archives.download(source, arguments.archive)
            return
    folder, name = arguments.archive.parent, arguments.archive.name
    raise ValueError(archives.missing_archive_message(description, name, folder))


def add_unpack(commands: Any) -> None:
    parser = add_command(commands, "unpack", unpack, "extract archives into one folder")
    parser.add_input("archives", nargs="+", metavar="ARCHIVE", help="zip or tar file")
    parser.add_output("--output", folder=True, required=True, help="new folder")


def unpack(arguments: Arguments) -> None:
    from dsrl.data import archives

    archives.unpack(arguments.archives, arguments.output)


def add_describe(commands: Any) -> None:
    parser = add_command(
        commands, "describe", describe, "propose the description of a data set, for you to complete"
    )
    parser.add_input("folder", metavar="FOLDER", help="folder with images and labels")
    parser.add_output("--output", help="new YAML file (default: print it)")


def describe(arguments: Arguments) -> None:
    from dsrl.data.propose import propose
    from dsrl.system.files import write_text

    if arguments.output and arguments.output.exists():
        raise FileExistsError(f"{arguments.output} exists; choose another --output, or remove it")
    text = propose(arguments.folder)
    if arguments.output:
        write_text(arguments.output, text)
    else:
        print(text, end="")


def add_preprocess(commands: Any) -> None:
    parser = add_command(
        commands, "preprocess", preprocess, "pair, check, resize and pack one split of a data set"
    )
    add_dataset(parser)
    parser.add_input(
        "--raw",
        help="folder with the unpacked files (default: the `folder` of the description, or "
        "data/raw/<data set>)",
    )
    parser.add_argument("--dataset-split", default="train", help="train, val or test")
    parser.add_argument(
        "--size",
        type=whole_number,
        nargs=2,
        required=True,
        metavar=("H", "W"),
        help="height and width of the stored images, in pixels",
    )
    parser.add_argument(
        "--fit",
        choices=get_args(Fit),
        default="stretch",
        help="whether images of another aspect ratio are stretched, or padded (default: "
        "%(default)s)",
    )
    parser.add_output(
        "--output", folder=True, required=True, help="folder of the prepared data set"
    )
    add_jobs(parser)


def preprocess(arguments: Arguments) -> None:
    from dsrl.data import preprocess
    from dsrl.data.description import load_description
    from dsrl.data.manifest import overlap, read_manifest

    description, split = load_description(arguments.dataset), arguments.dataset_split
    manifest = preprocess.preprocess(
        description,
        arguments.raw or description.raw,
        split,
        tuple(arguments.size),
        arguments.output / split,
        arguments.jobs,
        arguments.fit,
    )
    print(preprocess.class_shares(manifest), file=sys.stderr)
    order = list(description.splits)
    for name in order:
        if name == split:
            continue
        with suppress(OSError, ValueError):  # not prepared yet, or damaged
            both = [manifest, read_manifest(arguments.output / name)]
            if warning := overlap(*sorted(both, key=lambda each: order.index(each.split))):
                print(f"dsrl preprocess: {warning}", file=sys.stderr)
