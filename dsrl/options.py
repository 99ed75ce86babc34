"""Options of the command line that stand for settings, and the parser they belong to."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from dsrl.config import Settings, Strict, parse, read_settings

Arguments = argparse.Namespace


class Parser(argparse.ArgumentParser):
    """A parser whose complaints take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class UsageError(Exception):
    """An option has a value that cannot be."""


def add_command(commands: Any, name: str, run: Callable[[Arguments], None], text: str) -> Parser:
    """Add a subcommand with the options that all have."""
    parser: Parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_settings(parser: Parser, *sections: type[Strict], leave_out: tuple[str, ...] = ()) -> None:
    """Add an option for each setting of the sections: `--learning-rate` for `learning_rate`."""
    names = {field.annotation: name for name, field in Settings.model_fields.items()}
    for section in sections:
        group = parser.add_argument_group(f"{names[section]} settings")
        for key, field in section.model_fields.items():
            if key in leave_out:
                continue
            kwargs: dict[str, Any] = {}
            if field.annotation is bool:
                kwargs["action"] = argparse.BooleanOptionalAction
            else:
                kwargs["metavar"] = key.rpartition("_")[2].upper()
                pair = "tuple" in str(field.annotation)
                kwargs |= {"nargs": 2} if pair else {}
            group.add_argument(
                "--" + key.replace("_", "-"),
                dest=f"{names[section]}.{key}",
                default=argparse.SUPPRESS,
                help=f"{field.description} (default: {field.default})".replace("%", "%%"),
                **kwargs,
            )


def settings_from(arguments: Arguments, stage: int | None = None) -> Settings:
    """The settings of --config, overridden by the options that were given."""
    settings = read_settings(getattr(arguments, "config", None))
    values = settings.model_dump()
    if stage is not None:
        values |= {"training": settings.training_of(stage).model_dump(), "stages": {}}
    for option, value in vars(arguments).items():
        section, dot, key = option.partition(".")
        if dot:
            values[section][key] = value
    if getattr(arguments, "seed", None) is not None:
        values["seed"] = arguments.seed
    try:
        return parse(Settings, values, "options")
    except ValueError as error:
        raise UsageError(str(error)) from None
