"""Patterns of file names such as `train/{city}/{frame}.*`."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from dsrl.data.images import PICTURES, is_clutter

PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
TOKEN = re.compile(PLACEHOLDER.pattern + r"|\*")
Key = tuple[str, ...]  # the values of the placeholders


def normal(text: str) -> str:
    """A name in the composed form of Unicode (NFC): file systems and archives have either form."""
    return unicodedata.normalize("NFC", text)


class FilePattern:
    """A pattern of file names below a folder.

    A `{placeholder}` stands for what names a file, `*` for what does not; neither matches `/`. A
    placeholder that occurs twice has the same value in both places. A pattern that ends in `.*`
    matches image files only, by their suffix.
    """

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.ending = normal(TOKEN.split(pattern)[-1])
        self.placeholders = list(dict.fromkeys(PLACEHOLDER.findall(pattern)))
        self._regex = _compile(pattern)
        self._parts = [_compile(part) for part in PurePosixPath(pattern).parts]

    def find(self, raw: Path) -> dict[str, Key]:
        """The files below `raw` that match, by their relative paths, with their placeholders.

        The values are in NFC, the paths as they are on disk.

        Raises:
            ValueError: a file matches only if a placeholder has two values, or its name is not
                Unicode.
        """
        found = {}
        for path in _walk(raw, self._parts):
            relative = path.relative_to(raw)
            if is_clutter(relative) or (self.text.endswith(".*") and not _is_image(path)):
                continue
            match = self._regex.fullmatch(normal(relative.as_posix()))
            if match is None:
                raise ValueError(f"{path} does not fit the pattern '{self.text}'; rename it")
            if any("\udc80" <= character <= "\udcff" for character in match[0]):
                raise ValueError(f"{path}: the name is not in UTF-8; rename it")
            found[relative.as_posix()] = tuple(match[name] for name in self.placeholders)
        return found

    def values(self, key: Key) -> dict[str, str]:
        """The placeholders with their values."""
        return dict(zip(self.placeholders, key, strict=True))

    def fill(self, values: Mapping[str, str]) -> str:
        """The path of the file with these values for the placeholders; a `*` stays."""
        return self.text.format_map(values)

    def no_match(self, raw: Path) -> str:
        """One line for an error: that no file matches, and what there is instead."""
        text = f"{raw}: no file matches '{self.text}'"
        files = [path.relative_to(raw) for path in _files_below(raw)]
        files = sorted(file for file in files if not is_clutter(file))
        if not files:
            return f"{text}; the folder has no files"
        parts = PurePosixPath(self.text).parts
        # A file name alone, such as `{frame}.png`, would fit in too many folders.
        for start in range(max(1, len(parts) - 1)):
            regex, tokens = _loose("/".join(parts[start:]))
            for file in files if tokens else ():
                if match := regex.fullmatch(normal(file.as_posix())):
                    similar = "".join(map("".join, zip(match.groups(), [*tokens, ""], strict=True)))
                    if similar != self.text:
                        return f"{text}; found {file}: did you mean '{similar}'?"
        example = next(filter(_is_image, files), files[0])
        return f"{text}; found only files such as {example}"


def _compile(pattern: str) -> re.Pattern[str]:
    regex, seen, end = "", set[str](), 0
    for match in TOKEN.finditer(pattern):
        regex += re.escape(normal(pattern[end : match.start()]))
        name, end = match[1], match.end()
        if name is None:
            regex += "[^/]*"
        else:
            regex += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            seen.add(name)
    return re.compile(regex + re.escape(normal(pattern[end:])))


def _loose(pattern: str) -> tuple[re.Pattern[str], list[str]]:
    """A regular expression for files in other folders, with another suffix, or with capitals for
    small letters; its groups are what is between the tokens of the pattern."""
    tokens = [match[0] for match in TOKEN.finditer(pattern)]
    literals = TOKEN.split(normal(pattern))[::2]
    groups = ["(?:.*/)?" + re.escape(literals[0]), *map(re.escape, literals[1:-1])]
    stem, dot, suffix = literals[-1].rpartition(".")
    groups.append(re.escape(stem) + r"\.\w+" if dot else re.escape(suffix))
    return re.compile("[^/]+".join(f"({group})" for group in groups), re.IGNORECASE), tokens


def pictures_below(folder: Path) -> Iterator[Path]:
    """The image files below a folder, by their suffix: paths relative to it."""
    for path in _files_below(folder):
        relative = path.relative_to(folder)
        if _is_image(path) and not is_clutter(relative):
            yield relative


def _files_below(folder: Path) -> Iterator[Path]:
    seen = set()  # links may lead in a circle
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in names)


def _walk(folder: Path, parts: Sequence[re.Pattern[str]]) -> Iterator[Path]:
    """The files whose path below `folder` matches, name by name."""
    first, *rest = parts
    with os.scandir(folder) as entries:
        found = [
            folder / entry.name
            for entry in entries
            if first.fullmatch(normal(entry.name)) and entry.is_dir() == bool(rest)
        ]
    for path in sorted(found):
        if rest:
            yield from _walk(path, rest)
        else:
            yield path


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in PICTURES
