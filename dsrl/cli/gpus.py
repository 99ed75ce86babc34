"""Commands about GPUs: with-gpus."""

import argparse
import os
import shutil
from typing import Any

from dsrl.cli.options import Arguments, add_command, whole_number
from dsrl.system.gpus import claim_gpus


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    parser = add_command(
        commands, "with-gpus", with_gpus, "wait for free GPUs and run a program on them"
    )
    parser.add_argument("count", type=whole_number, help="number of GPUs")
    parser.add_argument(
        "program", nargs=argparse.REMAINDER, help="program to run, with CUDA_VISIBLE_DEVICES set"
    )


def with_gpus(arguments: Arguments) -> None:
    if not arguments.program:
        arguments.parser.error("expected a program to run")
    if shutil.which(arguments.program[0]) is None:
        raise FileNotFoundError(f"{arguments.program[0]}: no such program")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(claim_gpus(arguments.count))
    # The program replaces this process, so signals and the exit code reach it directly.
    os.execvp(arguments.program[0], arguments.program)
