"""Checkpoints: the last is found, old ones go, those of another training are not resumed."""

import signal
import subprocess
import sys

import pytest
import torch
from training import checkpoint_of, run_info

from dsrl.checkpoints.checkpoint import CheckpointFolder, load_checkpoint, restore_random_states
from dsrl.checkpoints.format import write

KILLED = """
import os, signal, sys, torch
from dataclasses import replace
from dsrl.checkpoints.checkpoint import CheckpointFolder, load_checkpoint
first = load_checkpoint(sys.argv[1])
folder = CheckpointFolder(sys.argv[2])
folder.save(first)
write = torch.save
def killed(content, file):
    write(content, file)
    file.truncate(100)
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = killed
folder.save(replace(first, progress={**first.progress, "epoch": 2}))
"""


def names(folder: CheckpointFolder) -> set[str]:
    return {path.name for path in folder.folder.iterdir()}


@pytest.mark.parametrize("history", [1, 2, 3])
def test_only_the_last_are_kept_and_the_last_is_loaded(tmp_path, history):
    folder = CheckpointFolder(tmp_path / "new", history)
    for epoch in range(8, 13):  # 9 sorts after 10 as text
        folder.save(checkpoint_of({"value": torch.tensor(epoch)}, epoch))
    kept = {f"epoch{epoch}.checkpoint" for epoch in range(13 - history, 13)}
    assert names(folder) == kept | {"latest"}
    found = folder.load_latest(run_info())
    assert found is not None
    assert found.progress["epoch"] == 12 and found.network["value"] == 12
    assert found.run == run_info() and found.path == folder.latest


def test_there_may_be_none(tmp_path):
    folder = CheckpointFolder(tmp_path / "new")
    assert folder.load_latest(run_info()) is None
    folder.finish()
    folder.save(checkpoint_of({}, 1))
    (folder.folder / "epoch1.checkpoint").unlink()
    assert folder.load_latest(run_info()) is None


def test_that_of_another_training_is_not_resumed(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint_of({}, 1))
    others = [
        run_info(stage=2),
        run_info(seed=1),
        run_info(epochs=3),
        run_info(initial="abc"),
        run_info(encoder="resnet18"),
    ]
    assert [folder.load_latest(other) for other in others] == [None] * len(others)
    moved = run_info().model_copy(
        update={"data": run_info().data.model_copy(update={"folder": "moved"})}
    )
    # What the weights do not depend on: here two settings of later stages.
    for same in (run_info(), run_info(w2=0.3, fa_stride=16), moved):
        assert folder.load_latest(same) is not None


def test_a_finished_training_has_nothing_to_resume(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint_of({}, 1))
    folder.finish()
    assert folder.load_latest(run_info()) is None
    assert names(folder) == {"epoch1.checkpoint"}
    folder.clear()
    assert names(folder) == set()


def test_random_numbers_go_on_where_they_were(tmp_path):
    folder = CheckpointFolder(tmp_path)
    torch.manual_seed(5)
    torch.rand(3)
    folder.save(checkpoint_of({}, 1))
    expected = torch.rand(4)
    torch.manual_seed(6)
    restore_random_states(load_checkpoint(tmp_path / "epoch1.checkpoint").random)
    assert torch.equal(torch.rand(4), expected)


def test_a_damaged_checkpoint_is_refused_not_skipped(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint_of({}, 1))
    path = tmp_path / "epoch1.checkpoint"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"epoch1\.checkpoint: cannot be loaded"):
        folder.load_latest(run_info())


@pytest.mark.parametrize("key", ["recipe", "checksums", "progress", "optimizer", "random"])
def test_a_missing_entry_is_named(tmp_path, key):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint_of({}, 1))
    content = torch.load(tmp_path / "epoch1.checkpoint", weights_only=True)
    del content[key]
    write(tmp_path / "broken", content)
    with pytest.raises(ValueError, match=f"broken: key '{key}' is missing"):
        load_checkpoint(tmp_path / "broken")


def test_a_process_killed_while_saving_leaves_the_checkpoint_before(tmp_path):
    CheckpointFolder(tmp_path / "source").save(checkpoint_of({}, 1))
    arguments = [str(tmp_path / "source" / "epoch1.checkpoint"), str(tmp_path / "target")]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=120)
    assert done.returncode == -signal.SIGKILL
    found = CheckpointFolder(tmp_path / "target").load_latest(run_info())
    assert found is not None and found.progress["epoch"] == 1
