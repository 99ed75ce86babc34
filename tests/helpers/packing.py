"""Archives to unpack, and what is unpacked."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from dsrl.data.archives import unpack


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
