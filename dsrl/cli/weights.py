"""Commands about networks and the files that training writes: fetch-encoder, import-weights,
prune-weights, inspect-checkpoint, edit-checkpoint, print-model, purge."""

import json
import sys
from pathlib import Path
from typing import Any

from dsrl.cli.options import (
    Arguments,
    UsageError,
    add_command,
    add_config,
    add_settings,
    file_named,
    settings_from,
    whole_number,
)
from dsrl.config.encoder_weights import file_of_known, known_weights
from dsrl.config.model import ENCODER_START, Model
from dsrl.config.recipe import STAGES
from dsrl.config.sections import Data


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_fetch_encoder(commands)
    add_import_weights(commands)
    add_prune_weights(commands)
    add_inspect_checkpoint(commands)
    add_edit_checkpoint(commands)
    add_print_model(commands)
    add_purge(commands)


def add_fetch_encoder(commands: Any) -> None:
    parser = add_command(
        commands, "fetch-encoder", fetch_encoder, "get the trained weights of an encoder"
    )
    parser.add_argument(
        "name",
        nargs="?",
        help="a timm model, or one of dsrl/config/encoder_sources.yaml (default: that of the "
        "settings)",
    )
    parser.add_output("--output", help="file to write (default: data/encoders/<name>.pth)")
    add_config(parser)


def fetch_encoder(arguments: Arguments) -> None:
    of_settings = known_weights(settings_from(arguments).model)
    name = arguments.name or of_settings
    if name is None:
        raise UsageError("name an encoder; that of the settings does not start from known weights")
    from dsrl.checkpoints import fetch

    print(fetch.fetch_encoder(name, arguments.output or file_of_known(name)), file=sys.stderr)


def add_import_weights(commands: Any) -> None:
    parser = add_command(
        commands, "import-weights", import_weights, "turn a published network into weights"
    )
    parser.add_input(
        "--source",
        required=True,
        metavar="FILE",
        help="segmentation network of EdgeNets (ESPNetv2) or of the official DSRL, for Cityscapes "
        "or PASCAL VOC",
    )
    parser.add_output(
        "--output", type=file_named(".weights"), required=True, help=".weights file to write"
    )
    parser.add_argument(
        "--input-size",
        type=whole_number,
        nargs=2,
        metavar=("H", "W"),
        help="height and width of the network's input (default: as the name of the file says, "
        "otherwise 256 512)",
    )


def import_weights(arguments: Arguments) -> None:
    from dsrl.checkpoints.published import import_weights
    from dsrl.checkpoints.weights import save_weights

    weights = import_weights(arguments.source, arguments.input_size)
    save_weights(arguments.output, weights)
    info = weights.info
    print(
        f"{arguments.output}: {info.model.network}, {info.model.encoder_name}, upsampler "
        f"{info.model.upsampler}, {len(info.classes)} classes ({info.dataset}), input "
        f"{info.input_size[0]}x{info.input_size[1]}"
    )


def add_prune_weights(commands: Any) -> None:
    parser = add_command(
        commands, "prune-weights", prune_weights, "keep the layers that inference needs"
    )
    parser.add_input("--src-weights", required=True, help="weights or a checkpoint of any stage")
    parser.add_output("--dest-weights", required=True, help="file to write")


def prune_weights(arguments: Arguments) -> None:
    from dsrl.checkpoints.weights import load_weights, prune, save_weights

    source, target = arguments.src_weights, arguments.dest_weights
    pruned = prune(load_weights(source), str(source))
    if target.is_file() and load_weights(target).info.layers == "all":
        raise ValueError(f"{target}: has the weights of a training; choose another --dest-weights")
    save_weights(target, pruned)


def add_inspect_checkpoint(commands: Any) -> None:
    parser = add_command(
        commands,
        "inspect-checkpoint",
        inspect_checkpoint,
        "show what a PyTorch file contains",
    )
    parser.add_input("--checkpoint", required=True, metavar="FILE", help="or weights, or .cpkt")
    parser.add_argument("--json", action="store_true", help="everything but tensors, as JSON")


def inspect_checkpoint(arguments: Arguments) -> None:
    from dsrl.checkpoints.format import load_any
    from dsrl.checkpoints.inspect import summary, tree

    content = load_any(arguments.checkpoint)
    print(json.dumps(summary(content)) if arguments.json else "\n".join(tree(content)))


def add_edit_checkpoint(commands: Any) -> None:
    parser = add_command(
        commands,
        "edit-checkpoint",
        edit_checkpoint,
        "change an entry; the old file is kept as .bak",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="to change")
    parser.add_argument("--key", required=True, help="dots lead into nested entries: recipe.seed")
    parser.add_argument("--value", required=True, help="new value")
    parser.add_argument(
        "--typeof",
        choices=("str", "int", "float", "bool", "json"),
        default="str",
        help="type of the value",
    )
    parser.add_argument("--add", action="store_true", help="allow a new key")


def edit_checkpoint(arguments: Arguments) -> None:
    from dsrl.checkpoints.inspect import convert, edit

    try:
        value = convert(arguments.value, arguments.typeof)
    except ValueError as error:
        raise UsageError(str(error)) from None
    edit(arguments.checkpoint, arguments.key, value, arguments.add)


def add_print_model(commands: Any) -> None:
    parser = add_command(
        commands, "print-model", print_model, "list layers, parameters and operations of each stage"
    )
    parser.add_input("--weights", help="describe the network of this file")
    parser.add_argument("--stage", type=int, choices=STAGES, help="only this one")
    add_config(parser)
    add_settings(parser, Model, leave_out=ENCODER_START)
    add_settings(parser, Data, leave_out=("prepared_size",))


def print_model(arguments: Arguments) -> None:
    from dsrl.checkpoints.weights import load_weights
    from dsrl.data.description import load_description
    from dsrl.models.cost import describe

    stages = [arguments.stage] if arguments.stage else list(STAGES)
    if arguments.weights is not None:
        info = load_weights(arguments.weights).info
        stages = stages if arguments.stage else stages[: info.stage]
        print(describe(info.model, len(info.classes), info.input_size, stages))
        return
    settings = settings_from(arguments)
    classes = load_description(settings.data.dataset).classes
    print(describe(settings.model, len(classes), settings.data.input_size, stages))


def add_purge(commands: Any) -> None:
    parser = add_command(
        commands, "purge", purge, "remove weights, checkpoints and logs of training runs"
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("weights"), help="(default: weights)"
    )
    parser.add_argument(
        "--set-aside",
        action="store_true",
        help="only trainings that were set aside, in folders such as stage1-2026-01-31T120000",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def purge(arguments: Arguments) -> None:
    from dsrl.checkpoints.purge import find, remove

    files = find(arguments.folder, arguments.set_aside)
    if not files:
        print(f"{arguments.folder}: nothing to remove")
        return
    size = sum(path.stat().st_size for path in files) / 1e6
    print(*files, sep="\n")
    if not arguments.yes and not _agreed(f"Remove these {len(files)} files ({size:.1f} MB)?"):
        raise ValueError("nothing was removed; answer y or use --yes")
    remove(arguments.folder, files)


def _agreed(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
