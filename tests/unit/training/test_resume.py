"""A training that was stopped, wherever, ends with the bits of an undisturbed one."""

import os
import platform
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.amp import GradScaler
from training import (
    assert_same_training,
    before_each,
    epochs_resumed,
    history,
    interrupt,
    lock_holder,
    resume,
    train,
    validate_as,
)

from dsrl.checkpoints import checkpoint
from dsrl.checkpoints.checkpoint import load_checkpoint
from dsrl.checkpoints.format import write
from dsrl.checkpoints.inspect import edit
from dsrl.checkpoints.stage_folder import SET_ASIDE
from dsrl.checkpoints.weights import load_weights, save_weights
from dsrl.data.dataset import PreparedSplit
from dsrl.system.kept import keep
from dsrl.system.signals import Stopped
from dsrl.training.state import TrainingState

RATES = ("learning_rate", "end_learning_rate")
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


def test_an_interrupted_training_in_float16_ends_as_an_undisturbed_one(
    prepared, tiny_settings, tmp_path, monkeypatch
):
    """So the scaler of its losses goes on where it was; here it halves at the first step."""
    settings = tiny_settings(precision="fp16")
    monkeypatch.setattr("dsrl.training.state.loss_scaler", lambda *_: GradScaler("cpu", 2.0**40))
    train(settings, 1, prepared, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 4)
        train(settings, 1, prepared, tmp_path / "cut")
    train(settings, 1, prepared, tmp_path / "cut")
    assert_same_training(tmp_path / "cut", tmp_path / "whole")
    scaler = load_checkpoint(next((tmp_path / "cut" / "checkpoints").iterdir())).progress["scaler"]
    assert scaler["scale"] < 2.0**40


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
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["epoch1.checkpoint"]
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


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"w1": 0.2}, "w1: 0.1 there, 0.2 here"),
        ({"seed": 3}, "seed: 1 there, 3 here"),
        ({"epochs": 1}, "epochs: 2 there, 1 here"),
        ({"flip": 0.4, "w1": 0.2}, "w1: 0.1 there, 0.2 here, flip: 0.5 there, 0.4 here"),
    ],
)
def test_another_training_in_the_folder_is_kept_and_named(
    cut, prepared, tiny_settings, trained, changes, named
):
    previous, before = trained[1] / "final.weights", contents(cut)
    ways = r"choose another --output, or --restart, .* dsrl resume-train --checkpoint .*epoch1"
    with pytest.raises(ValueError, match=rf"cut: has another training \({named}\); {ways}"):
        train(tiny_settings(**changes), 2, prepared, cut, previous)
    assert contents(cut) == before


def test_other_data_in_the_folder_is_kept_and_named(
    cut, prepared, tiny_settings, trained, make_weights, tmp_path
):
    data, before = shutil.copytree(prepared, tmp_path / "data"), contents(cut)
    for split in ("train", "val"):
        manifest = data / split / "manifest.json"
        checksum = PreparedSplit(data, split).manifest.checksums["labels.npy"]
        manifest.write_text(manifest.read_text().replace(checksum, "0" * 64))
    other = tmp_path / "other.weights"
    save_weights(other, make_weights(1, seed=9))
    differing = "validation images: others, training images: others, initial weights: others"
    with pytest.raises(ValueError) as error:
        train(tiny_settings(), 2, data, cut, other)
    assert set(differing.split(", ")) == set(
        str(error.value).split("(")[1].split(")")[0].split(", ")
    )
    assert contents(cut) == before


@pytest.mark.parametrize("if_another", ["set-aside", "restart"])
def test_a_training_that_is_set_aside_stays_whole(
    cut, prepared, tiny_settings, trained, capsys, if_another
):
    before, previous = contents(cut), trained[1] / "final.weights"
    settings = tiny_settings(epochs=1)
    train(settings, 2, prepared, cut, previous, if_another=if_another)
    (aside,) = cut.parent.glob("cut-*")
    assert SET_ASIDE.fullmatch(aside.name) and contents(aside) == before
    log = capsys.readouterr().err
    assert f"(epochs: 2 there, 1 here) is now in {aside}" in log
    train(settings, 2, prepared, cut.with_name("new"), previous)
    assert_same_training(cut, cut.with_name("new"))


@pytest.mark.parametrize("checkpoints", [True, False])
def test_what_snakemake_deleted_is_set_aside_too(
    prepared, tiny_settings, trained, tmp_path, checkpoints
):
    """Whether its checkpoints are there or were removed to save space."""
    folder = shutil.copytree(trained[1], tmp_path / "stage1")
    for name in ("final.weights", "history.csv"):
        keep(folder / name)
        (folder / name).unlink()
    if not checkpoints:
        shutil.rmtree(folder / "checkpoints")
    train(tiny_settings(epochs=1), 1, prepared, folder, if_another="set-aside")
    (aside,) = tmp_path.glob("stage1-*")
    assert_same_training(aside, trained[1])


def test_what_cannot_be_read_is_set_aside_with_the_reason(
    prepared, tiny_settings, trained, tmp_path, capsys
):
    folder = shutil.copytree(trained[1], tmp_path / "stage1")
    path = folder / "checkpoints" / "epoch2.checkpoint"
    path.write_bytes(path.read_bytes()[:1000])
    before = contents(folder)
    with pytest.raises(ValueError, match=r"epoch2\.checkpoint: cannot be loaded: truncated"):
        train(tiny_settings(), 1, prepared, folder)
    train(tiny_settings(), 1, prepared, folder, if_another="set-aside")
    (aside,) = tmp_path.glob("stage1-*")
    assert contents(aside) == before
    assert "epoch2.checkpoint: cannot be loaded: truncated" in capsys.readouterr().err


def test_only_what_a_training_writes_is_set_aside(prepared, tiny_settings, trained, tmp_path):
    """Its folder may be a link to another disk, and have files of the user in it."""
    folder = tmp_path / "stage1"
    folder.symlink_to(shutil.copytree(trained[1], tmp_path / "disk" / "stage1"))
    (folder / "thesis.tex").write_text("mine")
    train(tiny_settings(epochs=1), 1, prepared, folder, if_another="restart")
    (aside,) = (tmp_path / "disk").glob("stage1-*")
    assert_same_training(aside, trained[1])
    assert (folder / "thesis.tex").exists() and (folder / "final.weights").exists()


@pytest.mark.parametrize("if_another", ["stop", "set-aside"])
def test_a_finished_training_is_not_trained_again(
    prepared, tiny_settings, trained, tmp_path, capsys, if_another
):
    folder = shutil.copytree(trained[1], tmp_path / "stage1")
    before = contents(folder)
    train(tiny_settings(), 1, prepared, folder, if_another=if_another)
    assert f"{folder}: this training is finished" in capsys.readouterr().err
    assert contents(folder) == before
    (folder / "final.weights").unlink()
    (folder / "history.csv").unlink()
    train(tiny_settings(), 1, prepared, folder, if_another=if_another)
    assert "Resumed after epoch 2" in capsys.readouterr().err
    assert_same_training(folder, trained[1])
    assert list(tmp_path.iterdir()) == [folder]


def test_without_checkpoints_final_weights_are_kept_too(
    prepared, tiny_settings, trained, tmp_path, capsys
):
    folder = shutil.copytree(trained[1], tmp_path / "stage1")
    shutil.rmtree(folder / "checkpoints")
    before = contents(folder)
    train(tiny_settings(), 1, prepared, folder)
    with pytest.raises(ValueError, match=r"has another training \(epochs: 2 there, 3 here\)"):
        train(tiny_settings(epochs=3), 1, prepared, folder)
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def longer(prepared: Path, tiny_settings, folder: Path) -> None:
    train(tiny_settings(epochs=4), 1, prepared, folder)


def by_command(prepared: Path, tiny_settings, folder: Path) -> None:
    resume(folder / "checkpoints" / "epoch2.checkpoint", epochs=4)


@pytest.mark.parametrize("call", [longer, by_command])
def test_more_epochs_go_on_with_the_schedule_of_the_new_length(
    prepared, tiny_settings, trained, tmp_path, capsys, call
):
    folder = shutil.copytree(trained[1], tmp_path / "stage1")
    call(prepared, tiny_settings, folder)
    log = capsys.readouterr().err
    assert f"Resumed after epoch 2; writing to {folder}" in log
    assert "4 epochs instead of 2: from here on, the learning rate follows the schedule of 4" in log
    rows, first = history(folder), history(trained[1])
    pd.testing.assert_frame_equal(rows[:2], first, check_exact=True)
    rate, end = (tiny_settings().training.model_dump()[k] for k in RATES)
    expected = [end + (rate - end) * (1 - step / 8) ** 0.9 for step in (5, 7)]
    assert rows.learning_rate[2:].tolist() == pytest.approx(expected)
    provenance = load_weights(folder / "final.weights").info.provenance
    assert provenance["earlier_epochs"] == [2] and provenance["recipe"]["training"]["epochs"] == 4
    # The workflow does not take it for four epochs trained at once; the same call does.
    before = contents(folder)
    longer(prepared, tiny_settings, folder)
    assert contents(folder) == before
    train(tiny_settings(epochs=4), 1, prepared, folder, if_another="set-aside")
    (aside,) = tmp_path.glob("stage1-*")
    assert contents(aside) == before
    assert load_weights(folder / "final.weights").info.provenance["earlier_epochs"] == []


def test_a_training_that_is_made_longer_survives_a_kill(
    prepared, tiny_settings, trained, tmp_path, monkeypatch
):
    folders = [shutil.copytree(trained[1], tmp_path / name) for name in ("whole", "cut")]
    longer(prepared, tiny_settings, folders[0])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 3)
        longer(prepared, tiny_settings, folders[1])
    longer(prepared, tiny_settings, folders[1])
    assert_same_training(*folders)


@pytest.mark.parametrize("call", [longer, by_command])
def test_more_epochs_do_not_go_on_after_early_stopping(
    prepared, tiny_settings, tmp_path, monkeypatch, call
):
    folder = tmp_path / "stage1"
    validate_as(monkeypatch, [0.3, 0.2])
    early = tiny_settings(epochs=3, early_stopping=1)
    train(early, 1, prepared, folder)
    before = contents(folder)
    with pytest.raises(ValueError, match="early stopping ended this training after epoch 2"):
        call(prepared, lambda epochs: tiny_settings(epochs=epochs, early_stopping=1), folder)
    assert contents(folder) == before


def test_a_branch_of_the_same_training_is_set_aside(prepared, tiny_settings, trained, tmp_path):
    """A later epoch need not be a later state of what is there."""
    folders = [shutil.copytree(trained[1], tmp_path / name) for name in ("first", "second")]
    longer(prepared, tiny_settings, folders[0])
    resume(folders[1] / "checkpoints" / "epoch2.checkpoint", epochs=5)
    before = contents(folders[0])
    last = folders[1] / "checkpoints" / "epoch5.checkpoint"
    resume(last, epochs=6, output=folders[0])
    (aside,) = tmp_path.glob("first-*")
    assert contents(aside) == before


def test_fewer_epochs_than_are_trained_are_refused(path):
    with pytest.raises(ValueError, match=r"epoch2\.checkpoint: is of epoch 2; epochs must be >= 2"):
        resume(path, epochs=1)


def test_a_copied_checkpoint_needs_to_be_told_where_to_go_on(
    path, prepared, tiny_settings, trained, tmp_path
):
    copy = tmp_path / "copies" / "best.checkpoint"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    with pytest.raises(ValueError, match=r"best\.checkpoint: is not in the folder `checkpoints`"):
        resume(copy)
    assert list(tmp_path.rglob("*")) == [copy.parent, copy]
    resume(copy, output=tmp_path / "stage1")
    assert_same_training(tmp_path / "stage1", trained[1])
    assert copy.read_bytes() == path.read_bytes()


def test_resume_train_keeps_another_training(path, prepared, tiny_settings, cut):
    before = contents(cut)
    with pytest.raises(ValueError, match=r"another training \(stage: 2 there, 1 here, .*--output"):
        resume(path, output=cut)
    assert contents(cut) == before


@pytest.mark.parametrize("call", [train, resume])
def test_two_trainings_in_one_folder(prepared, tiny_settings, trained, tmp_path, call):
    """The second is refused while the first works there, and no longer."""
    folder = shutil.copytree(trained[1], tmp_path / "stage1")

    def second() -> None:
        if call is train:
            train(tiny_settings(epochs=1), 1, prepared, folder, if_another="restart")
        else:
            resume(folder / "checkpoints" / "epoch2.checkpoint", epochs=3)

    before = contents(folder)
    with lock_holder(folder) as pid:
        who = f"stage1: in use by process {pid} on {platform.node()}; wait until it has ended"
        with pytest.raises(OSError, match=who):
            second()
        assert contents(folder) == before
    assert (folder / ".lock").exists(), "it was killed"
    second()
    assert not (folder / ".lock").exists()


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
    later = contents(folder)
    resume(first)
    assert "Resumed after epoch 1" in capsys.readouterr().err
    assert_same_training(folder, trained[2])
    (aside,) = tmp_path.glob("stage2-*")
    kept = contents(aside)
    assert kept.items() >= later.items(), "what was trained after the checkpoint is set aside"


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
            resume(tmp_path / "edited.checkpoint", output=tmp_path / "stage1")


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


def cut_to_one_epoch(content: dict) -> None:
    """As the checkpoint of a training of two epochs was after the first."""
    content["progress"].update(epoch=1, history=content["progress"]["history"][:1])


def test_a_learning_rate_that_was_edited_is_the_one_that_is_used(path, tmp_path):
    """And the schedule goes on where it was."""
    first = changed(path, tmp_path, cut_to_one_epoch)
    edit(first, "recipe.training.learning_rate", 0.5, add=False)
    resume(first)
    assert history(tmp_path).learning_rate[1] == pytest.approx(0.5 * (1 / 4) ** 0.9)


def test_losses_of_all_processes_are_in_the_mean_of_the_epoch(path, tmp_path, monkeypatch):
    """Those of a checkpoint in the middle of an epoch, too, whatever number of processes wrote it;
    the cross entropy weighs as much as there are labelled pixels."""
    seen = []
    original = TrainingState.add

    def record(state, losses, labelled_pixels):
        seen.append((losses.cross_entropy.item(), labelled_pixels.item()))
        original(state, losses, labelled_pixels)

    monkeypatch.setattr(TrainingState, "add", record)
    before = torch.tensor([[0, 2.5 * 7000, 0, 0], [2, 7000, 2, 2]], dtype=torch.float64)

    def change(content: dict) -> None:
        cut_to_one_epoch(content)
        content["progress"].update(step=1, sums=before)

    resume(changed(path, tmp_path, change))
    ((loss, pixels),) = seen
    row = history(tmp_path).iloc[1]
    assert row.cross_entropy == pytest.approx((2.5 * 7000 + loss * pixels) / (7000 + pixels))
    assert row.total == row.cross_entropy


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
