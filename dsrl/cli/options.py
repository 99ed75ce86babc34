"""Options that commands share, those that stand for settings, and the parser."""

import argparse
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from dsrl.config.sections import prepared_suffix
from dsrl.config.settings import Settings, read_settings
from dsrl.config.strict import Strict, parse

Arguments = argparse.Namespace
DEFAULT_CONFIG = Path("config/config.yaml")
PREPARED = Path("data/prepared")
SYNONYMS = ("pretrained", "encoder_weights")  # either option overrides both settings


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, and knows which arguments are files."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._inputs: list[str] = []
        self._outputs: list[tuple[str, bool, tuple[str, ...]]] = []

    def add_input(self, *names: str, **options: Any) -> None:
        """Add what names files or folders that the command reads and must not overwrite."""
        self._inputs.append(self.add_argument(*names, **{"type": Path, **options}).dest)

    def add_output(
        self, *names: str, folder: bool = False, beside: tuple[str, ...] = (), **options: Any
    ) -> None:
        """Add what names a file to write, or a `folder` to write to.

        Args:
            beside: suffixes of other files that the command writes beside that file.
        """
        action = self.add_argument(*names, **{"type": Path, **options})
        self._outputs.append((action.dest, folder, beside))

    def inputs(self, arguments: Arguments) -> Iterator[Path]:
        """The files and folders that the command reads, where they are given."""
        for name in self._inputs:
            value = getattr(arguments, name)
            if value is not None:
                yield from map(Path, value if isinstance(value, list) else [value])

    def outputs(self, arguments: Arguments) -> Iterator[tuple[Path, bool]]:
        """What the command writes, where it is given; and whether it is a folder."""
        for name, folder, beside in self._outputs:
            path = getattr(arguments, name)
            if path is not None:
                yield path, folder
                yield from ((path.with_suffix(suffix), False) for suffix in beside)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class UsageError(Exception):
    """The value of an option is not valid."""


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


def add_settings(
    parser: Parser,
    *sections: type[Strict],
    leave_out: tuple[str, ...] = (),
    default: str | None = None,
) -> None:
    """Add an option for each setting of the sections: `--learning-rate` for `learning_rate`.

    Args:
        leave_out: settings without an option.
        default: what the help calls the default, if it is not that of the settings.
    """
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
                pair = "tuple" in str(field.annotation) and "..." not in str(field.annotation)
                kwargs |= {"nargs": 2} if pair else {}
            group.add_argument(
                "--" + key.replace("_", "-"),
                dest=f"{names[section]}.{key}",
                default=argparse.SUPPRESS,
                help=f"{field.description} (default: {default or field.default})".replace(
                    "%", "%%"
                ),
                **kwargs,
            )


def settings_from(arguments: Arguments) -> Settings:
    """The settings of --config, overridden by the options that were given.

    Without --config they are those of `config/config.yaml` below the current folder, which
    Snakemake reads too; without such a file, the defaults.
    """
    source = getattr(arguments, "config", None)
    if source is None and DEFAULT_CONFIG.is_file():
        source = str(DEFAULT_CONFIG)
    return override(read_settings(source), arguments)


def override(settings: Settings, arguments: Arguments) -> Settings:
    """`settings` with the values of the options that were given; they also override `stages`.

    Raises:
        UsageError: the value of an option is not valid.
    """
    values, given = settings.model_dump(exclude_unset=True), {}
    for option, other in (SYNONYMS, SYNONYMS[::-1]):
        if hasattr(arguments, f"model.{option}"):
            values.get("model", {}).pop(other, None)
    for option, value in vars(arguments).items():
        section, dot, key = option.partition(".")
        if dot:
            values.setdefault(section, {})[key] = value
            stages = values.get("stages", {}) if section == "training" else {}
            for overrides in stages.values():
                overrides.pop(key, None)
            given[option] = "--" + key.replace("_", "-")
    for key in ("seed", "description", "experiment_id"):
        if getattr(arguments, key, None) is not None:
            values[key] = getattr(arguments, key)
    try:
        return parse(Settings, values, "options")
    except ValueError as error:
        text = str(error).removeprefix("options: ")
        for setting, option in given.items():
            text = text.replace(setting, option)
        raise UsageError(text) from None


def whole_number(text: str) -> int:
    """An integer >= 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer >= 1, got {text!r}")
    return int(text)


def finite_number(text: str) -> float:
    """A number other than infinity and NaN, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return number


def file_named(suffix: str) -> Callable[[str], Path]:
    """A file to write, with this suffix, for argparse."""

    def check(text: str) -> Path:
        if Path(text).suffix != suffix:
            raise argparse.ArgumentTypeError(f"expected a name that ends in {suffix}, got {text!r}")
        return Path(text)

    return check


def add_config(parser: Parser) -> None:
    parser.add_input(
        "--config",
        type=str,
        metavar="FILE",
        help="settings: a YAML file, or a mapping in braces "
        f"(default: {DEFAULT_CONFIG}, if it exists)",
    )


def add_jobs(parser: Parser) -> None:
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=whole_number, default=cores, help="processes")


def add_dataset(parser: Parser) -> None:
    parser.add_input(
        "--dataset",
        type=str,
        required=True,
        help="demo, cityscapes, camvid, voc, or a YAML description",
    )


def add_data(parser: Parser, named_by: str) -> None:
    parser.add_input(
        "--data",
        help="folder of a prepared data set "
        f"(default: data/prepared/<data set>-<H>x<W>, with -pad for `fit: pad`, as the {named_by} "
        "say)",
    )


def data_of_settings(arguments: Arguments, settings: Settings) -> Path:
    """--data, or the prepared folder of the settings.

    Raises:
        FileNotFoundError: it does not exist.
    """
    from dsrl.data.description import load_description

    if arguments.data is not None:
        return Path(arguments.data)
    name = load_description(settings.data.dataset).name
    folder = PREPARED / f"{name}{settings.data.folder_suffix}"
    return _existing(folder, [folder])


def data_of_weights(arguments: Arguments, weights: Path) -> Path:
    """--data, or the only prepared folder of the data set that the weights were trained on; of
    several, the one of their output size and `fit`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several, and none of these.
    """
    from dsrl.checkpoints.weights import load_weights

    if arguments.data is not None:
        return Path(arguments.data)
    info = load_weights(weights).info
    height, width = info.input_size
    folder = PREPARED / f"{info.dataset}{prepared_suffix((2 * height, 2 * width), info.fit)}"
    return _existing(folder, [folder, *sorted(PREPARED.glob(f"{info.dataset}-*x*"))])


def _existing(wanted: Path, candidates: list[Path]) -> Path:
    found = [folder for folder in candidates if folder.is_dir()]
    if not found:
        raise FileNotFoundError(
            f"{wanted} does not exist; run `dsrl preprocess`, or name another folder with --data"
        )
    if wanted not in found and len(found) > 1:
        raise ValueError(f"{', '.join(map(str, found))}: choose one with --data")
    return found[0]


def add_split(parser: Parser) -> None:
    parser.add_argument("--dataset-split", default="val", help="train, val or test")


def add_device(parser: Parser) -> None:
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu", "cuda"),
        default="auto",
        help="device to run on; auto: a GPU if available; cuda is another word for gpu "
        "(default: %(default)s)",
    )
