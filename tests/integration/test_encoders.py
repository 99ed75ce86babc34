"""Trained encoders in the workflow: fetched where Snakemake runs, and never by a training."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from pipeline import STAGE_1, dry_run, jobs, snakemake

from dsrl.checkpoints.weights import load_weights

NAME = "mobilenetv3_small_050"
FILE = f"data/encoders/{NAME}.pth"
PRETRAINED = ("--config", "encoder_weights=pretrained")


def encoder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    torch.save(timm.create_model(NAME).state_dict(), path)
    return path


def inputs(output: str, stage: int) -> str:
    """Of the training of a stage, in what a dry run prints."""
    found = re.search(rf"^rule train:\n    input: (.*)\n    output: .*stage{stage}/", output, re.M)
    assert found is not None
    return found[1]


def test_an_encoder_is_an_input_of_the_stages_that_start_from_it(tmp_path: Path) -> None:
    output = dry_run(tmp_path, *PRETRAINED)
    assert jobs(output)["encoder"] == 1
    assert [FILE in inputs(output, stage) for stage in (1, 2, 3)] == [True, False, False]
    output = dry_run(tmp_path, *PRETRAINED, "init=encoder")
    assert [FILE in inputs(output, stage) for stage in (1, 2, 3)] == [True, True, True]
    assert "encoder" not in jobs(dry_run(tmp_path))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".weights"])
def test_a_file_that_is_there_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.with_suffix(suffix).touch()
    output = dry_run(tmp_path, "--forceall", *PRETRAINED)
    assert "encoder" not in jobs(output)
    assert f"data/encoders/{NAME}{suffix}" in inputs(output, 1)


def test_a_file_that_the_config_names(finished: Path, tmp_path: Path) -> None:
    """A space in its name is no matter."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, copy_function=shutil.copy2)
    call = ("--config", "encoder_weights=my encoder.pth", "--", STAGE_1)
    told = dry_run(folder, *call, fails=True).strip().splitlines()
    assert told[-1] == "my encoder.pth: no such file, named by model.encoder_weights"
    path = encoder(folder / "my encoder.pth")
    assert jobs(snakemake(folder, *call)) == {"settings": 1, "train 1": 1}
    log = folder / "logs/tiny/train_stage1.log"
    assert log.read_text().startswith(
        "my encoder.pth: 206 of 206 encoder layers matched; 4 entries"
    )
    # Moving it trains nothing again: the training is of the same file.
    before = load_weights(folder / STAGE_1)
    path.rename(folder / "moved.pth")
    assert jobs(snakemake(folder, "--config", "encoder_weights=moved.pth", "--", STAGE_1)) == {
        "train 1": 1
    }
    assert "this training is finished" in log.read_text()
    assert load_weights(folder / STAGE_1).info == before.info
    assert len(list((folder / "results/tiny").glob("stage1-*"))) == 1  # from random weights


def test_a_training_needs_no_network(prepared: Path, tmp_path: Path) -> None:
    """As on a compute node, where there is no internet: the encoder was fetched before."""
    unshare = shutil.which("unshare")
    cut = [str(unshare), "--net", "--map-root-user"]
    if (
        unshare is None
        or subprocess.run([*cut, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("unshare, which cuts the network, is missing or not permitted")
    encoder(tmp_path / FILE)
    config = f"{{encoder: {NAME}, decoder_channels: 16, input_size: [32, 64]}}"
    line = [
        *(sys.executable, "-m", "dsrl", "train", "--stage", "1", "--data", str(prepared)),
        *("--config", config, "--encoder-weights", "pretrained", "--epochs", "1"),
        *("--batch-size", "4", "--device", "cpu", "--num-workers", "0", "--output", "stage1"),
    ]

    def run() -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.run(
            [*cut, *line], capture_output=True, text=True, cwd=tmp_path, env=environment,
            timeout=120, check=False,
        )  # fmt: skip

    done = run()
    assert done.returncode == 0, done.stderr
    assert f"{FILE}: 206 of 206 encoder layers matched" in done.stderr
    assert (tmp_path / "stage1/final.weights").is_file()
    (tmp_path / FILE).unlink()
    shutil.rmtree(tmp_path / "stage1")
    done = run()
    assert done.stderr == (
        f"dsrl train: {FILE} is missing; run `dsrl fetch-encoder {NAME}` where there is internet "
        "access\n"
    )
    assert done.returncode == 1 and not (tmp_path / "stage1").exists()
