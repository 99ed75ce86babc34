"""The `dsrl` command: one subcommand per rule of the workflow and per command of the original.

Exit codes: 0 done; 2 wrong usage; 1 a failure, reported in one line on stderr; 75 (EX_TEMPFAIL) a
training that SIGTERM stopped and that resumes when the call is repeated; 130 interrupted by Ctrl-C,
after which a training resumes, too.
No command writes over one of its inputs, and that an output cannot be written is found before the
work. A command imports what it needs when it runs, so that `dsrl --help` does not wait for PyTorch.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dsrl import __version__
from dsrl.cli import data, evaluation, figures, gpus, inference, training, weights
from dsrl.cli.options import Parser, UsageError
from dsrl.system.files import check_output, keep_inputs
from dsrl.system.gpus import keep_claim
from dsrl.system.openmp import share_cores
from dsrl.system.signals import Stopped

EXTRAS = {
    "matplotlib": "train",
    "tensorboard": "train",
    "torchmetrics": "train",
}  # module -> extra of pyproject.toml


def main(argv: list[str] | None = None) -> None:
    """Run a command line and exit."""
    share_cores()
    parser = build_parser()
    arguments = parser.parse_args(argv)
    keep_claim()
    try:
        with _quiet_threads(), keep_inputs(arguments.parser.inputs(arguments)):
            for path, folder in arguments.parser.outputs(arguments):
                check_output(path, folder)
            arguments.run(arguments)
        sys.stdout.flush()
    except UsageError as error:
        arguments.parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Stopped as stopped:
        print(f"dsrl {arguments.command}: {stopped}", file=sys.stderr)
        sys.exit(stopped.exit_code)
    except Exception as error:  # a bug too is reported in one line; --debug shows where
        if arguments.debug:
            raise
        sys.exit(f"dsrl {arguments.command}: {_explain(error)}")


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Do not print failed writes of threads: TensorBoard raises them again in the main thread,
    which reports them in one line."""
    before = threading.excepthook

    def report(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, OSError):
            before(arguments)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before


def _explain(error: Exception) -> str:
    """One line about an error, beginning with the file that it is about, if there is one."""
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"{error.name} is not installed; run `pip install 'dsrl[{EXTRAS[error.name]}]'`"
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    text = " ".join(text.split())
    if isinstance(error, (OSError, ValueError)):
        return text
    return f"{type(error).__name__}: {text}; add --debug for the traceback"


def build_parser() -> Parser:
    """The parser of all subcommands."""
    parser = Parser(prog="dsrl", description="Dual Super-Resolution Learning for Segmentation.")
    parser.add_argument("--version", action="version", version=f"dsrl {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    for module in (data, training, weights, evaluation, figures, inference, gpus):
        module.add_commands(commands)
    return parser
