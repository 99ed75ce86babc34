"""No command writes over one of its inputs, by whatever name, and nothing is written before that is
known.

Inputs and outputs are read off the parser, so that a command that does not declare them fails.
"""

import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from shared import snapshot

from dsrl.cli.main import build_parser

PARSERS = build_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]

# A training never replaces another: see tests/unit/training/test_resume.py.
TRAININGS = {"train", "resume-train"}

# What a command changes or removes on purpose.
CHANGED = {("resume-train", "checkpoint"), ("edit-checkpoint", "checkpoint"), ("purge", "folder")}

# A call of each command that has inputs and an output, and the files that it writes or, in a
# folder, replaces. The words IN-... are inputs, OUT is the folder of the output.
CALLS = {
    "demo-data": ("--config IN-c --train-images 1 --output OUT", "gtFine_trainvaltest.zip"),
    "download": ("--dataset IN-d OUT/x.zip", "x.zip"),
    "unpack": ("--output OUT IN-1 IN-2", "below/replaced"),
    "describe": ("IN-r --output OUT/x.yaml", "x.yaml"),
    "preprocess": (
        "--dataset demo --raw IN-r --size 8 8 --output OUT",
        "train/below/replaced",
    ),
    "fetch-encoder": ("--config IN-c --output OUT/x.pth resnet18", "x.pth"),
    "import-weights": ("--source IN-w --output OUT/x.weights", "x.weights"),
    "prune-weights": ("--src-weights IN-w --dest-weights OUT/x.weights", "x.weights"),
    "benchmark": (
        "--weights IN-w --data IN-data --class-map IN-m --output OUT/x.txt",
        "x.txt x.csv x.confusion.csv x.images.csv",
    ),
    "table": ("IN-1 IN-2 --output OUT/x.txt", "x.txt x.csv"),
    "plot-examples": (
        "IN-1 IN-2 --data IN-data --class-map IN-m --worst IN-s --output OUT/x.png",
        "x.png",
    ),
    "plot-curves": ("IN-1 IN-2 --output OUT/x.png", "x.png"),
    "plot-classes": ("IN-1 --output OUT/x.svg", "x.svg"),
    "plot-sweep": ("IN-1 --output OUT/x.png", "x.png"),
    "plot-confusion": ("IN-1 IN-2 --output OUT/x.png", "x.png"),
    "plot-super-resolution": ("IN-1 IN-2 --data IN-data --output OUT/x.png", "x.png x.csv"),
    "plot-affinity": ("IN-1 IN-2 --data IN-data --output OUT/x.png", "x.png"),
    "test": ("--image-file IN-i --weights IN-w --output OUT/x.png", "x.png"),
    "predict": ("--weights IN-w --output OUT street.png", "street.png"),
    "export": ("--weights IN-w --output OUT/x.pt2", "x.pt2"),
}


def cases() -> Iterator[tuple[str, str, str, str]]:
    for command, (line, files) in CALLS.items():
        for word in line.split():
            for file in files.split() if word.startswith("IN-") else ():
                # Another name of a file in a folder that is replaced keeps its content.
                for name in ("same", "symbolic", *["hard"] * ("replaced" not in file)):
                    yield command, word, file, name


def test_every_path_is_an_input_or_an_output():
    both = set()
    for command, parser in PARSERS.items():
        inputs, outputs = set(parser._inputs), {name for name, *_ in parser._outputs}
        for action in parser._actions:
            if action.type is Path and (command, action.dest) not in CHANGED:
                assert action.dest in inputs | outputs, f"{command} {action.dest}"
        if inputs and outputs:
            both.add(command)
    assert both - TRAININGS == CALLS.keys(), "a command lacks a call above"


@pytest.mark.parametrize(("command", "word", "file", "name"), list(cases()))
def test_an_input_in_the_way_of_an_output_is_kept(
    dsrl, tmp_path, monkeypatch, command, word, file, name
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("street.png")
    path, other = Path("folder/out", file), Path("other")
    path.parent.mkdir(parents=True)
    if word == "IN-c":
        path.write_text("seed: 1\n")
    else:  # enough for the commands that read it before
        zipfile.ZipFile(path, "w").close()
    if name == "hard":
        os.link(path, other)
    elif name == "symbolic":
        other.symlink_to(path.absolute())
    Path("IN-c").write_text("seed: 2\n")
    for archive in ("IN-1", "IN-2"):
        zipfile.ZipFile(archive, "w").close()
    Path("folder/below").mkdir()
    source = "folder/below/../out/" + file if name == "same" else str(other)
    before = snapshot(tmp_path)
    words = [source if each == word else each for each in CALLS[command][0].split()]
    code, out, err = dsrl(command, *(each.replace("OUT", "folder/out") for each in words))
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert re.search("would overwrite the input|is not a prepared split|exists; choose", err)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("replaced", ["raw", "raw/leftImg8bit"])
def test_a_folder_of_images_is_not_replaced(dsrl, tmp_path, monkeypatch, replaced):
    monkeypatch.chdir(tmp_path)
    for folder in ("raw/val", "raw/leftImg8bit/val"):
        Path(folder).mkdir(parents=True)
        Path(folder, "a.png").touch()
    before = snapshot(tmp_path)
    words = ["--dataset", "demo", "--raw", "raw", "--dataset-split", "val", "--size", 8, 8]
    code, _, err = dsrl("preprocess", *words, "--output", replaced)
    assert (code, err.count("\n")) == (1, 1) and f"{replaced}/val exists and is not" in err
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["final.weights", "checkpoints/epoch2.checkpoint"])
def test_a_stage_is_not_trained_over_the_one_that_it_starts_from(
    dsrl, tmp_path, trained, prepared, name
):
    folder = tmp_path / "stage"
    shutil.copytree(trained[1], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    code, _, err = dsrl(
        *("train", "--stage", 2, "--data", prepared, "--device", "cpu", "--input-size", 32, 64),
        *("--init-weights", folder / name, "--output", folder),
        *("--encoder", "mobilenetv3_small_050", "--decoder-channels", 16, "--batch-size", 4),
    )
    assert code == 1 and err.splitlines()[-1].startswith(f"dsrl train: {folder}"), err
    assert "choose another --output" in err
    assert {path: path.read_bytes() for path in before} == before
