"""Checkpoints: the last is found, old ones go, those of another training are not taken up."""

import signal
import subprocess
import sys

import pytest
import torch

from dsrl.checkpoints.checkpoint import CheckpointFolder, restore_random_states

IDENTITY = {"stage": 1, "settings": {"seed": 0}}

KILLED = """
import os, signal, sys, torch
from dsrl.training import checkpoint
folder = checkpoint.CheckpointFolder(sys.argv[1])
folder.save({"identity": {}, "epoch": 1, "step": 0})
write = torch.save
def killed(content, file):
    write(content, file)
    file.truncate(100)
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = killed
folder.save({"identity": {}, "epoch": 2, "step": 0})
"""


def state(epoch: int, **extra) -> dict:
    return {"identity": IDENTITY, "epoch": epoch, "step": 0, **extra}


def names(folder: CheckpointFolder) -> set[str]:
    return {path.name for path in folder.folder.iterdir()}


@pytest.mark.parametrize("history", [1, 2, 3])
def test_only_the_last_are_kept_and_the_last_is_loaded(tmp_path, history):
    folder = CheckpointFolder(tmp_path / "new", history)
    for epoch in range(8, 13):  # 9 sorts after 10 as text
        folder.save(state(epoch, value=torch.tensor(epoch)))
    kept = {f"epoch{epoch}.checkpoint" for epoch in range(13 - history, 13)}
    assert names(folder) == kept | {"latest"}
    found = folder.load_latest(IDENTITY)
    assert found["epoch"] == 12 and found["value"] == 12


def test_there_may_be_none(tmp_path):
    folder = CheckpointFolder(tmp_path / "new")
    assert folder.load_latest(IDENTITY) is None
    folder.finish()
    folder.save(state(1))
    (folder.folder / "epoch1.checkpoint").unlink()
    assert folder.load_latest(IDENTITY) is None


@pytest.mark.parametrize("identity", [{}, {"stage": 1, "settings": {"seed": 1}}])
def test_that_of_another_training_is_not_taken_up(tmp_path, identity):
    folder = CheckpointFolder(tmp_path)
    folder.save(state(1))
    assert folder.load_latest(identity) is None
    assert folder.load_latest(IDENTITY) is not None


def test_a_finished_training_has_nothing_to_resume(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(state(1))
    folder.finish()
    assert folder.load_latest(IDENTITY) is None
    assert names(folder) == {"epoch1.checkpoint"}
    folder.clear()
    assert names(folder) == set()


def test_random_numbers_go_on_where_they_were(tmp_path):
    folder = CheckpointFolder(tmp_path)
    torch.manual_seed(5)
    torch.rand(3)
    folder.save(state(1))
    expected = torch.rand(4)
    torch.manual_seed(6)
    restore_random_states(folder.load_latest(IDENTITY)["random"])
    assert torch.equal(torch.rand(4), expected)


def test_a_damaged_checkpoint_is_refused_not_skipped(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(state(1))
    path = tmp_path / "epoch1.checkpoint"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"epoch1\.checkpoint: cannot be loaded"):
        folder.load_latest(IDENTITY)


def test_a_process_killed_while_saving_leaves_the_checkpoint_before(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert CheckpointFolder(tmp_path).load_latest({})["epoch"] == 1
