"""The manifest of a prepared split, beside its packed arrays.

A prepared data set is a folder with one folder per split, each with

- `manifest.json`: the model below;
- `images.npy`: uint8 (N, H, W, 3), RGB; with `fit: pad`, black around the images;
- `labels.npy`: uint8 (N, H, W), train ids, IGNORE_INDEX where labels are ignored, and in padding;
- `native_labels.npy` (val and test): uint8 (P,), the labels at the size of their files, one
  image after the other, row by row.
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from dsrl.config.sections import Fit, Size
from dsrl.config.strict import Strict, parse

IGNORE_INDEX = 255
MANIFEST_NAME = "manifest.json"

Color = tuple[int, int, int]  # RGB, 0-255
Triple = tuple[float, float, float]


class ClassInfo(Strict):
    """One class that the network predicts; its train id is its index in the list."""

    name: str
    color: Color
    id: int = Field(description="value of the class in the data set's label files")


class Sample(Strict):
    """One image with its label."""

    name: str = Field(description="unique in the split; the values of its pattern's placeholders")
    image: str = Field(description="path below the raw data set")
    label: str
    native_size: Size = Field(description="height and width of the label file")


class Manifest(Strict):
    """Where a prepared split comes from, and how to read its arrays."""

    format: Literal[1] = 1
    dataset: str
    split: str
    source: str = Field(description="the raw folder it was prepared from")
    size: Size = Field(description="height and width of images.npy and labels.npy")
    fit: Fit = Field("stretch", description="how images of another aspect ratio lie in it")
    classes: tuple[ClassInfo, ...]
    mean: Triple = Field(
        description="per channel over all pixels, without padding, for values in 0..1"
    )
    std: Triple
    class_pixels: tuple[int, ...] = Field(description="pixels of each class in labels.npy")
    samples: tuple[Sample, ...]
    checksums: dict[str, str] = Field(description="SHA-256 of each array file")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of one prepared split.

    Raises:
        FileNotFoundError: `folder` is not a prepared split.
        ValueError: the manifest is damaged; one line names the file and the key.
    """
    path = Path(folder) / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; prepare the split with `dsrl preprocess`")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}; prepare the split again") from None
    return parse(Manifest, values, str(path))


def overlap(first: Manifest, second: Manifest) -> str | None:
    """A warning of one line if two splits have image files in common."""
    images, others = (
        {(Path(split.source).resolve(), sample.image) for sample in split.samples}
        for split in (first, second)
    )
    if not images & others:
        return None
    return (
        f"warning: {len(images & others)} of the {len(others)} images of '{second.split}' are also "
        f"in '{first.split}', such as {min(images & others)[1]}; scores need images of their own"
    )
