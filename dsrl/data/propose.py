"""A first description of a data set, from the files in a folder, for the user to complete."""

import colorsys
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import yaml
from PIL import ImageFile
from tqdm import tqdm

from dsrl.data.depth import read_header, stored_values
from dsrl.data.description import packed_colors, unpacked
from dsrl.data.images import open_image
from dsrl.data.labels import COLORS, LOSSLESS, MODES, opaque_colors, palette_colors
from dsrl.data.patterns import pictures_below

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
FEW = 64  # values or colors, of labels; photographs have more
LOOKED_AT = 3  # files that tell whether a group has images or labels
UNLABELLED = 255  # by convention

Color = tuple[int, ...]  # red, green, blue
Value = int | Color  # a label id, or a color


class Group(NamedTuple):
    """The files of a folder whose names, apart from the suffix, end alike, as in `_mask`."""

    folder: str
    ending: str
    files: Mapping[str, str]  # what is before the ending -> path below the root

    @property
    def suffix(self) -> str:
        """That of the files; `.*` if they have several."""
        suffixes = {PurePosixPath(file).suffix for file in self.files.values()}
        return suffixes.pop() if len(suffixes) == 1 else ".*"


class Match(NamedTuple):
    """Images and their labels."""

    images: Group
    labels: Group

    @property
    def split(self) -> str:
        """The split that one of the folders is named after, or `all`."""
        parts = PurePosixPath(self.images.folder, self.labels.folder).parts
        return next((SPLITS[part.lower()] for part in parts if part.lower() in SPLITS), "all")


def propose(folder: Path) -> str:
    """The text of a YAML file that describes the data set in `folder`.

    Values of the label files become ids, or, of color masks, colors; names are for the user to
    give. 255 is taken as unlabelled.

    Raises:
        NotADirectoryError: there is no such folder.
        ValueError: no images with labels are found in it, some labels have ids, others colors, or
            palettes differ.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder")
    matches = list(_matches(folder))
    if not matches:
        raise ValueError(
            f"{folder}: no images with label files of the same names are found; labels are "
            "lossless files (PNG, TIFF, BMP, ...) of few values or colors"
        )
    splits = defaultdict(list)
    for match in matches:
        splits[match.split].append(match)
    if not {"train", "val"} <= splits.keys():
        splits = defaultdict(list, {"all": matches})
    patterns = {name: _patterns(found) for name, found in splits.items()}
    counts, palette = _count(folder, matches)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._") or "my-data"
    lines = [
        f"# Proposed by `dsrl describe {folder}`: check the patterns, and name the labels.",
        f"name: {name}",
        f"folder: {yaml.safe_dump(str(folder.resolve())).splitlines()[0]}",
        "splits:",
    ]
    for split in [name for name in ("all", "train", "val", "test") if name in patterns]:
        image, label = (yaml.safe_dump(text).splitlines()[0] for text in patterns[split])
        lines.append(f"  {split}:")
        lines += [f"    image: {image}", f"    label: {label}"]
        pairs = sum(len(m.images.files.keys() & m.labels.files.keys()) for m in splits[split])
        if pairs < sum(len(match.images.files) for match in splits[split]):
            lines.append("    unlabelled: skip # some images have no label")
    if "all" in patterns:
        lines.append(
            "split: {train: 0.8, val: 0.2, seed: 0} # group: PLACEHOLDER keeps its files together"
        )
    return "\n".join([*lines, *_labels(counts, palette), ""])


def _matches(root: Path) -> Iterator[Match]:
    """Each group of images with the group of labels that has most of its names. Of several that
    have the same labels, that with the shortest ending, as depth maps lie beside some labels."""
    images, labels = list[Group](), list[Group]()
    for group in _groups(root):
        kinds = {
            _is_label(root / file)
            for file in list(group.files.values())[:: _step(group, LOOKED_AT)]
        }
        kinds.discard(None)  # damaged ones, which `dsrl preprocess` names
        if kinds == {True}:
            labels.append(group)
        elif kinds == {False}:
            images.append(group)
    found: dict[str, Match] = {}
    for group in sorted(images, key=lambda group: len(group.ending), reverse=True):

        def fit(other: Group, group: Group = group) -> tuple[int, int]:
            common = len(group.files.keys() & other.files.keys())
            parts = set(PurePosixPath(group.folder).parts) & set(PurePosixPath(other.folder).parts)
            return common, len(parts)

        best = max(labels, key=fit, default=None)
        if best and 2 * fit(best)[0] >= min(len(group.files), len(best.files)):
            found[f"{best.folder}/{best.ending}"] = Match(group, best)
    yield from sorted(found.values(), key=lambda match: match.images.folder)


def _step(group: Group, files: int) -> int:
    return max(1, len(group.files) // files)


def _groups(root: Path) -> Iterator[Group]:
    folders: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in sorted(pictures_below(root)):
        folders[path.parent.as_posix()].append(PurePosixPath(path))
    for folder, paths in folders.items():
        endings = Counter(ending for path in paths for ending in _endings(path.stem))
        groups: dict[str, dict[str, str]] = defaultdict(dict)
        for file in paths:
            # The longest that several files share.
            common = (e for e in _endings(file.stem) if endings[e] >= max(2, len(paths) / 5))
            ending = next(common, "")
            groups[ending][file.stem.removesuffix(ending)] = file.as_posix()
        for ending, files in groups.items():
            yield Group(folder, ending, files)


def _endings(stem: str) -> list[str]:
    """What a name may end in after its first letters, such as `_street_mask` and `_mask`."""
    starts = (match.start() for match in re.finditer(r"[_.-](?=[A-Za-z])", stem))
    return [stem[start:] for start in starts if start > 0]


def _is_label(path: Path) -> bool | None:
    """Whether a file is a label rather than an image; None if it cannot be read."""
    with suppress(ValueError), open_image(path) as image:
        if image.format not in LOSSLESS or image.mode not in (*MODES, *COLORS):
            return False
        if image.mode in ("L", "P", "1", *COLORS):
            return image.getcolors(FEW) is not None
        return len(_values(image, path)) <= FEW
    return None


def _values(image: ImageFile.ImageFile, path: Path) -> Counter[Value]:
    """How often each value, or each color, occurs in an opened label file."""
    header = read_header(image, path)
    if image.mode in COLORS:
        packed = packed_colors(opaque_colors(image, header))
        values, counts = np.unique(packed, return_counts=True)
        return Counter(dict(zip(map(unpacked, values.tolist()), counts.tolist(), strict=True)))
    values, counts = np.unique(stored_values(image, header), return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _patterns(matches: Sequence[Match]) -> tuple[str, str]:
    """The patterns of image and label that fit all matches, with a placeholder for a folder in
    which they differ; where there is no such pattern, those of the largest match."""
    first = max(matches, key=lambda match: len(match.images.files))
    parts = [
        [PurePosixPath(group.folder).parts for group in match]
        for match in matches
        if len(match.images.files) and match.images.ending == first.images.ending
    ]
    texts, varies = [], 0
    for side in (0, 1):
        own = PurePosixPath(first[side].folder).parts
        same_depth = all(len(both[side]) == len(own) for both in parts)
        columns = zip(*(both[side] for both in parts), strict=True) if same_depth else ()
        folders = [
            column[0] if len(set(column)) == 1 else "{folder}" for column in columns
        ] or list(own)
        varies += folders.count("{folder}")
        name = f"{{name}}{first[side].ending}{first[side].suffix}"
        texts.append("/".join([*folders, name]))
    if varies not in (0, 2):
        texts = [f"{group.folder}/{{name}}{group.ending}{group.suffix}" for group in first]
    return texts[0].removeprefix("./"), texts[1].removeprefix("./")


def _count(root: Path, matches: Sequence[Match]) -> tuple[Counter[Value], dict[int, Color]]:
    """How often each value occurs in the label files, of all splits: a value that is missing in
    the description stops `dsrl preprocess`; and the colors that palettes show the ids in."""
    counts: Counter[Value] = Counter()
    palette: dict[int, Color] = {}
    shown_by: dict[int, str] = {}
    files = [file for match in matches for file in match.labels.files.values()]
    for file in tqdm(files, "count", unit="label", disable=None, leave=False):
        with open_image(root / file) as image:
            found = _values(image, root / file)
            counts += found
            colors = palette_colors(image) if image.mode == "P" else []
        for value in found:
            if not isinstance(value, int) or value >= len(colors):
                continue
            if palette.setdefault(value, colors[value]) != colors[value]:
                raise ValueError(
                    f"{root / file}: its palette shows the index {value} as "
                    f"{list(colors[value])}, that of {shown_by[value]} as {list(palette[value])}, "
                    "so that indices are not ids; save the label files as RGB, whose colors are "
                    "mapped"
                )
            shown_by.setdefault(value, file)
    if len({type(value) for value in counts}) > 1:
        raise ValueError(
            f"{root / matches[0].labels.folder}: some label files have ids and others colors; save "
            "them all in one way"
        )
    grey = all(color == (value,) * 3 for value, color in palette.items())
    return counts, {} if grey or len(set(palette.values())) < len(palette) else palette


def _labels(counts: Counter[Value], palette: Mapping[int, Color]) -> Iterator[str]:
    """The lines of `labels`, with the share of each value as a comment."""
    colors = any(isinstance(value, tuple) for value in counts)
    what = "colors" if colors else "values"
    yield f"labels: # the {what} that occur, with their share of the pixels"
    for number, value in enumerate(sorted(counts)):
        share = f"{100 * counts[value] / counts.total():.3g} %"
        if isinstance(value, tuple):
            text = f"id: {number}, name: class_{number}, color: {list(value)}"
        elif value == UNLABELLED and len(counts) > 2:  # else that is white, the other class
            color = palette.get(value, (0, 0, 0))
            text = f"id: {value}, name: unlabelled, color: {list(color)}, ignore: true"
        else:
            hue = number * 0.618 % 1  # neighbours differ most
            color = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.7, 0.9))
            text = f"id: {value}, name: class_{value}, color: {list(palette.get(value, color))}"
        yield f"  - {{{text}}} # {share}"
