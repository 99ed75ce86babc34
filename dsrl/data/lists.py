"""Files that list the images of a split, one a line.

A line is the name of a sample (Pascal VOC), the path of an image (YOLO), or the paths of an image
and its label (CamVid). Blank lines and those that begin with `#` do not count.
"""

import codecs
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path, PurePosixPath

from dsrl.data.patterns import FilePattern, Key, normal

Ends = Mapping[str, list[tuple[list[str], Key]]]  # last part -> the parts before it, and the sample

SEPARATOR = re.compile(r"[\s,]+")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as `>` of Windows PowerShell 5 writes


def listed(
    path: Path,
    names: Mapping[Key, str],
    images: Mapping[Key, str],
    labels: Mapping[Key, str],
    pattern: FilePattern,
) -> set[Key]:
    """The samples that the file `path` lists.

    Paths in it may start from another folder, or be no more than the end of a path.

    Args:
        names: of the samples there are.
        images, labels: their files, below one folder.
        pattern: of the images.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not text, or a line names not one image, or another label than the
            image's, or an image again; one line names the file, the line and what it says.
    """
    by_name = {name: key for key, name in names.items()}
    by_image, by_label = _by_end(images, pattern.ending), _by_end(labels)
    found: dict[Key, int] = {}  # -> line

    def sample(text: str) -> Key | None:
        return by_name[text] if text in by_name else _find(text, by_image)

    for number, line in _lines(path):
        place, key = f"{path}, line {number}", sample(line)
        for separator in SEPARATOR.finditer(line) if key is None else ():
            first, second = line[: separator.start()], line[separator.end() :]
            if (key := sample(first)) is not None:
                if key in labels and _find(second, by_label) != key:
                    raise ValueError(
                        f"{place}: '{second}' is not the label of '{first}'; that is {labels[key]}"
                    )
                break
        if key is None:
            raise ValueError(
                f"{place}: '{line}' is not the name or path of one of the {len(images)} images that"
                f" match '{pattern.text}'; correct the line or the pattern"
            )
        if key in found:
            raise ValueError(f"{place}: '{line}' is in line {found[key]} too; remove one of them")
        found[key] = number
    if not found:
        raise ValueError(f"{path}: lists no image; write one name or path a line")
    return set(found)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that count, with their numbers from 1."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}, the list of a split, does not exist; it is looked for below the data folder, "
            "or, if it begins with `./`, in the current one"
        )
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8; save it as such") from None
    for number, line in enumerate(text.splitlines(), 1):
        if (stripped := normal(line.strip())) and not stripped.startswith("#"):
            yield number, stripped


def _by_end(files: Mapping[Key, str], ending: str = "") -> Ends:
    """Files by the last part of their path, as it is or without its suffix or `ending`."""
    ends = defaultdict(list)
    for key, file in files.items():
        path = normal(file)
        for spelling in {path, path.removesuffix(ending), str(PurePosixPath(path).with_suffix(""))}:
            *folders, name = spelling.split("/")
            ends[name].append((folders, key))
    return ends


def _find(text: str, ends: Ends) -> Key | None:
    """The file whose path agrees best with `text`: up to the beginning of one of them, or in two
    parts; None if there is none, or several."""
    *folders, name = [
        part for part in text.replace("\\", "/").split("/") if part not in ("", ".")
    ] or [""]
    fits: dict[int, set[Key]] = defaultdict(set)
    for others, key in ends.get(name, ()):
        pairs = zip(reversed(folders), reversed(others), strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if common >= min(1, len(folders), len(others)):
            fits[common].add(key)
    best = fits[max(fits)] if fits else set()
    return next(iter(best)) if len(best) == 1 else None
