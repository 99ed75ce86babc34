"""The `dsrl` command: one subcommand per rule of the workflow and per command of the original.

Exit codes: 0 done; 2 wrong usage; 1 a failure, told in one line on stderr; 75 (EX_TEMPFAIL) a
training that SIGTERM stopped and that goes on when the call is repeated; 130 interrupted by Ctrl-C.
What a command needs is imported when it is called, so that `dsrl --help` does not wait for PyTorch.
"""

import sys

from dsrl import __version__
from dsrl.commands import data, devices, evaluation, inference, training, weights
from dsrl.options import Parser, UsageError
from dsrl.training.interrupt import Stopped


def main(argv: list[str] | None = None) -> None:
    """Run a command line and exit."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except UsageError as error:
        arguments.parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Stopped as stopped:
        print(f"dsrl {arguments.command}: {stopped}", file=sys.stderr)
        sys.exit(Stopped.exit_code)
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
    for module in (data, training, weights, evaluation, inference, devices):
        module.add_commands(commands)
    return parser
