"""How a data set is described: its archives, where its images and labels lie, what labels mean.

The built-in data sets are described by the YAML files in `datasets/`, in the format that users
write for their own; `extends: cityscapes` starts from a built-in one and replaces single keys.
"""

import glob
import itertools
import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, field_validator, model_validator

from dsrl.config.strict import Strict, parse, read_yaml
from dsrl.data.manifest import IGNORE_INDEX, ClassInfo

BUILT_IN = Path(__file__).parent / "datasets"
UNKNOWN = -1  # in the lookup table: no label has this id
MAX_ID = 2**16 - 1  # label files have at most 16 bits
PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


def _check_relative(path: str) -> str:
    if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"'{path}' is no path below the data folder; leave out '/' and '..'")
    return path


def _check_pattern(pattern: str) -> str:
    if not PLACEHOLDER.search(pattern) or set("{}") & set(PLACEHOLDER.sub("", pattern)):
        raise ValueError(f"'{pattern}' needs a placeholder such as {{frame}} for what varies")
    return _check_relative(pattern)


RelativePath = Annotated[str, AfterValidator(_check_relative)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Url = Annotated[str, Field(pattern=r"^https?://")]
LabelId = Annotated[int, Field(ge=0, le=MAX_ID)]
Byte = Annotated[int, Field(ge=0, le=255)]


class Label(Strict):
    """What one value (or several) in the label files stands for."""

    id: tuple[LabelId, ...] = Field(min_length=1, description="value or values in label files")
    name: str = Field(min_length=1)
    color: tuple[Byte, Byte, Byte] = Field(description="red, green, blue; used in pictures")
    ignore: bool = Field(False, description="neither learnt nor scored")

    @field_validator("id", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)


class SplitPatterns(Strict):
    """Where the images and labels of a split lie below the raw folder.

    Placeholders stand for what varies, as in Snakemake: `train/{city}/{frame}.png`. They match
    anything but `/`; the image and the label with the same values belong together. One that
    stands twice must have the same value in both places.
    """

    image: Pattern
    label: Pattern

    @model_validator(mode="after")
    def _same_placeholders(self) -> Self:
        image, label = (set(PLACEHOLDER.findall(pattern)) for pattern in (self.image, self.label))
        if image != label:
            odd = ", ".join(f"{{{name}}}" for name in sorted(image ^ label))
            raise ValueError(f"{odd} stands in only one of the patterns of image and label")
        return self

    def pairs(self, raw: Path) -> list[tuple[str, str, str]]:
        """The samples of the split as (name, image, label), sorted by name; the paths are relative
        to `raw`. A sample's name is made of the values of its placeholders, joined by `_`.

        Raises:
            ValueError: an image has no label or a label no image, two samples would have one
                name, or a file fits its pattern only if a placeholder has two values.
        """
        images, labels = self._files(self.image, raw), self._files(self.label, raw)
        for have, lack, kind in [(images, self.label, "label"), (labels, self.image, "image")]:
            other = labels if kind == "label" else images
            if lonely := sorted(have.keys() - other.keys()):
                first = have[lonely[0]]
                wanted = lack.format_map(dict(zip(self._placeholders, lonely[0], strict=True)))
                rest = f" ({len(lonely)} such files)" if len(lonely) > 1 else ""
                raise ValueError(f"{raw / first}: its {kind} {raw / wanted} is missing{rest}")
        pairs = sorted(("_".join(key), images[key], labels[key]) for key in images)
        for (name, image, _), (next_name, next_image, _) in itertools.pairwise(pairs):
            if name == next_name:
                raise ValueError(
                    f"{raw / image} and {raw / next_image} would both be named '{name}'; "
                    f"choose other placeholders in '{self.image}'"
                )
        return pairs

    @property
    def _placeholders(self) -> list[str]:
        return list(dict.fromkeys(PLACEHOLDER.findall(self.image)))

    def _files(self, pattern: str, raw: Path) -> dict[tuple[str, ...], str]:
        """The files below `raw` that fit `pattern`, by the values of the placeholders."""
        literals = PLACEHOLDER.split(pattern)[::2]
        regex, seen = re.escape(literals[0]), set[str]()
        for name, literal in zip(PLACEHOLDER.findall(pattern), literals[1:], strict=True):
            regex += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            regex += re.escape(literal)
            seen.add(name)
        files = {}
        for path in raw.glob("*".join(map(glob.escape, literals))):
            if path.name.startswith("."):
                continue  # what file managers leave behind, such as `._frame.png`
            file = path.relative_to(raw).as_posix()
            match = re.fullmatch(regex, file, re.DOTALL)
            if match is None:
                raise ValueError(f"{raw / file} does not fit the pattern '{pattern}'; rename it")
            files[tuple(match[name] for name in self._placeholders)] = file
        return files


class DatasetDescription(Strict):
    """A data set."""

    name: FolderName = Field(description="name of its folder in `data/raw` and `data/prepared`")
    homepage: Url | None = Field(None, description="where its archives are to be had")
    urls: dict[str, Url] = Field({}, description="archives that can be downloaded, and from where")
    archives: tuple[RelativePath, ...] = Field(
        min_length=1, description="zip files below `data/archives`"
    )
    splits: dict[FolderName, SplitPatterns] = Field(description="at least `train` and `val`")
    labels: tuple[Label, ...] = Field(description="the classes, in order, and what is ignored")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := {"train", "val"} - self.splits.keys():
            raise ValueError(f"splits: '{min(missing)}' is missing")
        if unknown := self.urls.keys() - set(self.archives):
            raise ValueError(f"urls: '{min(unknown)}' is none of the archives")
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
                f"1 to {IGNORE_INDEX} classes are possible"
            )
        return self

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """What the network tells apart; a class's train id is its place."""
        return tuple(
            ClassInfo(name=label.name, color=label.color, id=label.id[0])
            for label in self.labels
            if not label.ignore
        )

    @cached_property
    def _train_id_of(self) -> NDArray[np.int16]:
        """Train id of every value a label file may hold; one more entry for all other values."""
        table = np.full(MAX_ID + 2, UNKNOWN, np.int16)
        train_id = 0
        for label in self.labels:
            table[list(label.id)] = IGNORE_INDEX if label.ignore else train_id
            train_id += not label.ignore
        return table

    def to_train_ids(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Map values of label files to train ids and IGNORE_INDEX.

        Args:
            values: integers of any shape.

        Returns:
            uint8, the same shape.

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
                "add it under `labels`, with `ignore: true` if it is no class"
            )
        return train_ids.astype(np.uint8)


def load_description(name_or_path: str) -> DatasetDescription:
    """Read the description of a data set: a built-in one by name, any other by its YAML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: no such built-in data set, or the file is no valid description; one line names
            the file and the key.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
    else:
        path = _built_in(name_or_path, f"data set '{name_or_path}'")
    return parse(DatasetDescription, _read(path), str(path))


def _built_in(name: str, what: str) -> Path:
    known = {path.stem: path for path in sorted(BUILT_IN.glob("*.yaml"))}
    if name not in known:
        raise ValueError(
            f"{what} is unknown; built-in are {', '.join(known)}, and the path of a .yaml file "
            "describes one of your own"
        )
    return known[name]


def _read(path: Path) -> Any:
    """The keys of a description, those of the one it extends included."""
    values = read_yaml(path)
    if not isinstance(values, Mapping) or "extends" not in values:
        return values
    base = _read(_built_in(str(values["extends"]), f"{path}: extends '{values['extends']}', which"))
    return {**base, **{key: value for key, value in values.items() if key != "extends"}}
