"""What is to be predicted, and to which files: known before the first of them is written."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from dsrl.data.dataset import PreparedSplit
from dsrl.data.images import ImageReader
from dsrl.inference.frames import HEIC, HEIC_CURE, files_below, is_animated, list_frames
from dsrl.inference.pictures import PREDICTION, SHEET, is_complete, source_of
from dsrl.system.files import check_output, sha256

NUMBERED = re.compile(r"(.+)_(\d{6,})", re.DOTALL)


class Frame(NamedTuple):
    """An image to predict."""

    number: int | None  # in an animation or a video, from 0
    image: np.ndarray  # uint8 (h, w, 3), RGB
    mask_size: tuple[int, int]  # height and width of the mask to write: those of the image's file


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image, animation or video.

    Attributes:
        name: of the file to write, without suffix, with the folders that lead to it.
        reader: reads it.
        origin: what its pixels depend on.
    """

    path: Path
    name: str
    reader: ImageReader

    @cached_property
    def is_animated(self) -> bool:
        return is_animated(self.path)

    @cached_property
    def origin(self) -> str:
        return f"{sha256(self.path)}, values {self.reader.value_range}"

    def frames(self) -> Iterator[Frame]:
        for number, image in list_frames(self.path, self.reader):
            yield Frame(number, image, (image.shape[0], image.shape[1]))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, eq=False)
class SplitImage:
    """An image of a prepared split; its mask has the size of the label file."""

    split: PreparedSplit
    index: int
    is_animated = False

    @property
    def path(self) -> Path:
        return self.split.folder / "images.npy"

    @property
    def name(self) -> str:
        return self.split.manifest.samples[self.index].name

    @property
    def origin(self) -> str:
        return f"{self.split.manifest.checksums[self.path.name]}, {self.index}, {self._mask_size}"

    @property
    def _mask_size(self) -> tuple[int, int]:
        return self.split.manifest.samples[self.index].native_size

    def frames(self) -> Iterator[Frame]:
        image = self.split.images[self.index][self.split.box(self.index).window]
        yield Frame(None, image, self._mask_size)

    def __str__(self) -> str:
        return f"{self.split.folder}: {self.name}"


Source = ImageFile | SplitImage


@dataclass(frozen=True)
class Target:
    """Where and how predictions are written.

    Attributes:
        file_format: `color` (`<name>.png`, RGB), `overlay` (the same over the image), `train-ids`
            (`<name>.png`, one channel), `cityscapes` (`<name>_pred.png`, the label ids that the
            Cityscapes evaluation reads), or `probabilities` (`<name>.npz`, of each class).
        weights: checksum of the file.
        overwrite: whether to replace files that were made from something else.
        size: height and width of all predictions; by default, each has its own.
        tiles: whether large images are predicted in tiles.
    """

    folder: Path
    file_format: str
    weights: str
    overwrite: bool = False
    size: tuple[int, int] | None = None
    tiles: bool = False

    def path(self, name: str, number: int | None = None) -> Path:
        """The file with the prediction for the image `name`, or for one of its frames."""
        name = name if number is None else f"{name}_{number:06d}"
        if self.file_format == "probabilities":
            return self.folder / f"{name}.npz"
        if self.file_format != "cityscapes":
            return self.folder / f"{name}.png"
        return self.folder / f"{name.removesuffix('_leftImg8bit')}_pred.png"

    def made_from(self, source: Source, number: int | None) -> str:
        """All that the pixels of the file depend on."""
        values: dict[str, Any] = {"image": source.origin, "frame": number}
        values |= {"weights": self.weights, "format": self.file_format, "resized": "logits"}
        values |= {"size": self.size} if self.size else {}
        return json.dumps(values | ({"tiles": True} if self.tiles else {}))

    def needs(self, source: Source, number: int | None) -> bool:
        """Whether the prediction is yet to be made.

        Raises:
            ValueError: the file was made from something else, and may not be replaced.
        """
        path = self.path(source.name, number)
        if not path.exists():
            return True
        if source_of(path, PREDICTION) == self.made_from(source, number):
            return not is_complete(path)
        if not self.overwrite:
            raise ValueError(
                f"{path}: exists, and was not made from {source} by these weights with these "
                "options; choose another --output, or replace it with --overwrite"
            )
        return True


def sources_of_split(data: Path, split: str) -> list[SplitImage]:
    """The images of a prepared split.

    Raises:
        OSError: the split does not exist or cannot be read.
        ValueError: it is damaged or empty.
    """
    prepared = PreparedSplit(data, split)
    if not len(prepared):
        raise ValueError(
            f"{prepared.folder}: the split has no images; choose another --dataset-split"
        )
    return [SplitImage(prepared, index) for index in range(len(prepared))]


def sources_of_files(paths: Sequence[Path], reader: ImageReader) -> list[ImageFile]:
    """The given files, and the images and videos below the given folders, each once.

    What `dsrl` made is left out of folders, and a line on stderr counts what is left out.

    Raises:
        OSError: a file does not exist or a folder cannot be read.
        ValueError: a folder has no images.
    """
    sources: dict[tuple[str, Path], ImageFile] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        for file in _images_below(path) if path.is_dir() else [path]:
            name = file.relative_to(path).with_suffix("").as_posix() if path.is_dir() else file.stem
            sources.setdefault((name, file.resolve()), ImageFile(file, name, reader))
    return list(sources.values())


def _images_below(folder: Path) -> list[Path]:
    files, others = files_below(folder)
    images = [path for path in files if source_of(path, PREDICTION, SHEET) is None]
    counts = [f"{count} {suffix}" for suffix, count in sorted(others.items())]
    if len(images) < len(files):
        counts.append(f"{len(files) - len(images)} made by `dsrl`")
    left_out = f"left out {', '.join(counts)}" if counts else ""
    if HEIC & others.keys():
        left_out += f"; {HEIC_CURE}"
    if not images:
        detail = f" ({left_out})" if left_out else ""
        raise ValueError(f"{folder}: no image or video in this folder{detail}; choose another one")
    if left_out:
        print(f"{folder}: {left_out}", file=sys.stderr)
    return images


def plan(sources: Sequence[Source], target: Target) -> list[Source]:
    """Check that every file can be written, and leave out the images whose predictions are there.

    No image is decoded, so animations and videos are always left in.

    Raises:
        OSError: a file cannot be written.
        ValueError: two images would have one file, or a file is an input or made from something
            else.
    """
    _check_names(sources, target)
    needed, taken = list[Source](), list[ValueError]()
    for source in tqdm(sources, "check", unit="image", disable=None, leave=False):
        missing = source.is_animated  # as the number of its frames is not known
        for number in frames_there(source, target) if source.is_animated else [None]:
            check_output(target.path(source.name, number))
            try:
                missing |= target.needs(source, number)
            except ValueError as error:
                taken.append(error)
        if missing:
            needed.append(source)
    if taken:
        more = f" ({len(taken)} such files)" if len(taken) > 1 else ""
        raise ValueError(f"{taken[0]}{more}")
    return needed


def _check_names(sources: Sequence[Source], target: Target) -> None:
    animated = {source.name: source for source in sources if source.is_animated}
    files: dict[Path, Source] = {}
    for source in sources:
        path = target.path(source.name, 0 if source.is_animated else None)
        other = files.setdefault(path, source)
        if other is source and (match := NUMBERED.fullmatch(source.name)):
            other = animated.get(match[1], source)
        _check_same(other, source, path)
    for path, source in files.items():
        for folder in path.parents:
            _check_same(files.get(folder, source), source, folder)


def _check_same(one: Source, other: Source, path: Path) -> None:
    if one is not other:
        raise ValueError(
            f"{one} and {other} would both be predicted to {path}; rename one, give a folder above "
            "both, or predict them to different folders"
        )


def frames_there(source: Source, target: Target) -> list[int]:
    """The numbers of the frames for which there are files."""
    first = target.path(source.name, 0)
    before, _, after = first.name.rpartition("000000")
    pattern = re.compile(f"{re.escape(before)}(\\d{{6,}}){re.escape(after)}")
    names = [path.name for path in first.parent.iterdir()] if first.parent.is_dir() else []
    return sorted(int(match[1]) for match in map(pattern.fullmatch, names) if match)
