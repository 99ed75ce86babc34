"""A training that was stopped, wherever, ends with the bits of an undisturbed one."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from training import (
    assert_same_training,
    before_each,
    epochs_resumed,
    history,
    interrupt,
    resume,
    train,
)

from dsrl.checkpoints import checkpoint
from dsrl.checkpoints.checkpoint import load_checkpoint
from dsrl.checkpoints.format import write
from dsrl.checkpoints.inspect import edit
from dsrl.checkpoints.weights import save_weights
from dsrl.data.dataset import PreparedSplit
from dsrl.system.signals import Stopped

KILLED = """
import os, signal, sys
from pathlib import Path
import pytest
from dsrl.config.settings import read_settings
from training import before_each, train
def kill(step):
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
before_each(pytest.MonkeyPatch(), "step", kill)
settings, data, output, previous = sys.argv[1:]
train(read_settings(settings), 3, Path(data), Path(output), Path(previous))
"""


@pytest.mark.parametrize("step", [1, 3, 4])  # of two an epoch
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    prepared, tiny_settings, trained, tmp_path, monkeypatch, step
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, step)
        train(tiny_settings(), 1, prepared, tmp_path)
    assert not (tmp_path / "final.weights").exists()
    epochs = epochs_resumed(tiny_settings(), 1, prepared, tmp_path)
    assert epochs == (step - 1) // 2, "only finished epochs are kept"
    torch.rand(step)
    train(tiny_settings(), 1, prepared, tmp_path)
    assert_same_training(tmp_path, trained[1])


def test_random_numbers_go_on_where_they_were(prepared, tiny_settings, tmp_path, monkeypatch):
    """Such as those of dropout, of which the tiny network has none."""
    drawn: list[float] = []
    before_each(monkeypatch, "step", lambda number: drawn.append(torch.rand(1).item()))
    train(tiny_settings(), 1, prepared, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 3)
        train(tiny_settings(), 1, prepared, tmp_path / "cut")
    train(tiny_settings(), 1, prepared, tmp_path / "cut")
    whole, cut = drawn[:4], drawn[4:]
    assert cut == whole


def test_a_killed_training_ends_as_an_undisturbed_one(prepared, tiny_settings, trained, tmp_path):
    """kill -9 in the last step of stage 3."""
    previous = trained[2] / "final.weights"
    text = tiny_settings().model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, text, prepared, tmp_path, previous],
        timeout=120,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "checkpoints" / "latest").exists()
    assert epochs_resumed(tiny_settings(), 3, prepared, tmp_path, previous) == 1
    train(tiny_settings(), 3, prepared, tmp_path, previous)
    assert_same_training(tmp_path, trained[3])


@pytest.mark.parametrize(
    ("where", "number", "workers", "name"),
    [
        ("step", 1, 0, "epoch0-step1"),
        ("step", 4, 2, "epoch1-step2"),  # 2 steps per epoch: stopped before validation
        ("step", 3, 2, "epoch1-step1"),
        ("validation", 1, 0, "epoch0-step2"),
    ],
)
def test_sigterm_leaves_a_checkpoint_that_ends_bit_identical(
    prepared, tiny_settings, trained, tmp_path, monkeypatch, where, number, workers, name
):
    def stop(n: int) -> None:
        if n == number:
            os.kill(os.getpid(), signal.SIGTERM)

    before, settings = signal.getsignal(signal.SIGTERM), tiny_settings(num_workers=workers)
    folder, copy = tmp_path / "a" / "stage1", tmp_path / "b" / "stage1"
    with monkeypatch.context() as patch:
        before_each(patch, where, stop)
        with pytest.raises(Stopped, match=name):
            train(settings, 1, prepared, folder)
    assert signal.getsignal(signal.SIGTERM) is before
    shutil.copytree(folder, copy)
    resume(folder / "checkpoints" / f"{name}.checkpoint")
    assert_same_training(folder, trained[1])
    # and by repeating the call
    train(settings, 1, prepared, copy)
    assert_same_training(copy, trained[1])


@pytest.fixture(scope="module")
def cut_once(prepared, tiny_settings, trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 3)
        train(tiny_settings(), 2, prepared, folder, trained[1] / "final.weights")
    return folder


@pytest.fixture
def cut(cut_once: Path, tmp_path: Path) -> Path:
    """The folder of a stage 2 that was interrupted after its first epoch."""
    return shutil.copytree(cut_once, tmp_path / "cut")


def test_resume_state_of_the_same_training_is_resumed(cut, prepared, tiny_settings, trained):
    # neither the unused loss weight nor the number of workers is a reason to start afresh
    settings = tiny_settings(num_workers=1, w2=0.123, experiment="renamed")
    assert epochs_resumed(settings, 2, prepared, cut, trained[1] / "final.weights") == 1


@pytest.mark.parametrize("changes", [{"w1": 0.2}, {"seed": 3}, {"epochs": 3}, {"flip": 0.4}])
def test_other_settings_discard_resume_state(cut, prepared, tiny_settings, trained, changes):
    previous = trained[1] / "final.weights"
    assert epochs_resumed(tiny_settings(**changes), 2, prepared, cut, previous) == 0
    assert list((cut / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("split", ["train", "val"])
def test_other_data_discards_resume_state(cut, prepared, tiny_settings, trained, tmp_path, split):
    data = shutil.copytree(prepared, tmp_path / "data")
    manifest = data / split / "manifest.json"
    checksum = PreparedSplit(data, split).manifest.checksums["labels.npy"]
    manifest.write_text(manifest.read_text().replace(checksum, "0" * 64))
    assert epochs_resumed(tiny_settings(), 2, data, cut, trained[1] / "final.weights") == 0


def test_other_previous_weights_discard_resume_state(
    cut, prepared, tiny_settings, make_weights, tmp_path
):
    other = tmp_path / "other.weights"
    save_weights(other, make_weights(1, seed=9))
    assert epochs_resumed(tiny_settings(), 2, prepared, cut, other) == 0


def test_a_finished_training_starts_afresh(prepared, tiny_settings, trained, tmp_path):
    folder = shutil.copytree(trained[1], tmp_path / "stage1")
    assert epochs_resumed(tiny_settings(), 1, prepared, folder) == 0


def test_resume_train_goes_on_from_the_end_of_an_epoch_without_the_initial_weights(
    prepared, tiny_settings, trained, tmp_path, capsys
):
    previous = tmp_path / "stage1" / "final.weights"
    previous.parent.mkdir()
    shutil.copy(trained[1] / "final.weights", previous)
    folder = tmp_path / "stage2"
    train(tiny_settings(checkpoint_history=2), 2, prepared, folder)
    first = folder / "checkpoints" / "epoch1.checkpoint"
    shutil.rmtree(previous.parent)
    (folder / "final.weights").unlink()
    resume(first)
    assert "Resumed after epoch 1" in capsys.readouterr().err
    assert_same_training(folder, trained[2])
    assert first.exists(), "the history of checkpoints counts the newest files"


def test_all_random_states_come_back(tmp_path):
    states = checkpoint.random_states()
    torch.save(states, tmp_path / "states")
    drawn = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    checkpoint.restore_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002


@pytest.fixture
def path(trained) -> Path:
    """A checkpoint of a finished stage 1."""
    return next((trained[1] / "checkpoints").glob("*.checkpoint"))


def test_device_entry_decides_where_a_resumed_training_runs(path, tmp_path):
    assert load_checkpoint(path).run.resources.device == "cpu"
    shutil.copy(path, tmp_path / "edited.checkpoint")
    edit(tmp_path / "edited.checkpoint", "device", "gpu", add=False)
    assert load_checkpoint(tmp_path / "edited.checkpoint").run.resources.device == "gpu"
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device is visible"):
            resume(tmp_path / "edited.checkpoint")


def changed(path: Path, folder: Path, change: Callable[[dict], object]) -> Path:
    """A copy of a checkpoint with other entries."""
    content = torch.load(path, weights_only=True)
    change(content)
    write(folder / "checkpoints" / "changed.checkpoint", content)
    return folder / "checkpoints" / "changed.checkpoint"


def test_checkpoint_of_other_data_is_refused(path, tmp_path):
    other = changed(path, tmp_path, lambda c: c["checksums"]["train"].update({"images.npy": "0"}))
    with pytest.raises(ValueError, match="was trained on different data than"):
        resume(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["recipe"].update(stage=2), "layer 'sisr_.*' is missing"),
        (lambda c: c["recipe"]["model"].update(decoder_channels=32), "has shape .* needs"),
        (lambda c: c["network"].popitem(), "is missing; the architecture differs"),
    ],
)
def test_checkpoint_of_another_network_says_what_differs(path, tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"changed\.checkpoint: .*{message}"):
        resume(changed(path, tmp_path, change))


def test_checkpoint_of_another_version_is_refused(path, tmp_path):
    other = changed(path, tmp_path, lambda content: content.update(format=7))
    with pytest.raises(ValueError, match="a checkpoint file of format 7, but this version"):
        resume(other)


def test_a_learning_rate_that_was_edited_is_the_one_that_is_used(path, tmp_path):
    """And the schedule goes on where it was."""
    first = changed(path, tmp_path, lambda c: c["progress"].update(epoch=1, history=[]))
    edit(first, "recipe.training.learning_rate", 0.5, add=False)
    resume(first)
    assert history(tmp_path).learning_rate.tolist() == pytest.approx([0.5 * (1 / 4) ** 0.9])


def test_a_checkpoint_of_two_processes_in_the_middle_of_an_epoch_needs_two(path, tmp_path):
    def change(content: dict) -> None:
        content["progress"].update(epoch=1, step=1, sums=torch.zeros(2, 4))

    with pytest.raises(ValueError, match=r"changed\.checkpoint: was written .* by 2 processes"):
        resume(changed(path, tmp_path, change))


def test_killed_before_the_final_weights_a_training_still_leaves_its_history(
    prepared, tiny_settings, trained, tmp_path, monkeypatch
):
    """Snakemake deletes what a failed rule has written, but not its checkpoints."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("dsrl.training.train.save_weights", interrupted)
        train(tiny_settings(), 1, prepared, tmp_path)
    (tmp_path / "history.csv").unlink()
    train(tiny_settings(), 1, prepared, tmp_path)
    assert_same_training(tmp_path, trained[1])


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt
