"""What runs again in a folder in which the workflow has run: after a change, a failure, a kill."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from pipeline import FIGURES, ROOT, command, dry_run, jobs, snakemake, weights_path
from training import assert_same_training

from dsrl.checkpoints.format import write
from dsrl.checkpoints.weights import load_weights

REPORTED = {"table": 1, "results": 1, "classes": 1, "all": 1}


def retrained(first: int, *before: str) -> dict[str, int]:
    """The jobs that follow when the stages from `first` on are trained again."""
    stages = [job for k in range(first, 4) for job in (f"train {k}", f"benchmark {k}")]
    names = [*before, "settings", *stages, "prune", *FIGURES, *REPORTED]
    return dict.fromkeys(names, 1)


# Another split, and anew the one that is scored already.
BENCHMARKED_TWICE = {f"benchmark {stage}": 2 for stage in (1, 2, 3)} | {"preprocess": 1}
BENCHMARKED_TWICE |= {"worst": 1, "confusion": 1}  # of the first split
IMAGES_SHOWN = dict.fromkeys(("examples", "worst", "super_resolution", "affinity"), 1)


# Which setting concerns the training of which stage: tests/unit/config/test_settings.py.
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["demo_seed=1"], retrained(1, "demo_data", "unpack", "preprocess", "preprocess_train")),
        (["fit=pad"], retrained(1, "preprocess", "preprocess_train") | {"settings": 3}),
        (["w2=0.5", "stages={3: {epochs: 2}}"], retrained(3)),
        (["splits=[val, test]", "latency_runs=2"], REPORTED | BENCHMARKED_TWICE),
        (["examples=1"], IMAGES_SHOWN | {"results": 1, "all": 1}),
        (["device=cpu", "gpus_per_job=1", "checkpoint_history=3", "description=any"], {}),
    ],
    ids=["data", "fit", "stage 3", "benchmark", "report", "resources and texts"],
)
def test_only_what_depends_on_a_setting_is_repeated(
    finished: Path, changes: list[str], expected: dict[str, int]
) -> None:
    assert jobs(dry_run(finished, "--config", *changes)) == expected


def test_a_changed_setting_says_before_it_starts_what_it_trains_again(finished: Path) -> None:
    output = dry_run(finished, "--config", "w2=0.5")
    told = "results/tiny/stage3: was trained with other settings (w2: 1.0 there, 0.5 here); "
    assert told in output
    assert "; it took " in output and "is kept as results/tiny/stage3-<date>" in output
    first = dry_run(finished, "--config", "learning_rate=0.5")
    assert "results/tiny/stage1: was trained" in first and ", with those after it" in first
    assert "was trained with" not in dry_run(finished, "--config", "examples=1")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished folder, to be spoilt; Snakemake sees it unchanged."""
    target = tmp_path / "a copy"
    shutil.copytree(finished, target, copy_function=shutil.copy2)
    return target


def test_changed_data_is_made_again_in_the_same_place(copy: Path) -> None:
    """The commands refuse to replace what is there; Snakemake removes what it has made itself."""
    target = copy / "data/prepared/demo-64x128/val/manifest.json"
    before = target.read_bytes()
    output = snakemake(copy, "--config", "demo_seed=1", "--", str(target.relative_to(copy)))
    assert jobs(output) == {"settings": 1, "demo_data": 1, "unpack": 1, "preprocess": 1}
    assert target.read_bytes() != before


def same_weights(folder: Path, other: Path, stage: int) -> bool:
    found, expected = (load_weights(weights_path(place, stage)).layers for place in (folder, other))
    return all(torch.equal(found[name], layer) for name, layer in expected.items())


def test_changed_stage_3_setting_retrains_stage_3_only(finished: Path, copy: Path) -> None:
    stamps = {stage: weights_path(copy, stage).stat().st_mtime_ns for stage in (1, 2)}
    target = str(weights_path(copy, 3).relative_to(copy))
    output = snakemake(copy, "--config", "w2=0.5", "--", target)
    assert jobs(output) == {"settings": 1, "train 3": 1}
    for stage, stamp in stamps.items():
        assert weights_path(copy, stage).stat().st_mtime_ns == stamp
    assert not same_weights(copy, finished, 3)
    # What was there is whole, though Snakemake deletes outputs before it runs their rule.
    (aside,) = (copy / "results/tiny").glob("stage3-*")
    log = (copy / "logs/tiny/train_stage3.log").read_text()
    assert f"(w2: 1.0 there, 0.5 here) is now in {aside}" in log
    assert_same_training(aside, finished / "results/tiny/stage3")
    # Back to the setting before: it is trained again, to the same weights.
    assert jobs(snakemake(copy, "--", target)) == {"settings": 1, "train 3": 1}
    assert same_weights(copy, finished, 3)


def test_records_of_snakemake_are_not_needed_to_see_a_changed_setting(
    finished: Path, copy: Path
) -> None:
    """As in a project that was copied without them."""
    shutil.rmtree(copy / ".snakemake")
    assert jobs(dry_run(copy)) == {}
    assert jobs(dry_run(copy, "--config", "w2=0.5")) == retrained(3)
    assert jobs(dry_run(copy, "--config", "demo_seed=1")) == retrained(
        1, "demo_data", "unpack", "preprocess", "preprocess_train"
    )


def test_weights_that_were_trained_otherwise_are_not_scored(finished: Path, copy: Path) -> None:
    """As weights that somebody put there."""
    content = torch.load(weights_path(copy, 1), weights_only=True)
    content["provenance"]["recipe"]["seed"] = 77
    write(weights_path(copy, 1), content)
    told = snakemake(copy, "--", "results/tiny/stage1/benchmark-val.txt", fails=True)
    path = "results/tiny/stage1/final.weights"
    assert f"{path}: was trained with other settings (seed: 77 there, 0 here); remove" in told


def test_killed_training_goes_on_to_the_same_weights(finished: Path, copy: Path) -> None:
    """kill -9 of the workflow and of the training it runs, in the middle of stage 2."""
    shutil.rmtree(copy / "results/tiny/stage2")
    weights = weights_path(copy, 2)
    line = command(copy, "--", str(weights.relative_to(copy)))
    checkpoint = weights.parent / "checkpoints/epoch1.checkpoint"
    running = subprocess.Popen(line, stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert checkpoint.exists(), "stage 2 had no checkpoint within two minutes"
    assert not weights.exists(), "stage 2 ended before it could be killed"
    snakemake(copy, "--unlock")
    assert jobs(snakemake(copy, "--", str(weights.relative_to(copy)))) == {"train 2": 1}
    assert "Resumed after epoch" in (copy / "logs/tiny/train_stage2.log").read_text()
    assert same_weights(copy, finished, 2)


def test_failing_rule_keeps_what_is_finished(copy: Path) -> None:
    """A stage that cannot be trained fails with its reason in the log; stages before it stay."""
    told = snakemake(copy, "--config", "stages={2: {batch_size: 64}}", fails=True)
    log = (copy / "logs/tiny/train_stage2.log").read_text()
    assert log.strip() == "dsrl train: batch_size 64 is larger than the 8 training images"
    assert log in told
    assert weights_path(copy, 1).exists()
    assert jobs(dry_run(copy)) == retrained(2), "the rerun does what is missing"
