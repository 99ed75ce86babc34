"""Which image and which label file belong together, by patterns such as `train/{frame}.png`."""

import glob
import itertools
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dsrl.config.strict import Strict
from dsrl.data.images import is_clutter

PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
Key = tuple[str, ...]  # the values of the placeholders
Pair = tuple[str, str, str]  # name, image, label


def _check_relative(path: str) -> str:
    if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"'{path}' is not a path below the data folder; leave out '/' and '..'")
    return path


def _check_pattern(pattern: str) -> str:
    named = [name for name in PLACEHOLDER.findall(pattern) if not name.startswith("_")]
    if not named or set("{}") & set(PLACEHOLDER.sub("", pattern)):
        raise ValueError(f"'{pattern}' needs a placeholder such as {{frame}} for what varies")
    return _check_relative(pattern)


RelativePath = Annotated[str, AfterValidator(_check_relative)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]


class SplitPatterns(Strict):
    """Where the images and labels of a split are, below the raw folder.

    Placeholders stand for what varies, as in Snakemake: `train/{city}/{frame}.png`. A placeholder
    matches anything but `/`. An image and a label with the same values form a sample, named after
    these values; those of placeholders that begin with `_` are left out of the name. A placeholder
    that occurs twice must have the same value in both places.
    """

    image: Pattern = Field(description="pattern of the image files")
    label: Pattern = Field(description="pattern of the label files")

    @model_validator(mode="after")
    def _same_placeholders(self) -> Self:
        image, label = (set(PLACEHOLDER.findall(pattern)) for pattern in (self.image, self.label))
        if image != label:
            odd = ", ".join(f"{{{name}}}" for name in sorted(image ^ label))
            raise ValueError(f"{odd} is in only one of the patterns of image and label")
        return self

    def pairs(self, raw: Path) -> list[Pair]:
        """The samples of the split as (name, image, label), sorted by name.

        The paths are relative to `raw`. A name joins the values of the placeholders with `_`.

        Raises:
            ValueError: an image has no label or a label no image, two samples have the same name,
                or a file matches its pattern only if a placeholder has two values.
        """
        images, labels = self._files(self.image, raw), self._files(self.label, raw)
        self._check_partners(raw, images, labels, "label", self.label)
        self._check_partners(raw, labels, images, "image", self.image)
        pairs = sorted((self._name(key), images[key], labels[key]) for key in images)
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

    def _name(self, key: Key) -> str:
        named = zip(self._placeholders, key, strict=True)
        return "_".join(value for placeholder, value in named if not placeholder.startswith("_"))

    def _files(self, pattern: str, raw: Path) -> dict[Key, str]:
        """The files below `raw` that match `pattern`."""
        literals = PLACEHOLDER.split(pattern)[::2]
        regex, seen = re.escape(literals[0]), set[str]()
        for name, literal in zip(PLACEHOLDER.findall(pattern), literals[1:], strict=True):
            regex += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            regex += re.escape(literal)
            seen.add(name)
        files = {}
        for path in raw.glob("*".join(map(glob.escape, literals))):
            relative = path.relative_to(raw)
            if is_clutter(relative):
                continue
            match = re.fullmatch(regex, relative.as_posix(), re.DOTALL)
            if match is None:
                raise ValueError(f"{path} does not fit the pattern '{pattern}'; rename it")
            files[tuple(match[name] for name in self._placeholders)] = relative.as_posix()
        return files

    def _check_partners(
        self, raw: Path, files: dict[Key, str], partners: dict[Key, str], kind: str, pattern: str
    ) -> None:
        if lonely := sorted(files.keys() - partners.keys()):
            missing = pattern.format_map(dict(zip(self._placeholders, lonely[0], strict=True)))
            rest = f" ({len(lonely)} such files)" if len(lonely) > 1 else ""
            raise ValueError(
                f"{raw / files[lonely[0]]}: its {kind} {raw / missing} is missing{rest}"
            )
