"""The example calls of the original README, as they stand there, with `dsrl` for `python main.py`.

They run in a folder with a tiny config and data set, in this process, and one of them in a shell.
Where there is no GPU, a call with `--device gpu` must say so, and is then repeated with `--device
cpu`.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from training import final_layers, same, train

ROOT = Path(__file__).parents[2]

TRAIN = (
    'dsrl train --stage 1 --description "Stage 1 training" --epochs 200 --batch-size 6 '
    "--device gpu --checkpoint-history 40 --num-workers 4 --val-interval 5"
)
RESUME = "dsrl resume-train --checkpoint ./weights/checkpoints/epoch50.checkpoint"
TEST = (
    "dsrl test --image-file ~/Pictures/input.jpg --weights ./weights/stage3/final.weights "
    "--device gpu"
)
PRUNE = (
    "dsrl prune-weights --src-weights ./weights/stage3/checkpoints/epoch50.checkpoint "
    "--dest-weights ./output/inference.weights"
)
INSPECT = "dsrl inspect-checkpoint --checkpoint ./weights/stage2/checkpoints/epoch20.checkpoint"
EDIT = (
    "dsrl edit-checkpoint --checkpoint ./weights/stage2/test.checkpoint --key device --value cpu "
    "--typeof str"
)
BENCHMARK = (
    "dsrl benchmark --weights ./weights/stage3/final.weights --dataset-split test --device gpu"
)


@pytest.fixture
def home(
    tmp_path: Path, prepared: Path, trained: dict[int, Path], tiny_settings, monkeypatch
) -> Path:
    """A folder with a config, prepared data and weights of all stages, and a picture in ~."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    config = tmp_path / "config" / "config.yaml"
    config.parent.mkdir()
    config.write_text(json.dumps(tiny_settings().model_dump(mode="json")))
    shutil.copytree(prepared, tmp_path / "data/prepared/demo-64x128")
    for stage, folder in trained.items():
        shutil.copytree(folder, tmp_path / f"weights/stage{stage}")
    picture = tmp_path / "home/Pictures/input.jpg"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (60, 40), "gray").save(picture)
    return tmp_path


@pytest.fixture
def call(dsrl):
    """Run a call and return what it printed; see the module for `--device gpu`."""

    def run(line: str) -> str:
        program, *words = shlex.split(line)
        assert program == "dsrl"
        code, out, err = dsrl(*(word.replace("~", os.environ["HOME"]) for word in words))
        if "--device gpu" in line and not torch.cuda.is_available():
            assert code == 1
            assert "--device gpu: no CUDA device is visible; use --device cpu" in err
            return run(line.replace("--device gpu", "--device cpu"))
        assert code == 0, err
        return out

    return run


@pytest.mark.slow
def test_train(home: Path, call) -> None:
    shutil.rmtree("weights")
    call(TRAIN)
    names = {path.name for path in (home / "weights/stage1/checkpoints").iterdir()}
    assert names == {f"epoch{epoch}.checkpoint" for epoch in range(161, 201)}
    history = (home / "weights/stage1/history.csv").read_text().splitlines()
    assert len(history) == 201
    validated = history[0].split(",").index("val_mean_iou")
    assert [bool(row.split(",")[validated]) for row in history[1:]] == 40 * [*4 * [False], True]
    content = torch.load("weights/stage1/final.weights", weights_only=True)
    assert content["description"] == "Stage 1 training"


def test_resume_train(home: Path, call, prepared: Path, tiny_settings, trained) -> None:
    shutil.rmtree("weights")
    train(tiny_settings(checkpoint_history=2), 1, prepared, Path("weights"))
    Path("weights/final.weights").unlink()
    first = Path("weights/checkpoints/epoch1.checkpoint")
    first.rename(first.with_name("epoch50.checkpoint"))
    call(RESUME)
    assert same(final_layers(Path("weights")), final_layers(trained[1]))


def test_test_in_a_shell(home: Path, monkeypatch) -> None:
    """With the program on PATH and a `~`."""
    programs = home / "bin"
    programs.mkdir()
    (programs / "dsrl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dsrl "$@"\n')
    (programs / "dsrl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    line = TEST if torch.cuda.is_available() else TEST.replace("--device gpu", "--device cpu")
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open("outputs/input.png") as picture:
        assert picture.width > 3 * 60


def test_prune_weights(home: Path, call) -> None:
    checkpoints = home / "weights/stage3/checkpoints"
    (checkpoints / "epoch2.checkpoint").rename(checkpoints / "epoch50.checkpoint")
    call(PRUNE)
    content = torch.load("output/inference.weights", weights_only=True)
    assert content["layers"] == "inference"
    assert not any(name.startswith(("sisr", "fa_")) for name in content["state_dict"])


def test_inspect_checkpoint(home: Path, call) -> None:
    checkpoints = home / "weights/stage2/checkpoints"
    (checkpoints / "epoch2.checkpoint").rename(checkpoints / "epoch20.checkpoint")
    output = call(INSPECT)
    assert "optimizer:" in output and "device: cpu" in output


def test_edit_checkpoint(home: Path, call) -> None:
    source = home / "weights/stage2/checkpoints/epoch2.checkpoint"
    state = torch.load(source, weights_only=True)
    state["resources"]["device"] = "gpu"
    torch.save(state, "weights/stage2/test.checkpoint")
    call(EDIT)
    edited = torch.load("weights/stage2/test.checkpoint", weights_only=True)
    assert edited["resources"]["device"] == "cpu"
    assert Path("weights/stage2/test.checkpoint.bak").is_file()


def test_benchmark(home: Path, call, dsrl) -> None:
    """Test labels are not public: the call says how to get a score all the same."""
    line = BENCHMARK
    if not torch.cuda.is_available():
        code, _, err = dsrl(*shlex.split(line)[1:])
        assert code == 1 and "no CUDA device is visible" in err
        line = line.replace("--device gpu", "--device cpu")
    code, _, err = dsrl(*shlex.split(line)[1:])
    assert code == 1 and err.count("\n") == 1
    suggested = err.split("`")[1].replace("DIR", "outputs/predictions")
    assert "--format cityscapes" in suggested
    call(suggested)
    assert len(list(Path("outputs/predictions").glob("*_pred.png"))) == 4
    # and where there are labels, the table is where the README says
    call(line.replace("split test", "split val"))
    assert "SSSR+SISR+FA" in Path("outputs/benchmark.txt").read_text()


def test_later_stages_find_the_one_before(home: Path, call) -> None:
    shutil.rmtree("weights/stage2")
    call("dsrl train --stage 2 --epochs 1 --device cpu")
    assert Path("weights/stage2/final.weights").is_file()
