"""What was on disk survives whatever happens while the new is written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsrl.system.files import (
    MACHINE,
    atomic_directory,
    atomic_file,
    check_output,
    keep_inputs,
    write_text,
)

KILLED = """
import os, signal, sys
from pathlib import Path
from dsrl.system.files import atomic_directory, atomic_file
path, kind = Path(sys.argv[1]), sys.argv[2]
with {"file": atomic_file, "directory": atomic_directory}[kind](path) as temporary:
    (temporary if kind == "file" else temporary / "a").write_text("half of the n")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else "/"
        for path in folder.rglob("*")
    }


def test_a_file_is_created_with_its_folder_and_replaced(tmp_path):
    path = tmp_path / "new" / "file"
    write_text(path, "ä")
    assert tree(tmp_path) == {"new": "/", "new/file": "ä"}
    write_text(path, "b")
    assert tree(tmp_path) == {"new": "/", "new/file": "b"}


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_killed_processes_left_is_removed_by_the_next_that_writes_there(tmp_path, kind):
    for name in ("a", "b"):
        line = [sys.executable, "-c", KILLED, str(tmp_path / name), kind]
        assert subprocess.run(line, timeout=60).returncode == -signal.SIGKILL
    assert any(name.endswith(".tmp") for name in tree(tmp_path))
    write_text(tmp_path / "c", "new")
    assert tree(tmp_path) == {"c": "new"}


def test_what_may_still_be_written_stays(tmp_path):
    """By this process, by one on another machine, or by nobody's rules."""
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    elsewhere = f"{int(MACHINE, 16) ^ 1:08x}"
    keep = [f".a.{MACHINE}-{os.getpid()}.tmp", f".b.{elsewhere}-{gone}.tmp", ".c.tmp", "d.tmp"]
    remove = [f".old.{elsewhere}-{gone}.tmp", f".a.zip.{MACHINE}-{gone}.tmp.1a2b.partial"]
    for name in [*keep, *remove]:
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / f".old.{elsewhere}-{gone}.tmp", (0, time.time() - 25 * 3600))
    write_text(tmp_path / "new", "new")
    assert tree(tmp_path).keys() == {*keep, "new"}


def test_a_folder_in_the_way_of_a_file_and_the_reverse_are_kept(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(IsADirectoryError, match="Is a directory; choose another name"),
        atomic_file(tmp_path / "folder"),
    ):
        pytest.fail("should fail before the work is done")
    with (
        pytest.raises(NotADirectoryError, match="choose another place"),
        atomic_directory(tmp_path / "file"),
    ):
        pytest.fail("should fail before the work is done")
    assert tree(tmp_path) == {"folder": "/", "file": "mine"}


def test_nothing_shows_at_the_path_before_the_end(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == tmp_path, "only within one file system is renaming atomic"
    assert tree(tmp_path) == {"file": "new"}


@pytest.mark.parametrize("old", [None, "old"])
def test_a_failed_write_keeps_the_old_file(tmp_path, old):
    path = tmp_path / "file"
    if old:
        path.write_text(old)
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert tree(tmp_path) == ({"file": old} if old else {})


def test_a_file_that_was_not_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "file"):
        pass
    assert tree(tmp_path) == {"file": "old"}


def test_a_folder_takes_the_place_of_the_old_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_directory(path) as temporary:
            (temporary / name).write_text(name)
    assert tree(tmp_path) == {"folder": "/", "folder/second": "second"}


@pytest.mark.parametrize("old", [None, "old"])
def test_a_failed_write_keeps_the_old_folder(tmp_path, old):
    path = tmp_path / "folder"
    if old:
        path.mkdir()
        (path / "file").write_text(old)
    before = tree(tmp_path)
    with pytest.raises(RuntimeError), atomic_directory(path) as temporary:
        (temporary / "file").write_text("half of the n")
        raise RuntimeError
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_killed_process_leaves_the_old_content(tmp_path, kind):
    path = tmp_path / "target"
    if kind == "file":
        path.write_text("old")
    else:
        path.mkdir()
        (path / "a").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), kind], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (path if kind == "file" else path / "a").read_text() == "old"
    # and the next writer is not disturbed by what the killed one left
    if kind == "file":
        write_text(path, "new")
        assert path.read_text() == "new"
    else:
        with atomic_directory(path) as temporary:
            (temporary / "b").write_text("new")
        assert tree(path) == {"b": "new"}


def test_what_a_killed_process_was_replacing_is_put_back(tmp_path: Path) -> None:
    """SIGKILL between the two renames: the old folder is at neither place, and must not be lost."""
    script = (
        "import os, signal, sys; from pathlib import Path; from dsrl.system import files\n"
        "rename = Path.rename\n"
        "def killed(self, target):\n"
        "    rename(self, target)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.rename = killed\n"
        "with files.atomic_directory(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'new').touch()\n"
    )
    target = tmp_path / "data.v1"
    target.mkdir()
    (target / "old").touch()
    done = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL and not target.exists()
    write_text(tmp_path / "another", "")
    assert (target / "old").exists()
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("path", "folder", "reason"),
    [
        ("folder", False, "Is a directory; choose another name"),
        ("file/below/a.txt", False, "Not a directory; choose another place"),
        ("file", True, "Not a directory; choose another place"),
        ("file/below", True, "Not a directory; choose another place"),
        (300 * "a", False, "File name too long; choose another name"),
        ("locked/new/a.txt", False, "Permission denied; choose another place, or make this one"),
        ("locked", True, "Permission denied; choose another place, or make this one"),
    ],
)
def test_what_cannot_be_written_is_known_before_the_work(
    tmp_path, path, folder, reason, monkeypatch
):
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p).name != "locked" and access(p, mode))
    for name in ("folder", "locked"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    for good, is_folder in (
        ("a.txt", False),
        ("new/a.txt", False),
        ("new", True),
        ("folder", True),
    ):
        check_output(tmp_path / good, is_folder)
    with pytest.raises(OSError, match=f"cannot be written: {reason}"):
        check_output(tmp_path / path, folder)
    assert tree(tmp_path) == before


def test_inputs_are_kept_in_their_block_alone(tmp_path):
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_text("mine")
    with keep_inputs([path, tmp_path / "absent"]):
        with keep_inputs([tmp_path]), pytest.raises(ValueError, match="overwrite the input"):
            write_text(path, "new")
        with (
            pytest.raises(ValueError, match=r"folder: would overwrite the input .*file; choose"),
            atomic_directory(path.parent),
        ):
            pytest.fail("should fail before the work is done")
        write_text(tmp_path / "absent", "new")
        write_text(path.with_name("other"), "new")
    write_text(path, "new")
    assert path.read_text() == "new"
