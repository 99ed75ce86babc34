"""Getting at what the archives of a data set hold, without trusting them."""

import http.client
import re
import shutil
import stat
import struct
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm import tqdm

from dsrl.data.description import DatasetDescription
from dsrl.system.files import atomic_directory, atomic_file, make_folder

CHUNK = 2**20
TIMEOUT = 60  # seconds without an answer
MAX_RATIO, MAX_EXTRA = 100, 100 * 2**20  # archives of images hardly shrink; ample for real ones

# What a damaged or invented zip file makes the standard library raise.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
# Archives of one data set each bring their own, as those of Cityscapes do: the first is kept.
COMPANION = re.compile(r"(readme|licen[cs]e)(\.\w+)?", re.IGNORECASE)


def unpack(archives: Sequence[Path], output: Path) -> None:
    """Extract zip archives into the folder `output`, all of them or nothing.

    A README or licence at the top of several archives is taken from the first one.

    Raises:
        FileNotFoundError: an archive does not exist.
        ValueError: an archive is damaged or encrypted, would write outside of `output` or twice
            to one place, or would fill the disk; one line names the archive and its member.
        OSError: the folder cannot be written, or the disk is full.
    """
    taken: dict[str, Path] = {}  # file -> archive it comes from
    members = [(path, _inspect(path, taken)) for path in map(Path, archives)]
    _refuse_files_as_folders(taken)
    size = sum(info.file_size for _, infos in members for info in infos)
    output = Path(output)
    make_folder(output.parent)
    if size > (free := shutil.disk_usage(output.parent).free):
        raise ValueError(
            f"{', '.join(str(path) for path, _ in members)}: unpacking into {output} takes "
            f"{size / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free; make room"
        )
    with (
        atomic_directory(output) as folder,
        tqdm(total=size, unit="B", unit_scale=True, desc="unpack", disable=None) as progress,
    ):
        for path, infos in members:
            for written in _extract(path, infos, folder):
                progress.update(written)


def _inspect(path: Path, taken: dict[str, Path]) -> list[zipfile.ZipInfo]:
    """The members of an archive that are to be extracted; its files are added to `taken`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; put the archive there")
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except DAMAGE as error:
        raise ValueError(f"{path}: not a complete zip file ({error}); get it again") from None
    size, limit = sum(i.file_size for i in infos), MAX_RATIO * path.stat().st_size + MAX_EXTRA
    if size > limit:
        raise ValueError(
            f"{path}: claims to hold {size / 1e9:.1f} GB, absurdly much for its own size; "
            "it is not what it seems"
        )
    members = []
    for info in infos:
        if reason := _refusal(info):
            raise ValueError(f"{path}: refused because its member {info.filename!r} {reason}")
        name = str(PurePosixPath(info.filename))
        if not info.is_dir() and name in taken:
            if taken[name] != path and COMPANION.fullmatch(name):
                continue
            where = "twice" if taken[name] == path else f"in {taken[name]}, too"
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


def _refuse_files_as_folders(taken: dict[str, Path]) -> None:
    for name, path in taken.items():
        for parent in map(str, PurePosixPath(name).parents):
            if parent in taken:
                raise ValueError(
                    f"{path}: refused because {parent!r}, in which its member {name!r} lies, is "
                    f"a file in {taken[parent]}"
                )


def _extract(path: Path, infos: Sequence[zipfile.ZipInfo], folder: Path) -> Iterator[int]:
    """Write members below `folder`; yields the number of bytes of each step."""
    with zipfile.ZipFile(path) as archive:
        for info in infos:
            target = folder / info.filename
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                for chunk in _read(archive, info, path):
                    file.write(chunk)
                    yield len(chunk)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Iterator[bytes]:
    """The content of a member; its size and checksum are verified."""
    left = info.file_size
    try:
        with archive.open(info) as member:
            while chunk := member.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
    except DAMAGE as error:
        raise ValueError(
            f"{path}: its member {info.filename!r} is damaged ({error}); get the archive again"
        ) from None
    if left:
        raise ValueError(
            f"{path}: its member {info.filename!r} is damaged (not the {info.file_size} bytes it "
            "claims to have); get the archive again"
        )


def download(url: str, path: Path) -> None:
    """Fetch `url` into the file `path`; on failure nothing is left behind.

    Raises:
        OSError: one line that says what to fetch by hand, and where to put it.
    """
    try:
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            _fetch(url, file, Path(path).name)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"could not download {url} ({error or type(error).__name__}); fetch it by hand and "
            f"put it at {path}"
        ) from None


def _fetch(url: str, file: BinaryIO, name: str) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        size = int(response.headers.get("Content-Length") or 0)
        with tqdm(
            total=size or None, unit="B", unit_scale=True, desc=name, disable=None
        ) as progress:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    # http.client takes a connection that ends early for the end of the file
    if size and file.tell() != size:
        raise OSError(f"the connection ended after {file.tell()} of {size} bytes")


def missing_archive_message(description: DatasetDescription, archive: str, folder: Path) -> str:
    """One line: which file is missing, where it is to be had, and where to put it."""
    source = description.urls.get(archive) or description.homepage
    origin = f" get {Path(archive).name} from {source} and" if source else ""
    return (
        f"{Path(folder) / archive} is missing, an archive of the data set '{description.name}';"
        f"{origin} put it there"
    )
