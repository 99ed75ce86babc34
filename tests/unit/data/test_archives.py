"""Archives are unpacked as a whole or not at all, and hostile ones are refused."""

import stat
import struct
import zipfile
from pathlib import Path

import pytest
from packing import make, make_tar, refused, tree

from dsrl.cli.main import main
from dsrl.data import archives
from dsrl.data.archives import unpack


def test_archives_are_merged_into_one_folder(tmp_path):
    first = make(tmp_path / "a.zip", [("images/", b""), ("images/x.png", b"x"), ("README", b"1")])
    second = make(tmp_path / "b.zip", [("labels/deep/x.png", b"y" * 3_000_000), ("README", b"2")])
    unpack([first, second], tmp_path / "out")
    assert tree(tmp_path / "out") == {
        "images/x.png": b"x",
        "labels/deep/x.png": b"y" * 3_000_000,
        "README": b"1",
    }


def test_only_a_folder_without_files_is_replaced(tmp_path):
    archive = make(tmp_path / "new.zip", [("new", b"new")])
    photos, empty = tmp_path / "photos", tmp_path / "empty"
    for folder in (photos, empty):
        folder.mkdir()
    (photos / "holiday.jpg").write_bytes(b"holiday")
    (empty / ".DS_Store").touch()
    (tmp_path / "link").symlink_to(empty)
    before = tree(tmp_path)
    for output in (photos, tmp_path / "link"):
        with pytest.raises(FileExistsError, match=f"{output} exists; choose another --output, or"):
            unpack([archive], output)
    assert tree(tmp_path) == before and (tmp_path / "link").is_symlink()
    unpack([archive], empty)
    assert tree(empty) == {"new": b"new"}


def test_damage_found_late_leaves_nothing(tmp_path):
    broken = make(tmp_path / "new.zip", [("a", b"a"), ("b", b"0123456789")], zipfile.ZIP_STORED)
    broken.write_bytes(broken.read_bytes().replace(b"0123456789", b"0123456780"))
    assert "its member 'b' cannot be extracted (Bad CRC-32" in refused(tmp_path, broken)


def test_backslashes_of_windows_are_folders(tmp_path):
    names = ["images\\", "images\\train\\x.png", "labels\\x.png"]
    for archive in (
        make(tmp_path / "a.zip", [(name, b"x" * (name[-1] != "\\")) for name in names]),
        make_tar(tmp_path / "a.tar", [(name, b"x") for name in names[1:]]),
    ):
        unpack([archive], tmp_path / archive.suffix)
        assert tree(tmp_path / archive.suffix) == {"images/train/x.png": b"x", "labels/x.png": b"x"}
    both = make(tmp_path / "b.zip", [("a/x", b"1"), ("a\\x", b"2")])
    assert "'a/x' is there twice" in refused(tmp_path, both)


OUTSIDE = ["../evil", "a/../../evil", "a/..", "/evil", "//evil", "C:evil", "c:/evil"]
OUTSIDE += ["..\\evil", "a\\..\\..\\evil", "\\evil", "\\\\host\\evil", "C:\\evil", "../.DS_Store"]


def test_paths_that_leave_the_target(tmp_path):
    for name in [*OUTSIDE, "__MACOSX/../../evil"]:
        for path in (
            make(tmp_path / "a.zip", [("good", b"x"), (name, b"evil")]),
            make_tar(tmp_path / "a.tgz", [("good", b"x"), (name, b"evil")], "w:gz"),
        ):
            told = refused(tmp_path, path)
            assert f"{name!r} has a path that leads out of the target folder" in told
            path.unlink()


def test_a_file_without_a_name(tmp_path):
    assert "'.' has no name" in refused(tmp_path, make(tmp_path / "a.zip", [(".", b"x")]))


def test_links_and_devices(tmp_path):
    for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
        for name in ("link", "link/", ".link"):
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o777) << 16
            path = make(tmp_path / "a.zip", [(info, b"/etc/passwd"), ("link/passwd", b"evil")])
            assert f"{name!r} is a link or a device" in refused(tmp_path, path)


def test_encrypted_members(tmp_path):
    path = make(tmp_path / "a.zip", [("secret", b"x")])
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[central + 8] |= 1
    path.write_bytes(content)
    assert "'secret' is encrypted" in refused(tmp_path, path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["a/x", "a//x", "./a/x"])
def test_one_name_twice(tmp_path, again):
    one = make(tmp_path / "one.zip", [("a/x", b"1")])
    twice = make_tar(tmp_path / "twice.tar", [("a/x", b"1"), (again, b"2")])
    assert "'a/x' is there twice" in refused(tmp_path, twice)
    twice = make(tmp_path / "twice.zip", [("a/x", b"1"), (again, b"2")])
    other = make(tmp_path / "other.zip", [(again, b"2")])
    assert "'a/x'" in refused(tmp_path, twice)
    assert str(one) in refused(tmp_path, one, other)
    assert "twice" in refused(tmp_path, one, one)


def test_a_file_that_another_member_takes_for_a_folder(tmp_path):
    one, other = make(tmp_path / "1.zip", [("a", b"")]), make(tmp_path / "2.zip", [("a/b", b"")])
    assert "'a/b' cannot be extracted (File exists)" in refused(tmp_path, one, other)
    assert "'a' cannot be extracted (File exists)" in refused(tmp_path, other, one)
    deep = make(tmp_path / "3.zip", [("a/b/c/d", b"")])
    assert "'a/b/c/d' cannot be extracted (Not a directory)" in refused(tmp_path, one, deep)


def test_truncated_archives(tmp_path):
    path = make(tmp_path / "a.zip", [(str(i), bytes(1000)) for i in range(20)])
    content = path.read_bytes()
    for kept in (0.3, 0.9, 0.999):
        path.write_bytes(content[: int(kept * len(content))])
        assert "not complete (File is not a zip file); get it again" in refused(tmp_path, path)


def test_damaged_compressed_data(tmp_path):
    path = make(tmp_path / "a.zip", [("x", bytes(range(256)) * 40)])
    content = bytearray(path.read_bytes())
    content[60:80] = b"\xff" * 20
    path.write_bytes(content)
    assert "'x' cannot be extracted" in refused(tmp_path, path)


def claim_size(path: Path, size: int) -> None:
    """Change the size that a zip file of one member claims to contain."""
    content = bytearray(path.read_bytes())
    for position in (22, content.index(b"PK\x01\x02") + 24):
        content[position : position + 4] = struct.pack("<I", size)
    path.write_bytes(content)


def test_bombs(tmp_path):
    """zipfile reads no more of a member than its claimed size, so the claim is what counts."""
    path = make(tmp_path / "a.zip", [("bomb", bytes(1000))])
    claim_size(path, 120 * 2**20)
    assert "over 100 times its own size" in refused(tmp_path, path)
    claim_size(path, 10)
    assert "'bomb' cannot be extracted (Bad CRC-32" in refused(tmp_path, path)


def test_too_little_disk_space(tmp_path, monkeypatch):
    path = make(tmp_path / "a.zip", [("x", bytes(1000))])
    usage = type("Usage", (), {"free": 999})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    assert "make room" in refused(tmp_path, path)


def test_unsupported_compression(tmp_path):
    path = make(tmp_path / "a.zip", [("x", bytes(1000))], zipfile.ZIP_LZMA)
    assert "'x' is compressed by a method" in refused(tmp_path, path)


ADDED = [
    *(".DS_Store", "__MACOSX/images/._x.png", "images/._x.png", "Icon\r", ".Trashes/x.png"),
    *(
        "images/Thumbs.db",
        "THUMBS.DB",
        "Desktop.ini",
        "$RECYCLE.BIN/x.png",
        "x.png:Zone.Identifier",
    ),
    *("System Volume Information/x", "@eaDir/x.png/SYNOPHOTO_THUMB_M.jpg", "#recycle/x.png"),
    *(".ipynb_checkpoints/x.png", ".gitignore", "images/.directory", "lost+found/x"),
]
HIDDEN = {".frames/x.png": b"h", "images/.x.png": b"h", ".hidden": b"h"}


def test_what_programs_leave_is_left_out_and_hidden_data_is_not(tmp_path):
    added = [(name, b"1") for name in ADDED]
    first = make(tmp_path / "a.zip", [("images/x.png", b"x"), *added, *HIDDEN.items()])
    second = make_tar(tmp_path / "b.tar", [("labels/x.png", b"y"), *added])
    unpack([first, second], tmp_path / "out")
    assert tree(tmp_path / "out") == {"images/x.png": b"x", "labels/x.png": b"y", **HIDDEN}


def test_a_refused_archive_is_a_failure_of_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a.zip", [("good", b"x"), ("../evil", b"evil")])
    before = tree(tmp_path)
    with pytest.raises(SystemExit, match=r"^dsrl unpack: a\.zip: refused because") as exit_:
        main(["unpack", "a.zip", "--output", "raw"])
    assert "\n" not in str(exit_.value)
    assert tree(tmp_path) == before


def test_a_missing_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.zip does not exist"):
        unpack([tmp_path / "no.zip"], tmp_path / "out")
