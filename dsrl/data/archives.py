"""Downloading and unpacking the archives of a data set, without trusting them."""

import re
import shutil
import socket
import stat
import sys
import zipfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from dsrl.data.description import DatasetDescription, Download
from dsrl.data.images import is_clutter
from dsrl.system.files import ZIP_DAMAGE, atomic_directory, atomic_file, make_folder

TIMEOUT = 60  # seconds without an answer
MAX_RATIO, MAX_EXTRA = 100, 100 * 2**20  # images hardly compress: ample for real archives

# Archives of one data set may each contain their own, as those of Cityscapes do: keep the first.
COMPANION = re.compile(r"(readme|licen[cs]e)(\.\w+)?", re.IGNORECASE)


def unpack(archives: Sequence[Path], output: Path) -> None:
    """Extract zip archives into the folder `output`, all of them or nothing.

    Hidden files and what macOS and Windows add to archives are left out. A README or licence at
    the top of several archives is taken from the first one.

    Raises:
        FileNotFoundError: an archive does not exist.
        ValueError: an archive is damaged or encrypted, contains links, paths outside of `output` or
            duplicates, or does not fit on the disk; one line names the archive and its member.
        OSError: the folder cannot be written, or the disk is full.
    """
    output = Path(output)
    taken: dict[str, Path] = {}  # file -> archive it comes from
    members = [(path, _members(path, taken)) for path in map(Path, archives)]
    size = sum(info.file_size for _, infos in members for info in infos)
    make_folder(output.parent)
    if size > (free := shutil.disk_usage(output.parent).free):
        raise ValueError(
            f"{', '.join(map(str, archives))}: unpacking into {output} needs {size / 1e9:.1f} GB, "
            f"but only {free / 1e9:.1f} GB are free; make room"
        )
    with (
        atomic_directory(output) as folder,
        tqdm(total=size, unit="B", unit_scale=True, desc="unpack", disable=None) as progress,
    ):
        for path, infos in members:
            with zipfile.ZipFile(path) as archive:
                for info in infos:
                    _extract(archive, info, folder)
                    progress.update(info.file_size)


def _members(path: Path, taken: dict[str, Path]) -> list[zipfile.ZipInfo]:
    """The members of an archive to extract; adds its files to `taken`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; put the archive there")
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except ZIP_DAMAGE as error:
        raise ValueError(f"{path}: not a complete zip file ({error}); get it again") from None
    size, limit = sum(i.file_size for i in infos), MAX_RATIO * path.stat().st_size + MAX_EXTRA
    if size > limit:
        raise ValueError(
            f"{path}: refused because it claims to contain {size / 1e9:.1f} GB, more than "
            f"{MAX_RATIO} times its own size; get it again"
        )
    members = []
    for info in infos:
        if reason := _refusal(info):
            raise ValueError(f"{path}: refused because its member {info.filename!r} {reason}")
        member = PurePosixPath(info.filename)
        name = str(member)
        if is_clutter(member) or (COMPANION.fullmatch(name) and taken.get(name, path) != path):
            continue
        if not info.is_dir() and name in taken:
            where = "twice" if taken[name] == path else f"also in {taken[name]}"
            raise ValueError(f"{path}: refused because its member {name!r} is there {where}")
        members.append(info)
        if not info.is_dir():
            taken[name] = path
    return members


def _refusal(info: zipfile.ZipInfo) -> str | None:
    """Why a member must not be extracted; None if it may be."""
    name = info.orig_filename  # as stored: zipfile cuts `filename` at a NUL
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or not path.parts
        or any(character in name for character in "\\\0")
        or re.match(r"[A-Za-z]:", name)
    ):
        return "has a path that leads out of the target folder"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if info.flag_bits & 0x1:
        return "is encrypted; get it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed by a method other than deflate; pack it again"
    return None


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> None:
    """Write one member below `folder`; zipfile compares its content with its checksum."""
    target = folder / info.filename
    try:
        if info.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file)
    except (*ZIP_DAMAGE, FileExistsError, NotADirectoryError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"{archive.filename}: its member {info.filename!r} cannot be extracted ({reason}); get "
            "the archive again"
        ) from None


def download(source: Download, path: Path) -> None:
    """Download an archive to the file `path`; on failure nothing is left behind.

    Raises:
        OSError: the download failed, or its SHA-256 is not the expected one; one line names the
            address, the file and the cure.
    """
    from torch.hub import download_url_to_file

    path, timeout = Path(path), socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torch sets none, and a lost connection would hang forever
    try:
        with atomic_file(path) as temporary:
            progress = sys.stderr.isatty()
            download_url_to_file(source.url, str(temporary), source.sha256, progress)
            if not zipfile.is_zipfile(temporary):  # torch accepts a connection that ends early
                raise OSError("incomplete, or not a zip file")
    except (OSError, HTTPException, RuntimeError) as error:
        raise OSError(
            f"could not download {source.url} to {path} ({error or type(error).__name__}); repeat "
            "the command, or download the file by hand and put it there"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def missing_archive_message(description: DatasetDescription, archive: str, folder: Path) -> str:
    """One line: which archive is missing, where it is available from, and where to put it."""
    known = description.downloads.get(archive)
    source = known.url if known else description.homepage
    origin = f" get {Path(archive).name} from {source} and" if source else ""
    return (
        f"{Path(folder) / archive} is missing, an archive of the data set '{description.name}';"
        f"{origin} put it there"
    )
