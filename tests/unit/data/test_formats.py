"""Tar archives are as good as zips, and what is neither is called by its name."""

import bz2
import gzip
import hashlib
import lzma
import re
import tarfile
import zipfile

import pytest
from packing import TARS, make, make_tar, refused, tar_folder, tree

from dsrl.data import archives
from dsrl.data.archives import unpack


@pytest.mark.parametrize("suffix", TARS)
def test_tar_archives_give_the_same_as_zips(tmp_path, suffix):
    members = [("./images/x y.png", b"x" * 3000), ("labels/x.png", b""), ("./.DS_Store", b"1")]
    old = tarfile.TarInfo("old/")  # a folder as the tar of 1979 has it
    old.type = tarfile.AREGTYPE
    folders = [tar_folder("./"), tar_folder("./images"), tar_folder("empty"), (old, b"")]
    one = make_tar(tmp_path / f"one.{suffix}", [*folders, *members], TARS[suffix])
    other = make(tmp_path / "other.zip", [("more", b"more")])
    unpack([one, other], tmp_path / "out")
    assert tree(tmp_path / "out") == {
        "images/x y.png": b"x" * 3000,
        "labels/x.png": b"",
        "more": b"more",
    }
    assert (tmp_path / "out/empty").is_dir() and (tmp_path / "out/old").is_dir()


def test_the_content_counts_not_the_suffix(tmp_path):
    inner = make(tmp_path / "in.zip", [("a", b"a")]).read_bytes()
    tar = make_tar(tmp_path / "a.zip", [("x", b"x"), ("in.zip", inner)])
    assert zipfile.is_zipfile(tar), "a zip at the end of a tar looks like one"
    unpack([tar], tmp_path / "out")
    assert tree(tmp_path / "out") == {"x": b"x", "in.zip": inner}
    unpack([make(tmp_path / "b.tar", [("x", b"x")])], tmp_path / "other")
    assert tree(tmp_path / "other") == {"x": b"x"}


def test_links_and_devices_in_tar_archives(tmp_path):
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    for kind in kinds:
        for target in ("/etc/passwd", "../x", "x"):
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, target
            path = make_tar(tmp_path / "a.tar", [("x", b"x"), (info, b""), ("link/y", b"evil")])
            assert "'link' is a link or a device" in refused(tmp_path, path)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_truncated_tar_archives(tmp_path, suffix):
    """Also where a member ends, which tarfile takes for the end of the archive."""
    noise = [(str(i), hashlib.sha256(bytes([i])).digest() * 64) for i in range(9)]
    path = make_tar(tmp_path / f"a.{suffix}", noise, TARS[suffix])
    content = path.read_bytes()
    cuts = [2 * 2560, 2 * 2560 + 512, 2 * 2560 + 700] if suffix == "tar" else [200, -9, -1]
    for cut in cuts:
        path.write_bytes(content[:cut])
        assert re.search("not complete|cannot be extracted", refused(tmp_path, path)), cut


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_damaged_tar_archives(tmp_path, suffix):
    """A damaged header in the middle ends the archive for tarfile; a checksum comes at the end."""
    noise = [(str(i), hashlib.sha256(bytes([i])).digest() * 64) for i in range(9)]
    path = make_tar(tmp_path / f"a.{suffix}", noise, TARS[suffix])
    content = bytearray(path.read_bytes())
    place = {"tar": 2 * 2560 + 3, "tar.gz": -6}.get(suffix, len(content) // 2)
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert re.search("not complete|cannot be extracted", refused(tmp_path, path))


def test_tar_bombs(tmp_path, monkeypatch):
    """They are refused once too much is claimed, before it is read; headers count too."""
    monkeypatch.setattr(archives, "MAX_EXTRA", 2**20)
    path = make_tar(tmp_path / "a.tar.gz", [("bomb", bytes(2**24))], "w:gz")
    assert "over 100 times its own size" in refused(tmp_path, path)
    path = make_tar(tmp_path / "b.tar.xz", [(str(i), b"") for i in range(5000)], "w:xz")
    assert "over 100 times its own size" in refused(tmp_path, path)
    info = tarfile.TarInfo("back")
    info.size = -512
    header = info.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "c.tar"
    path.write_bytes(header + bytes(1024))
    assert "not complete (negative size)" in refused(tmp_path, path)


PNG = b"\x89PNG\r\n\x1a\n" + bytes(1000)


@pytest.mark.parametrize(
    ("content", "what", "cure"),
    [
        (b"", "an empty file", "get it again"),
        (bytes(2000), "not a zip or tar archive", "get it again"),
        (PNG, "not a zip or tar archive", "get it again"),
        (b'{"error": "not found"}', "not a zip or tar archive", "get it again"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(99), "a 7z archive", "with `folder:`"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(99), "a RAR archive", "with `folder:`"),
        (b"\x28\xb5\x2f\xfd" + bytes(99), "compressed with zstd", "with `folder:`"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "a web page", "logged in"),
        (gzip.compress(PNG), "a compressed file with no tar archive in it", "as zip or tar"),
        (bz2.compress(PNG), "a compressed file with no tar archive in it", "as zip or tar"),
        (lzma.compress(PNG), "a compressed file with no tar archive in it", "as zip or tar"),
        (gzip.compress(b""), "a compressed file with no tar archive in it", "as zip or tar"),
        (gzip.compress(PNG)[:12], "not complete", "get it again"),
        (b"\x1f\x8b\x08" + bytes(99), "not complete", "get it again"),
        (b"BZh9" + bytes(99), "not complete", "get it again"),
        (b"\xfd7zXZ\0" + bytes(99), "not complete", "get it again"),
        (b"PK\x03\x04" + bytes(99), "not complete", "join its parts"),
    ],
    # gzip writes the time of day, and all processes must name the tests alike.
    ids=lambda value: "content" if isinstance(value, bytes) else value,
)
def test_what_is_no_archive_is_called_by_its_name(tmp_path, content, what, cure):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    told = refused(tmp_path, path)
    assert told.startswith(f"{path}: {what}") and cure in told


def test_archives_without_files(tmp_path):
    for path in (
        make(tmp_path / "a.zip", [("images/", b""), (".DS_Store", b"1")]),
        make_tar(tmp_path / "a.tar", [tar_folder("images")]),
    ):
        assert "contains no files" in refused(tmp_path, path)


def test_a_folder_in_place_of_an_archive(tmp_path):
    (tmp_path / "own").mkdir()
    assert f"write `folder: {tmp_path / 'own'}`" in refused(tmp_path, tmp_path / "own")
