"""Disks that are full or cannot be written: one line says so, and nothing old is lost."""

import errno
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from training import checkpoint_of

from dsrl.checkpoints.checkpoint import CheckpointFolder, load_checkpoint
from dsrl.checkpoints.weights import load_weights, save_weights
from dsrl.cli.main import main
from dsrl.system.files import atomic_file, write_text

MB = 2**20


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs with some options on a new folder; skips where that is not allowed."""
    folders = []

    def make(options: str) -> Path:
        folder = tmp_path / f"disk{len(folders)}"
        folder.mkdir()
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(line, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode:
            pytest.skip(f"cannot mount a disk: {done.stderr.strip()}")
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def told(path: Path, reason: int, cure: str) -> Iterator[None]:
    """Expect an error of one line that names `path`."""
    with pytest.raises(OSError, match=cure) as caught:
        yield
    assert caught.value.errno == reason and caught.value.filename == str(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("free", [0, 4096, MB // 2, MB])
def test_a_checkpoint_for_which_there_is_no_room_leaves_the_one_before(mount, free):
    disk = mount("size=4m")
    folder = CheckpointFolder(disk / "checkpoints", history=3)
    first = checkpoint_of({"layer": torch.rand(MB * 3 // 8)}, epoch=1)  # 1.5 MB
    folder.save(first)
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - free))
    before = contents(disk)
    with told(disk / "checkpoints/epoch2.checkpoint", errno.ENOSPC, "make room and repeat"):
        folder.save(checkpoint_of(first.network, epoch=2))
    assert contents(disk) == before
    found = load_checkpoint(folder.files()[-1])
    assert found.progress["epoch"] == 1
    assert torch.equal(found.network["layer"], first.network["layer"])
    (disk / "filler").unlink()
    folder.save(checkpoint_of(first.network, epoch=2))
    assert load_checkpoint(folder.files()[-1]).progress["epoch"] == 2


def test_a_training_whose_disk_becomes_full_goes_on_when_there_is_room(
    mount, prepared, tiny_settings, trained, make_weights, capsys
):
    """Too small for a second checkpoint beside the first, as files are replaced when complete."""
    first = next((trained[1] / "checkpoints").glob("*.checkpoint")).stat().st_size
    disk = mount(f"size={first * 7 // 4}")
    line = ["train", "--stage", "1", "--data", str(prepared), "--output", str(disk / "stage1")]
    line += ["--config", tiny_settings().model_dump_json()]
    with pytest.raises(SystemExit) as exit_:
        main(line)
    last = capsys.readouterr().err
    assert str(exit_.value) == (
        f"dsrl train: {disk}/stage1/checkpoints/epoch2.checkpoint: cannot be written: No space "
        "left on device; make room and repeat the call"
    ), last
    names = {path.name for path in (disk / "stage1").rglob("*")}
    assert names >= {"history.csv", "epoch1.checkpoint"}
    assert not any(name.endswith((".tmp", ".weights")) for name in names)
    assert load_checkpoint(disk / "stage1/checkpoints/epoch1.checkpoint").progress["epoch"] == 1
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    main(line)
    assert "Resumed after epoch 1" in capsys.readouterr().err
    layers, expected = (
        load_weights(folder / "final.weights").layers for folder in (disk / "stage1", trained[1])
    )
    assert all(torch.equal(layers[name], layer) for name, layer in expected.items())


def test_a_disk_that_is_full_from_the_start(mount, prepared, tiny_settings, capsys):
    """TensorBoard's thread meets it first."""
    disk = mount("size=1m")
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--stage", "1", "--data", str(prepared), "--output", str(disk / "stage1"),
              "--config", tiny_settings().model_dump_json()])  # fmt: skip
    assert re.fullmatch(
        rf"dsrl train: {disk}/stage1/(tensorboard|history\.csv): cannot be written: No space left "
        "on device; make room and repeat the call",
        str(exit_.value),
    )
    assert "Traceback" not in capsys.readouterr().err


def test_weights_and_histories_for_which_there_is_no_room_leave_the_old(mount, make_weights):
    disk = mount("size=1m")
    weights, history = disk / "final.weights", disk / "history.csv"
    weights.write_bytes(b"old")
    history.write_text("epoch\n1\n")
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
    before = contents(disk)
    with told(weights, errno.ENOSPC, "make room"):
        save_weights(weights, make_weights(1))
    with told(history, errno.ENOSPC, "make room"), atomic_file(history) as temporary:
        pd.DataFrame({"epoch": range(2000)}).to_csv(temporary, index=False)
    with told(disk / "benchmark.txt", errno.ENOSPC, "make room"):
        write_text(disk / "benchmark.txt", "x" * 5000)
    assert contents(disk) == before


def test_a_file_larger_than_is_allowed(make_weights, tmp_path):
    """Needs no mount: the limit on the size of a file makes writing fail in the same way."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with told(tmp_path / "w.weights", errno.EFBIG, "allow larger files"):
            save_weights(tmp_path / "w.weights", make_weights(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def calls(trained: dict[int, Path], prepared: Path, target: Path) -> list[list[str]]:
    """A call of each command that writes to `--output`, or what it is called there."""
    weights, data = str(trained[1] / "final.weights"), str(prepared)
    return [
        ["prune-weights", "--src-weights", weights, "--dest-weights", str(target / "a.weights")],
        ["export", "--weights", weights, "--output", str(target / "a.pt2")],
        ["demo-data", "--train-images", "1", "--val-images", "1", "--output", str(target / "new")],
        ["predict", "--weights", weights, "--data", data, "--output", str(target / "new")],
        ["benchmark", "--weights", weights, "--data", data, "--latency-runs", "1",
         "--output", str(target / "b.txt")],
        ["train", "--stage", "1", "--data", data, "--input-size", "32", "64", "--device", "cpu",
         "--output", str(target / "new")],
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(6))
def test_a_read_only_target_is_named(mount, trained, prepared, number):
    disk = mount("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    line = calls(trained, prepared, disk)[number]
    with pytest.raises(SystemExit) as exit_:
        main(line)
    message = str(exit_.value)
    assert message.startswith(f"dsrl {line[0]}: {disk}/") and "\n" not in message
    assert f": cannot be written: {os.strerror(errno.EROFS)}; choose another place" in message
    assert ".tmp" not in message, "a temporary file is not what the user asked for"


@pytest.mark.parametrize("number", range(6))
def test_a_target_below_a_file_is_named(tmp_path, trained, prepared, number):
    (tmp_path / "file").write_text("mine")
    line = calls(trained, prepared, tmp_path / "file")[number]
    with pytest.raises(SystemExit) as exit_:
        main(line)
    message = str(exit_.value)
    assert message.startswith(f"dsrl {line[0]}: {tmp_path}/file") and "\n" not in message
    assert "a file is where a folder should be" in message
    assert contents(tmp_path) == {str(tmp_path / "file"): b"mine"}


def test_a_full_disk_keeps_the_checkpoint_that_is_edited(mount, trained):
    disk = mount("size=64m")
    path = disk / "test.checkpoint"
    shutil.copy(next((trained[1] / "checkpoints").glob("*.checkpoint")), path)
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
    before = contents(disk)
    with pytest.raises(SystemExit, match=r"test\.checkpoint.*: cannot be written: No space left"):
        main(["edit-checkpoint", "--checkpoint", str(path), "--key", "device", "--value", "gpu"])
    assert contents(disk) == before
    assert load_checkpoint(path).run.resources.device == "cpu"
