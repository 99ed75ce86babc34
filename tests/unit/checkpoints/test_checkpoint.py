"""Checkpoints: the last is found, old ones go, those of another training are not resumed."""

import signal
import subprocess
import sys

import pytest
import torch
from training import checkpoint_of, run_info

from dsrl.checkpoints.checkpoint import CheckpointFolder, load_checkpoint, restore_random_states
from dsrl.checkpoints.format import write
from dsrl.checkpoints.provenance import differences
from dsrl.config.sections import Resources

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
    assert names(folder) == kept
    assert folder.latest is not None
    found = load_checkpoint(folder.latest)
    assert found.progress["epoch"] == 12 and found.network["value"] == 12
    assert found.run == run_info() and found.path == folder.latest


def test_a_step_of_the_next_epoch_is_later_than_the_epoch_before(tmp_path):
    names = ["epoch2", "epoch10", "epoch10-step9", "epoch10-step10", "epoch11"]
    for name in reversed(names):
        (tmp_path / f"{name}.checkpoint").touch()
    (tmp_path / "epoch12.checkpoint.bak").touch()
    files = CheckpointFolder(tmp_path).files()
    assert [path.stem for path in files] == names


def test_there_may_be_none(tmp_path):
    folder = CheckpointFolder(tmp_path / "new")
    assert folder.latest is None
    folder.save(checkpoint_of({}, 1))
    (folder.folder / "epoch1.checkpoint").unlink()
    assert folder.latest is None


def test_provenance_differs_in_what_the_weights_depend_on():
    def how(**options: object) -> dict[str, str]:
        return differences(run_info().provenance, run_info(**options).provenance)

    assert how(seed=1) == {"seed": "0 there, 1 here"}
    assert how(epochs=3, encoder="resnet18").keys() == {"epochs", "encoder"}
    assert how(initial="abc") == {"initial weights": "others"}
    assert how(stage=2)["stage"] == "1 there, 2 here" and "w1" in how(stage=2)
    assert how(ohem_threshold=0.7, fit="pad") == {
        "ohem_threshold": "None there, 0.7 here",
        "fit": "stretch there, pad here",
    }, "recipes leave these out where they have their default"
    assert how(w2=0.3, fa_stride=16, experiment="x") == {}, "settings of later stages"
    moved = run_info().data.model_copy(update={"folder": "moved"})
    other = run_info().model_copy(update={"data": moved, "resources": Resources(num_workers=7)})
    assert differences(run_info().provenance, other.provenance) == {}
    assert differences({}, run_info().provenance) == {"recipe": "unknown there"}
    code = run_info().model_copy(update={"code": "1"})
    assert differences(run_info().provenance, code.provenance) == {"code": "another version"}


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
        load_checkpoint(path)


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
    latest = CheckpointFolder(tmp_path / "target").latest
    assert latest is not None and load_checkpoint(latest).progress["epoch"] == 1
