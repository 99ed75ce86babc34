"""Zip and tar archives, opened and read in the same way."""

import bz2
import errno
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, Self

from dsrl.system.files import ZIP_DAMAGE

COMPRESSED: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
AGAIN = "get it again, or join its parts"
FOLDER = "unpack it yourself and name the folder with `folder:` in the description of the data set"
# What else people take for an archive, by its first bytes, and what to do.
OTHERS = (
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", FOLDER),
    (rb"Rar!\x1a\x07", "a RAR archive", FOLDER),
    (
        rb"\x28\xb5\x2f\xfd|\x04\x22\x4d\x18|LZIP|\x1f[\x9d\xa0]",
        "compressed with zstd, LZ4 or such",
        FOLDER,
    ),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file", "run `git lfs pull`"),
    (rb"(\xef\xbb\xbf)?\s*<", "a web page", "download the file again, logged in if need be"),
    (rb"\Z", "an empty file", "get it again"),
)


class Member(NamedTuple):
    """A file or a folder in an archive."""

    name: str  # as the archive has it
    size: int  # bytes, unpacked
    is_folder: bool
    refusal: str | None  # why it must not be extracted
    info: Any  # what its archive knows it by

    @property
    def path(self) -> PurePosixPath:
        """Where to extract it. Windows PowerShell 5 writes backslashes between folders."""
        return PurePosixPath(self.name.replace("\\", "/"))


class Archive(ABC):
    """An opened archive, closed at the end of a `with` block."""

    _file: zipfile.ZipFile | IO[bytes]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @abstractmethod
    def members(self) -> Iterator[Member]:
        """What is in it, in order."""

    @abstractmethod
    def open(self, member: Member) -> IO[bytes]:
        """The content of a file."""

    @abstractmethod
    def check_end(self) -> None:
        """Raises an error of the standard library if the archive is not complete, once all members
        have been listed."""


class Zip(Archive):
    """A zip archive. Reading a member compares it with its checksum."""

    def __init__(self, path: Path) -> None:
        self._file: zipfile.ZipFile = zipfile.ZipFile(path)

    def members(self) -> Iterator[Member]:
        for info in self._file.infolist():
            name = info.filename if "\0" not in info.orig_filename else info.orig_filename
            refusal = None
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                refusal = "is a link or a device, not a file"
            elif info.flag_bits & 0x1:
                refusal = "is encrypted; get it without a password"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                refusal = "is compressed by a method other than deflate; pack it again"
            yield Member(name, info.file_size, name.endswith(("/", "\\")), refusal, info)

    def open(self, member: Member) -> IO[bytes]:
        return self._file.open(member.info)

    def check_end(self) -> None:
        """Its table of contents is at the end, and has been read."""


class Tar(Archive):
    """A tar archive, compressed or not."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = _decompressed(path)
        try:
            self._tar = tarfile.TarFile(fileobj=self._file)
        except BaseException:
            self._file.close()
            raise

    def members(self) -> Iterator[Member]:
        for info in self._tar:
            if info.size < 0:  # would lead tarfile back, again and again
                raise tarfile.ReadError("negative size")
            refusal = None
            if not (info.isreg() or info.isdir()):
                refusal = (
                    "is a link or a device, not a file; pack it again with "
                    "`tar --dereference --hard-dereference`"
                )
            yield Member(info.name, info.size, info.isdir(), refusal, info)

    def open(self, member: Member) -> IO[bytes]:
        content = self._tar.extractfile(member.info)
        assert content is not None
        return content

    def check_end(self) -> None:
        """tarfile takes a damaged header for the end, and does not read on to a checksum."""
        self._file.seek(self._tar.offset)
        if self._file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("the end is missing, or damaged")
        while self._file.read(tarfile.RECORDSIZE):
            pass


def open_archive(path: Path) -> Archive:
    """Open an archive, whatever its name.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is damaged, or something else; one line says what, and what to do.
    """
    if path.is_dir():
        raise ValueError(folder_message(path))
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; put the archive there")
    with path.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    for magic, what, cure in OTHERS:
        if re.match(magic, start):
            raise ValueError(f"{path}: {what}, not a zip or tar archive; {cure}")
    with damage_named(path), _decompressed(path) as file:
        if _begins_tar(file.read(tarfile.BLOCKSIZE)):
            return Tar(path)
        file.read(2**22)  # bzip2 notices damage up to a block, of 900 kB, later
    with damage_named(path):
        if start.startswith(b"PK") or zipfile.is_zipfile(path):
            return Zip(path)
    if start.startswith(tuple(COMPRESSED)):
        raise ValueError(
            f"{path}: a compressed file with no tar archive in it; pack the files as zip or tar"
        )
    raise ValueError(f"{path}: not a zip or tar archive; get it again, or {FOLDER}")


def folder_message(path: Path) -> str:
    """One line: a folder is where an archive should be."""
    return (
        f"{path} is a folder, not an archive; write `folder: {path}` in place of `archives:` in "
        "the description of the data set"
    )


@contextmanager
def damage_named(path: Path, what: str = "not complete", cure: str = AGAIN) -> Iterator[None]:
    """Make an error about a damaged archive a ValueError of one line that says `what` is damaged.

    Raises:
        ValueError: the archive is damaged.
        OSError: files cannot be read or written for another reason.
    """
    try:
        yield
    except (*ZIP_DAMAGE, tarfile.TarError, lzma.LZMAError, OSError) as error:
        # Those of gzip and bz2 have no number; the others come of what archives contain.
        numbers = (None, errno.EEXIST, errno.ENOTDIR)
        if isinstance(error, OSError) and error.errno not in numbers:
            raise
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: {what} ({reason}); {cure}") from None


def _decompressed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    for magic, opener in COMPRESSED.items():
        if start.startswith(magic):
            opened: IO[bytes] = opener(path)
            return opened
    return path.open("rb")


def _begins_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.TarError:
        return False
    return True
