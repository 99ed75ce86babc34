"""The real DAG on a tiny generated data set: from archives to the table, killed and resumed."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from pipeline import ROOT, command, jobs, snakemake


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, with a space in its name, in which the workflow has run."""
    folder = tmp_path_factory.mktemp("a run")
    snakemake(folder)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished folder, to be spoilt; Snakemake sees it unchanged."""
    target = tmp_path / "a copy"
    shutil.copytree(finished, target, copy_function=shutil.copy2)
    return target


def weights_path(folder: Path, stage: int) -> Path:
    return folder / f"results/tiny/stage{stage}/final.weights"


def final_weights(folder: Path, stage: int) -> dict[str, torch.Tensor]:
    return torch.load(weights_path(folder, stage), weights_only=True)["state_dict"]


def test_table_has_a_row_for_each_stage(finished: Path) -> None:
    text = (finished / "results/benchmark.txt").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| SSSR")]
    assert rows == ["SSSR", "SSSR+SISR", "SSSR+SISR+FA"]
    assert "Baseline: predicting" in text
    table = pd.read_csv(finished / "results/benchmark.csv")
    assert ((table.mean_iou > 0) & (table.mean_iou < 1)).all()
    assert table.parameters.nunique() == 1, "only the SSSR path is run at inference"


def test_table_agrees_with_history(finished: Path) -> None:
    table = pd.read_csv(finished / "results/benchmark.csv")
    for stage in (1, 2, 3):
        history = pd.read_csv(finished / f"results/tiny/stage{stage}/history.csv")
        best = history.loc[history.val_mean_iou.idxmax()]
        row = table.iloc[stage - 1]
        assert row.best_epoch == best.epoch
        assert row.mean_iou == pytest.approx(best.val_mean_iou, abs=1e-6)


def test_pictures_are_made(finished: Path) -> None:
    for name in ("examples", "curves"):
        with Image.open(finished / f"results/tiny/{name}.png") as picture:
            assert picture.width > 300
            assert len(picture.convert("RGB").getcolors(2**24)) > 50


def test_second_run_does_nothing(finished: Path) -> None:
    assert "Nothing to be done" in snakemake(finished)


REPORTED = {"table": 1, "results": 1, "classes": 1, "all": 1}


def retrained(first: int, *before: str) -> dict[str, int]:
    """The jobs that follow when the stages from `first` on are trained again."""
    stages = [job for k in range(first, 4) for job in (f"train {k}", f"benchmark {k}")]
    names = [*before, *stages, "prune", "examples", "curves", *REPORTED]
    return dict.fromkeys(names, 1)


PREPARED = {"preprocess": 1, "preprocess_train": 1}
PREPARED_TEST = {"preprocess": 1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("demo_seed=1", retrained(1, "demo_data", "unpack") | PREPARED),
        ("prepared_size=[96, 192]", retrained(1) | PREPARED),
        ("learning_rate=0.04", retrained(1)),
        ("hue=0.0", retrained(1)),
        ("seed=1", retrained(1)),
        ("stages={1: {epochs: 1}}", retrained(1)),
        ("w1=0.2", retrained(2)),
        ("init=encoder", retrained(2)),
        ("stages={2: {epochs: 1}}", retrained(2)),
        ("w2=0.5", retrained(3)),
        ("loss={fa_detach: super_resolution}", retrained(3)),
        ("splits=[val, test]", {f"benchmark {s}": 1 for s in (1, 2, 3)} | REPORTED | PREPARED_TEST),
        ("latency_runs=2", {f"benchmark {stage}": 1 for stage in (1, 2, 3)} | REPORTED),
        ("examples=1", {"examples": 1, "all": 1}),
        ("device=cpu", {}),
        ("gpus_per_job=1", {}),
        ("description=any", {}),
        ("checkpoint_history=3", {}),
    ],
)
def test_only_what_depends_on_a_setting_is_repeated(
    finished: Path, change: str, expected: dict[str, int]
) -> None:
    assert jobs(snakemake(finished, "--dry-run", "--config", change)) == expected


def test_changed_stage_3_setting_retrains_stage_3_only(copy: Path) -> None:
    before = {stage: final_weights(copy, stage) for stage in (1, 2, 3)}
    stamps = {stage: weights_path(copy, stage).stat().st_mtime_ns for stage in (1, 2)}
    output = snakemake(copy, "--config", "w2=0.5")
    assert jobs(output) == retrained(3)
    for stage in (1, 2):
        assert weights_path(copy, stage).stat().st_mtime_ns == stamps[stage]
    after = final_weights(copy, 3)
    assert any(not torch.equal(after[name], layer) for name, layer in before[3].items())


def test_killed_training_goes_on_to_the_same_weights(finished: Path, copy: Path) -> None:
    """kill -9 of the workflow and of the training it runs, in the middle of stage 2."""
    shutil.rmtree(copy / "results/tiny")
    checkpoint = copy / "results/tiny/stage2/checkpoints/latest"
    running = subprocess.Popen(
        command(copy), stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert checkpoint.exists(), "stage 2 had no checkpoint within two minutes"
    assert not weights_path(copy, 2).exists(), "stage 2 ended before it could be killed"
    snakemake(copy, "--unlock")
    snakemake(copy)
    assert "Resumed after epoch" in (copy / "logs/tiny/train_stage2.log").read_text()
    for stage in (1, 2, 3):
        resumed, undisturbed = final_weights(copy, stage), final_weights(finished, stage)
        assert all(torch.equal(resumed[name], layer) for name, layer in undisturbed.items())


def test_failing_rule_keeps_what_is_finished(copy: Path) -> None:
    """A stage that cannot be trained fails with its reason in the log; stages before it stay."""
    done = subprocess.run(
        command(copy, "--config", "stages={2: {batch_size: 64}}"),
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    log = (copy / "logs/tiny/train_stage2.log").read_text()
    assert log.strip() == "dsrl train: batch_size 64 is more than the 8 training images"
    assert log in done.stdout + done.stderr
    assert weights_path(copy, 1).exists()
    assert jobs(snakemake(copy, "--dry-run")) == retrained(2), "the rerun does what is missing"


def test_misspelt_key_is_named_with_its_neighbour(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--dry-run", "--config", "training={epoch: 3}"),
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        "unknown key 'training.epoch'; did you mean 'training.epochs'?" in done.stdout + done.stderr
    )


def test_missing_archive_says_which_and_where(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--dry-run", "--config", "dataset=cityscapes"),
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "data/archives/leftImg8bit_trainvaltest.zip" in done.stdout + done.stderr
    assert "cityscapes-dataset.com" in done.stdout + done.stderr
