"""Commands about the files that training leaves: prune-weights, inspect- and edit-checkpoint,
print-model, purge."""

from pathlib import Path
from typing import Any

from dsrl.options import Arguments, add_command


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_prune_weights(commands)


def add_prune_weights(commands: Any) -> None:
    parser = add_command(
        commands, "prune-weights", prune_weights, "keep the layers that inference needs"
    )
    parser.add_argument(
        "--src-weights", type=Path, required=True, help="weights or a checkpoint of any stage"
    )
    parser.add_argument("--dest-weights", type=Path, required=True, help="file to write")


def prune_weights(arguments: Arguments) -> None:
    from dsrl.training.weights import load_weights, prune, save_weights

    source = arguments.src_weights
    save_weights(arguments.dest_weights, prune(load_weights(source), str(source)))
