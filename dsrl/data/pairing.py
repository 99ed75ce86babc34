"""Which image and which label file belong together, by patterns such as `train/{frame}.png`."""

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dsrl.config.strict import Strict
from dsrl.data.lists import listed
from dsrl.data.patterns import PLACEHOLDER, FilePattern, Key
from dsrl.data.shares import Part

Pair = tuple[str, str, str]  # name, image, label
Pairs = list[Pair]  # in SplitPatterns, `list` is a key
Faults = list[ValueError]
Files = dict[Key, str]


def _check_relative(path: str) -> str:
    if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"'{path}' is not a path below the data folder; leave out '/' and '..'")
    return path


def _check_pattern(pattern: str) -> str:
    named = [name for name in PLACEHOLDER.findall(pattern) if not name.startswith("_")]
    if not named or set("{}") & set(PLACEHOLDER.sub("", pattern)):
        raise ValueError(f"'{pattern}' needs a placeholder such as {{frame}} for what varies")
    if "**" in pattern or "\\" in pattern:
        raise ValueError(f"'{pattern}' needs `/` between folders, and a `*` or {{name}} for each")
    return _check_relative(pattern)


def _check_list(path: str) -> str:
    return path if _is_own(path) else _check_relative(path)


def _is_own(path: str) -> bool:
    """Whether a list file is not looked for in the data folder."""
    return path.startswith(("/", "./", "../", "~"))


RelativePath = Annotated[str, AfterValidator(_check_relative)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
ListPath = Annotated[str, AfterValidator(_check_list)]


class SplitPatterns(Strict):
    """Where the images and labels of a split are, below the raw folder.

    Placeholders stand for what varies, as in Snakemake: `train/{city}/{frame}.png`. A placeholder
    matches anything but `/`. An image and a label with the same values form a sample, named after
    these values; those of placeholders that begin with `_` are left out of the name. A placeholder
    that occurs twice must have the same value in both places. A `*` matches anything but `/` that
    image and label need not have in common; `.*` at the end is the suffix of any image format.

    A file that both patterns match belongs to the narrower one: of `{frame}.png` and
    `{frame}_mask.png`, the second. Names are compared in NFC.
    """

    image: Pattern = Field(description="pattern of the image files")
    label: Pattern = Field(description="pattern of the label files")
    # None by default, and left out where the workflow compares descriptions.
    list: ListPath | None = Field(
        None,
        description="file with the names of the samples, or the paths of their images, one a line; "
        "below the raw folder, or, if it begins with `/`, `./`, `../` or `~`, anywhere else",
    )
    unlabelled: Literal["skip"] | None = Field(
        None, description="`skip` leaves out images without a label, which otherwise are an error"
    )

    part: Part | None = Field(None, description="of the samples; from `split` of the data set")

    @model_validator(mode="after")
    def _group_is_a_placeholder(self) -> Self:
        group = self.part and self.part.of.group
        if group and group not in PLACEHOLDER.findall(self.image):
            raise ValueError(f"split.group: '{group}' is no placeholder of '{self.image}'")
        return self

    @model_validator(mode="after")
    def _same_placeholders(self) -> Self:
        image, label = (set(PLACEHOLDER.findall(pattern)) for pattern in (self.image, self.label))
        if image != label:
            odd = ", ".join(f"{{{name}}}" for name in sorted(image ^ label))
            raise ValueError(f"{odd} is in only one of the patterns of image and label")
        if self.image == self.label:
            raise ValueError("image and label have the same pattern")
        return self

    def list_file(self, raw: Path) -> Path | None:
        """The file that lists the samples, if there is to be one."""
        if self.list is None:
            return None
        return Path(self.list).expanduser() if _is_own(self.list) else raw / self.list

    def pairs(self, raw: Path, faults: Faults | None = None) -> Pairs:
        """The samples of the split as (name, image, label), sorted by name.

        The paths are relative to `raw`. A name joins the values of the placeholders with `_`. How
        many images are left out for want of a label is reported on stderr.

        Args:
            faults: where to put errors of files without a partner, which are left out, instead of
                raising them.

        Raises:
            OSError: the list or a folder cannot be read.
            ValueError: an image has no label or a label no image, two samples have the same name,
                a file matches its pattern only if a placeholder has two values, or the list names
                what is not there.
        """
        images, labels = self._files(raw)
        if not images and not labels:
            return []
        for files, pattern in ((images, self.image), (labels, self.label)):
            if not files:
                raise ValueError(FilePattern(pattern).no_match(raw))
        names = self._names(raw, images)
        if path := self.list_file(raw):
            keys = listed(path, names, images, labels, FilePattern(self.image))
            images, labels = (
                {key: file for key, file in files.items() if key in keys}
                for files in (images, labels)
            )
        if self.part:
            drawn = labels.keys() & names.keys() if self.unlabelled == "skip" else names.keys()
            keys = self._keys_of(self.part, {key: names[key] for key in drawn})
            images, labels = (
                {key: file for key, file in files.items() if key in keys}
                for files in (images, labels)
            )
        found = [self._without_partner(raw, labels, images, "image")]
        if self.unlabelled != "skip":
            found.append(self._without_partner(raw, images, labels, "label"))
        for fault in filter(None, found):
            if faults is None:
                raise fault
            faults.append(fault)
        if not labels:
            raise ValueError(f"{raw}: none of the {len(images)} images of the split has a label")
        lonely = sorted(images[key] for key in images.keys() - labels.keys())
        if lonely and self.unlabelled == "skip":
            print(
                f"{raw}: {len(lonely)} of {len(images)} images have no label and are left out, "
                f"such as {lonely[0]}",
                file=sys.stderr,
            )
        return sorted(
            (names[key], images[key], label) for key, label in labels.items() if key in images
        )

    def _keys_of(self, part: Part, names: Mapping[Key, str]) -> set[Key]:
        """The samples of a part."""
        pattern, group = FilePattern(self.image), part.of.group
        groups = {key: pattern.values(key)[group] if group else name for key, name in names.items()}
        splits = part.of.draw(groups.values())
        return {key for key, group in groups.items() if splits[group] == part.name}

    def no_match(self, raw: Path) -> str:
        """One line for an error: that there are no images, and what there is instead."""
        return FilePattern(self.image).no_match(raw)

    def _files(self, raw: Path) -> tuple[Files, Files]:
        """All images and labels by the placeholders of `image`."""
        image, label = FilePattern(self.image), FilePattern(self.label)
        images, labels = image.find(raw), label.find(raw)
        if both := images.keys() & labels.keys():
            wider = images if both == labels.keys() else labels
            for file in both:
                del wider[file]
        for file, key in labels.items():
            values = label.values(key)
            labels[file] = tuple(values[name] for name in image.placeholders)
        return _by_key(raw, images), _by_key(raw, labels)

    def _names(self, raw: Path, images: Files) -> dict[Key, str]:
        shown = [not name.startswith("_") for name in FilePattern(self.image).placeholders]
        names = {key: "_".join(itertools.compress(key, shown)) for key in images}
        first: dict[str, str] = {}
        for key, name in names.items():
            if name in first:
                raise ValueError(
                    f"{raw / first[name]} and {raw / images[key]} would both be named '{name}'; "
                    f"choose other placeholders in '{self.image}'"
                )
            first[name] = images[key]
        return names

    def _without_partner(
        self, raw: Path, files: Files, partners: Files, kind: str
    ) -> ValueError | None:
        """An error that names a file without a partner of this kind, if there is one."""
        lonely = sorted(files.keys() - partners.keys())
        if not lonely:
            return None
        pattern = FilePattern(self.image if kind == "image" else self.label)
        values = FilePattern(self.image).values(lonely[0])
        rest = f" ({len(lonely)} such files)" if len(lonely) > 1 else ""
        cure = "; add it, or skip such images with `unlabelled: skip`" if kind == "label" else ""
        any_suffix = FilePattern(str(PurePosixPath(pattern.text).with_suffix(".*")))
        if any(values == any_suffix.values(key) for key in any_suffix.find(raw).values()):
            cure = f"; where the suffix varies, write '{any_suffix.text}'"
        return ValueError(
            f"{raw / files[lonely[0]]}: its {kind} {raw / pattern.fill(values)} is missing"
            f"{rest}{cure}"
        )


def _by_key(raw: Path, files: Mapping[str, Key]) -> Files:
    """Files by their placeholders.

    Raises:
        ValueError: two have the same ones.
    """
    by_key: Files = {}
    for file, key in files.items():
        if key in by_key:
            raise ValueError(
                f"{raw / by_key[key]} and {raw / file} differ only in what is not part of the name "
                "of a sample, such as the suffix or the form of Unicode; remove or rename one"
            )
        by_key[key] = file
    return by_key
