"""Downloading and unpacking the archives of a data set, without trusting them."""

import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath

from tqdm import tqdm

from dsrl.data.description import DatasetDescription, Download
from dsrl.data.formats import Archive, Member, damage_named, folder_message, open_archive
from dsrl.data.images import is_clutter
from dsrl.system.download import download_file
from dsrl.system.files import atomic_directory, make_folder

TIMEOUT = 60  # seconds without an answer
MAX_RATIO, MAX_EXTRA = 100, 100 * 2**20  # images hardly compress: ample for real archives
OVERHEAD = 512  # bytes that a member takes, however small it is

# Archives of one data set may each contain their own, as those of Cityscapes do: keep the first.
COMPANION = re.compile(r"(readme|licen[cs]e)(\.\w+)?", re.IGNORECASE)


def unpack(archives: Sequence[Path], output: Path) -> None:
    """Extract zip and tar archives into the folder `output`, all of them or nothing.

    What programs leave in folders, such as `.DS_Store`, is left out. A README or licence at the top
    of several archives is taken from the first one.

    Raises:
        FileExistsError: `output` exists, and is not an empty folder.
        FileNotFoundError: an archive does not exist.
        ValueError: an archive is damaged or encrypted, contains links, paths outside of `output` or
            duplicates, or does not fit on the disk; one line names the archive and its member.
        OSError: the folder cannot be written, or the disk is full.
    """
    output = Path(output)
    found = output.iterdir() if output.is_dir() else ()
    if output.is_symlink() or not all(is_clutter(PurePath(path.name)) for path in found):
        raise FileExistsError(f"{output} exists; choose another --output, or remove it")
    with ExitStack() as stack:
        taken: dict[str, Path] = {}  # file -> archive it comes from
        contents = []
        for path in map(Path, archives):
            archive = stack.enter_context(open_archive(path))
            contents.append((path, archive, _members(path, archive, taken)))
        size = sum(member.size for _, _, members in contents for member in members)
        make_folder(output.parent)
        if size > (free := shutil.disk_usage(output.parent).free):
            raise ValueError(
                f"{', '.join(map(str, archives))}: unpacking into {output} needs {size / 1e9:.1f} "
                f"GB, but only {free / 1e9:.1f} GB are free; make room"
            )
        folder = stack.enter_context(atomic_directory(output))
        progress = stack.enter_context(
            tqdm(total=size, unit="B", unit_scale=True, desc="unpack", disable=None)
        )
        for path, archive, members in contents:
            for member in members:
                _extract(path, archive, member, folder)
                progress.update(member.size)
            with damage_named(path):
                archive.check_end()


def _members(path: Path, archive: Archive, taken: dict[str, Path]) -> list[Member]:
    """The members of an archive to extract; adds its files to `taken`."""
    members = []
    for member in _list_members(path, archive):
        if reason := member.refusal or _refusal(member):
            raise ValueError(f"{path}: refused because its member {member.name!r} {reason}")
        name = str(member.path)
        if is_clutter(member.path) or (COMPANION.fullmatch(name) and taken.get(name, path) != path):
            continue
        if not member.is_folder and name in taken:
            where = "twice" if taken[name] == path else f"also in {taken[name]}"
            raise ValueError(f"{path}: refused because its member {name!r} is there {where}")
        members.append(member)
        if not member.is_folder:
            taken[name] = path
    if all(member.is_folder for member in members):
        raise ValueError(f"{path}: contains no files; get it again")
    return members


def _list_members(path: Path, archive: Archive) -> list[Member]:
    """All members, unless they claim to be far larger than the archive."""
    members, size, limit = [], 0, MAX_RATIO * path.stat().st_size + MAX_EXTRA
    with damage_named(path):
        for member in archive.members():
            members.append(member)
            size += member.size + OVERHEAD
            if size > limit:
                break
    if size > limit:
        raise ValueError(
            f"{path}: refused because it claims to contain {size / 1e9:.1f} GB or more, over "
            f"{MAX_RATIO} times its own size; get it again"
        )
    return members


def _refusal(member: Member) -> str | None:
    """Why the name of a member must not be used; None if it may be."""
    path, name = member.path, str(member.path)
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:|.*\0", name, re.DOTALL):
        return "has a path that leads out of the target folder"
    if not path.parts and not member.is_folder:
        return "has no name"
    return None


def _extract(path: Path, archive: Archive, member: Member, folder: Path) -> None:
    """Write one member below `folder`."""
    target = folder / member.path
    with damage_named(path, f"its member {member.name!r} cannot be extracted"):
        if member.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file)


def download(source: Download, path: Path) -> None:
    """Download an archive to the file `path`; on failure nothing is left behind.

    Raises:
        FileExistsError: `path` exists.
        OSError: the download failed, or its SHA-256 is not the expected one; one line names the
            address, the file and the cure.
    """
    path = Path(path)
    if path.is_file():
        raise FileExistsError(f"{path} exists; remove it to download it again")
    try:
        download_file(source.url, source.sha256, path, _check_complete, TIMEOUT)
    except OSError as error:
        raise OSError(
            f"could not download {source.url} to {path} ({error}); repeat the command, or download "
            "the file by hand and put it there"
        ) from None


def _check_complete(path: Path) -> None:
    """Raises OSError if a file is not a complete archive."""
    try:
        with open_archive(path) as archive:
            _list_members(path, archive)
            with damage_named(path):
                archive.check_end()
    except ValueError as error:
        raise OSError(str(error).removeprefix(f"{path}: ")) from None


def missing_archive_message(description: DatasetDescription, archive: str, folder: Path) -> str:
    """One line: which archive is missing, where it is available from, and where to put it."""
    if (Path(folder) / archive).is_dir():
        return folder_message(Path(folder) / archive)
    known = description.downloads.get(archive)
    source = known.url if known else description.homepage
    origin = f" get {Path(archive).name} from {source} and" if source else ""
    return (
        f"{Path(folder) / archive} is missing, an archive of the data set '{description.name}';"
        f"{origin} put it there, or link the folder of the unpacked files to "
        f"data/raw/{description.name}, or name it with `folder:` in a description"
    )
