"""A training that was stopped, wherever, ends with the bits of an undisturbed one."""

import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dsrl.checkpoints import checkpoint
from dsrl.system.signals import Stopped
from dsrl.training.loop import read_checkpoint, resume_stage, train_stage
from dsrl.training.trainer import Trainer


def final_layers(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "final.weights", weights_only=True)["state_dict"]


def assert_same(folder: Path, other: Path) -> None:
    layers, expected = final_layers(folder), final_layers(other)
    assert layers.keys() == expected.keys()
    assert all(torch.equal(layers[name], layer) for name, layer in expected.items())
    rows, expected_rows = (
        pd.read_csv(path / "history.csv").drop(columns="images_per_second")
        for path in (folder, other)
    )
    pd.testing.assert_frame_equal(rows, expected_rows, check_exact=True)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, where: str = "_step") -> None:
    """Let SIGTERM come in a step, counted over the epochs, or in a validation."""
    original, calls = getattr(Trainer, where), []

    def step(self, *arguments):
        calls.append(1)
        if len(calls) == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, where, step)


def resume(path: Path) -> None:
    state, settings = read_checkpoint(path)
    resume_stage(path, state, settings)


@pytest.mark.parametrize(
    ("where", "number", "workers", "name"),
    [
        ("_step", 1, 0, "epoch0-step1"),
        ("_step", 4, 2, "epoch1-step2"),  # 2 steps per epoch: stopped before validation
        ("_step", 3, 2, "epoch1-step1"),
        ("_validate", 1, 0, "epoch0-step2"),
    ],
)
def test_sigterm_leaves_a_checkpoint_that_ends_bit_identical(
    prepared, tiny_settings, trained, tmp_path, monkeypatch, where, number, workers, name
):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        stop_after(patch, number, where)
        with pytest.raises(Stopped, match=name):
            train_stage(tiny_settings(num_workers=workers), 1, prepared, tmp_path / "a" / "stage1")
    assert signal.getsignal(signal.SIGTERM) is before
    folder = tmp_path / "a" / "stage1"
    shutil.copytree(folder, tmp_path / "b" / "stage1")
    resume(folder / "checkpoints" / f"{name}.checkpoint")
    assert_same(folder, trained[1])
    # and by repeating the call
    train_stage(tiny_settings(num_workers=workers), 1, prepared, tmp_path / "b" / "stage1")
    assert_same(tmp_path / "b" / "stage1", trained[1])


def test_resume_train_goes_on_from_the_end_of_an_epoch_without_the_initial_weights(
    prepared, tiny_settings, trained, tmp_path, capsys
):
    previous = tmp_path / "stage1" / "final.weights"
    previous.parent.mkdir()
    shutil.copy(trained[1] / "final.weights", previous)
    folder = tmp_path / "stage2"
    train_stage(tiny_settings(checkpoint_history=2), 2, prepared, folder)
    first = folder / "checkpoints" / "epoch1.checkpoint"
    shutil.rmtree(previous.parent)
    (folder / "final.weights").unlink()
    resume(first)
    assert "Resumed after epoch 1" in capsys.readouterr().err
    assert_same(folder, trained[2])
    assert first.exists(), "the history of checkpoints counts the newest files"


def test_all_random_states_come_back(tmp_path):
    states = checkpoint.random_states()
    torch.save(states, tmp_path / "states")
    drawn = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    checkpoint.restore_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002


def test_device_entry_decides_where_a_resumed_training_runs(trained):
    path = next((trained[1] / "checkpoints").glob("*.checkpoint"))
    state, settings = read_checkpoint(path)
    assert state["device"] == settings.resources.device == "cpu"
    state["device"] = "gpu"
    edited = path.with_name("edited.checkpoint")
    torch.save(state, edited)
    try:
        assert read_checkpoint(edited)[1].resources.device == "gpu"
    finally:
        edited.unlink()


def test_checkpoint_of_other_data_is_refused(prepared, trained, tmp_path):
    path = next((trained[1] / "checkpoints").glob("*.checkpoint"))
    state, settings = read_checkpoint(path)
    state["identity"]["data"]["train"]["images.npy"] = "0"
    with pytest.raises(ValueError, match="was trained on other data than"):
        resume_stage(path, state, settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["info"].update(stage=2), "layer 'sisr_.*' is missing"),
        (lambda s: s["info"]["classes"].pop(), "is for 18 classes"),
        (lambda s: s["info"]["model"].update(decoder_channels=32), "decoder_channels is 32 there"),
        (lambda s: s["network"].popitem(), "is missing; it is of another architecture"),
    ],
)
def test_checkpoint_of_another_network_says_what_differs(trained, change, message):
    path = next((trained[1] / "checkpoints").glob("*.checkpoint"))
    state, settings = read_checkpoint(path)
    change(state)
    with pytest.raises(ValueError, match=message):
        resume_stage(path, state, settings)


def test_checkpoint_of_another_version_is_refused(trained, tmp_path):
    path = next((trained[1] / "checkpoints").glob("*.checkpoint"))
    state = torch.load(path, weights_only=True)
    torch.save({**state, "format": 7}, tmp_path / "new.checkpoint")
    with pytest.raises(ValueError, match="format 7, written by another version"):
        read_checkpoint(tmp_path / "new.checkpoint")
