"""What a data set is: its archives, where its images and labels are, and what its labels mean.

The built-in data sets are the YAML files in `datasets/`. Users describe their own in the same
format. `extends: cityscapes` starts from a built-in one and replaces single keys.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from dsrl.config.strict import Strict, built_in_yaml, find_yaml, parse, read_yaml
from dsrl.data.manifest import IGNORE_INDEX, ClassInfo
from dsrl.data.pairing import RelativePath, SplitPatterns
from dsrl.data.shares import Shares

BUILT_IN = Path(__file__).parent / "datasets"
UNKNOWN = -1  # in the lookup table: no label has this id
MAX_ID = 2**16 - 1  # label files have at most 16 bits

FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Url = Annotated[str, Field(pattern=r"^https?://")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
LabelId = Annotated[int, Field(ge=0, le=MAX_ID)]
Byte = Annotated[int, Field(ge=0, le=255)]


class Download(Strict):
    """Where an archive is downloaded from."""

    url: Url
    sha256: Sha256 | None = Field(
        None, description="of the file, as `sha256sum` prints it; without it, not checked"
    )


class Label(Strict):
    """The meaning of one value (or several) in the label files."""

    id: tuple[LabelId, ...] = Field(min_length=1, description="value or values in label files")
    name: str = Field(min_length=1)
    color: tuple[Byte, Byte, Byte] = Field(description="red, green, blue; used in figures")
    ignore: bool = Field(False, description="neither trained on nor scored")

    @field_validator("id", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)


class DatasetDescription(Strict):
    """A data set."""

    name: FolderName = Field(description="name of its folder in `data/raw` and `data/prepared`")
    homepage: Url | None = Field(None, description="where its archives are available from")
    archives: tuple[RelativePath, ...] = Field(
        (), description="zip or tar files below `data/archives`"
    )
    folder: Path | None = Field(
        None, description="the unpacked files, in place of `archives`; read, and never changed"
    )
    downloads: dict[str, Download] = Field(
        {}, description="the archives that can be downloaded without an account"
    )
    splits: dict[FolderName, SplitPatterns] = Field(description="at least `train` and `val`")
    labels: tuple[Label, ...] = Field(description="the classes, in order, and what is ignored")
    value_range: tuple[float, float] | None = Field(
        None, description="values of black and white in images of more than 8 bits"
    )
    max_pixels: int | None = Field(
        None,
        ge=1,
        description="pixels that an image may have; by default, as many as Pillow allows",
    )

    @model_validator(mode="before")
    @classmethod
    def _draw_splits(cls, values: Any) -> Any:
        """Replace `split`, the shares of the samples in `splits.all`, by the splits."""
        if not isinstance(values, Mapping) or "split" not in values:
            return values
        splits = values.get("splits")
        if not isinstance(splits, Mapping) or list(splits) != ["all"]:
            raise ValueError(
                "`split` divides the samples of `splits: {all: {image: ..., label: ...}}`; name "
                "these, or leave `split` out"
            )
        shares = parse(Shares, values["split"], "split")
        parts = {
            name: {**splits["all"], "part": {"name": name, "of": shares.model_dump()}}
            for name in shares.shares
        }
        return {**{key: value for key, value in values.items() if key != "split"}, "splits": parts}

    @field_validator("value_range")
    @classmethod
    def _black_below_white(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value and value[0] >= value[1]:
            raise ValueError("expected the value of black, then a larger one of white")
        return value

    @field_validator("folder")
    @classmethod
    def _home_is_known(cls, folder: Path | None) -> Path | None:
        return folder and folder.expanduser()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.archives) == bool(self.folder):
            raise ValueError(
                "expected one of the keys `archives`, files in data/archives, and `folder`, the "
                "place of the unpacked files"
            )
        if missing := {"train", "val"} - self.splits.keys():
            raise ValueError(f"splits: '{min(missing)}' is missing")
        if unknown := self.downloads.keys() - set(self.archives):
            raise ValueError(f"downloads: '{min(unknown)}' is not one of the archives")
        return self

    @model_validator(mode="after")
    def _labels_are_unambiguous(self) -> Self:
        ids = Counter(str(value) for label in self.labels for value in label.id)
        names = Counter(label.name for label in self.labels)
        for kind, counts in [("id", ids), ("name", names)]:
            if twice := [value for value, count in counts.items() if count > 1]:
                raise ValueError(f"labels: {kind} {', '.join(twice)} is given more than once")
        if not 1 <= len(self.classes) <= IGNORE_INDEX:
            raise ValueError(
                f"labels: {len(self.classes)} of them are not ignored; "
                f"expected 1 to {IGNORE_INDEX} classes"
            )
        return self

    @property
    def raw(self) -> Path:
        """Where its files are, or archives are unpacked to."""
        return self.folder or Path("data/raw", self.name)

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """What the network predicts; the train id of a class is its index."""
        return tuple(
            ClassInfo(name=label.name, color=label.color, id=label.id[0])
            for label in self.labels
            if not label.ignore
        )

    @cached_property
    def _train_id_of(self) -> NDArray[np.int16]:
        """Train id of every possible value; the last entry is for all others."""
        table = np.full(MAX_ID + 2, UNKNOWN, np.int16)
        train_id = 0
        for label in self.labels:
            table[list(label.id)] = IGNORE_INDEX if label.ignore else train_id
            train_id += not label.ignore
        return table

    def to_train_ids(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Map values of label files to train ids and IGNORE_INDEX.

        Args:
            values: integers of any dtype and shape.

        Returns:
            uint8, of the same shape.

        Raises:
            ValueError: no label has one of the values; the message names them, not the file.
        """
        index = values
        if values.dtype not in (np.uint8, np.uint16):
            index = np.where((values < 0) | (values > MAX_ID), MAX_ID + 1, values)
        train_ids = self._train_id_of[index]
        if (unknown := train_ids == UNKNOWN).any():
            found = ", ".join(map(str, np.unique(values[unknown])[:10]))
            raise ValueError(
                f"label value {found} is not described for the data set '{self.name}'; "
                "add it under `labels`, with `ignore: true` if it is not a class"
            )
        return train_ids.astype(np.uint8)

    def colors_to_train_ids(self, colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Map the colors of label files to train ids and IGNORE_INDEX.

        Args:
            colors: (H, W, 3), RGB.

        Returns:
            (H, W).

        Raises:
            ValueError: no label has one of the colors, or labels with different train ids have it;
                the message names it and its share of the pixels, not the file.
        """
        known: dict[int, set[int]] = {}
        for label in self.labels:
            train_id = int(self._train_id_of[label.id[0]])
            known.setdefault(int(packed_colors(np.array(label.color))), set()).add(train_id)
        packed = packed_colors(colors)
        keys = np.array(sorted(known))
        place = np.searchsorted(keys, packed).clip(max=len(keys) - 1)
        unique = np.array([len(known[key]) == 1 for key in keys])
        wrong = (keys[place] != packed) | ~unique[place]
        if wrong.any():
            values, counts = np.unique(packed[wrong], return_counts=True)
            value, count = int(values[counts.argmax()]), counts.max()
            color = list(unpacked(value))
            meaning = "that of several labels" if value in known else "that of no label"
            others = f", and {len(values) - 1} others" if len(values) > 1 else ""
            raise ValueError(
                f"the color {color} ({100 * count / packed.size:.2g} % of the pixels{others}) is "
                f"{meaning} of the data set '{self.name}'; correct the colors under `labels`, or "
                "write the ids as a grey PNG"
            )
        return np.array([min(known[key]) for key in keys], np.uint8)[place]


def packed_colors(colors: NDArray[Any]) -> NDArray[np.int64]:
    """Integers (..., 3) in 0..255, RGB -> (...), one number for each color; see `unpacked`."""
    red, green, blue = np.moveaxis(colors.astype(np.int64), -1, 0)
    return red << 16 | green << 8 | blue


def unpacked(packed: int) -> tuple[int, int, int]:
    """A color from its number."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def load_description(name_or_path: str) -> DatasetDescription:
    """Read the description of a data set: a built-in one by name, any other by its YAML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no such built-in data set, or the file is not a valid description; one
            line names the file and the key.
    """
    path = find_yaml(name_or_path, BUILT_IN, f"data set '{name_or_path}'")
    return parse(DatasetDescription, _read(path), str(path))


def _read(path: Path) -> Any:
    """The keys of a description, including those of the one it extends."""
    values = read_yaml(path)
    if not isinstance(values, Mapping) or "extends" not in values:
        return values
    name = str(values["extends"])
    base = _read(built_in_yaml(name, BUILT_IN, f"{path}: extends '{name}', which"))
    if "folder" in values:
        base = {key: value for key, value in base.items() if key not in ("archives", "downloads")}
    return {**base, **{key: value for key, value in values.items() if key != "extends"}}
