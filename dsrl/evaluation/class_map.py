"""Scores on data with other classes than the weights: which classes count as which.

A class map is a YAML file. It has a key for each class of the data; the value is the class of the
weights that counts as it, or a list of several, or `[]` if none does. The built-in ones are in
`class_maps/`.
"""

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsrl.checkpoints.weights import WeightsInfo
from dsrl.config.strict import find_yaml, read_yaml
from dsrl.data.dataset import PreparedSplit
from dsrl.data.manifest import IGNORE_INDEX

BUILT_IN = Path(__file__).parent / "class_maps"


@dataclass(frozen=True)
class ClassMap:
    """From the C classes of weights to the K classes of a data set.

    Attributes:
        name: of a built-in map, or the path of a file; empty where none is needed.
        groups: for each class of the data the indices of those of the weights that count as it;
            then the indices of those that count as none, whose train id here is K.
        note: which classes have no counterpart.
    """

    name: str
    groups: tuple[tuple[int, ...], ...]
    note: str

    @property
    def not_scored(self) -> list[int]:
        """The train ids without an IoU: of classes that none of the weights counts as, and K."""
        other = len(self.groups) - 1
        return [*(c for c in range(other) if not self.groups[c]), other]

    @cached_property
    def _train_id_of(self) -> Tensor:
        table = torch.empty(sum(map(len, self.groups)), dtype=torch.int64)
        for train_id, group in enumerate(self.groups):
            table[list(group)] = train_id
        return table

    def train_ids(self, predictions: Tensor) -> Tensor:
        """int64 predictions of the weights, of any shape -> int64 train ids of the data, and K."""
        return self._train_id_of.to(predictions.device)[predictions]

    def joined(self, logits: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K + 1, H, W): the logarithms of the summed exponentials, whose
        softmax is the sum of the probabilities; -inf for a class that nothing counts as."""
        return torch.stack([logits[:, list(group)].logsumexp(1) for group in self.groups], 1)

    def possible(self, labels: Tensor) -> Tensor:
        """Integer train ids, with IGNORE_INDEX for the classes that nothing counts as."""
        impossible = torch.tensor(self.not_scored, device=labels.device)
        return labels.masked_fill(torch.isin(labels, impossible), IGNORE_INDEX)


def match_classes(
    info: WeightsInfo, weights: Path, split: PreparedSplit, class_map: str | None
) -> ClassMap | None:
    """The class map from `weights` to `split`; None if both have the same classes.

    One line on stderr says which classes have no counterpart, or that the map is not needed. None
    is needed for weights that have the classes of the data and then more, as the published networks
    for Cityscapes have.

    Args:
        info: of the file `weights`.
        class_map: name of a built-in map, or path of a YAML file.

    Raises:
        OSError, ValueError: see `read_class_map`.
        ValueError: the classes differ, and there is no map.
    """
    own, given = ([c.name for c in classes] for classes in (info.classes, split.manifest.classes))
    if own == given:
        if class_map is not None:
            print(
                f"note: {weights}: has the classes of {split.folder}; class map {class_map} is not "
                "used",
                file=sys.stderr,
            )
        return None
    if class_map is not None:
        found = read_class_map(class_map, own, given, str(weights), str(split.folder))
        print(f"note: class map {found.name}: {found.note}", file=sys.stderr)
        return found
    if own[: len(given)] == given:
        note = _note(own[len(given) :], [])
        print(f"note: {weights}: {note}, as {split.folder} has no such class", file=sys.stderr)
        same, more = range(len(given)), range(len(given), len(own))
        return ClassMap("", (*((c,) for c in same), tuple(more)), note)
    what = f"{len(own)} there, {len(given)} here"
    if len(own) == len(given):
        what = next(f"'{a}' there, '{b}' here" for a, b in zip(own, given, strict=True) if a != b)
    raise ValueError(
        f"{weights}: trained on the classes of '{info.dataset}', which differ from those of "
        f"{split.folder} ({what}); name data with the same classes with --data, or a file that "
        "says which count as which with --class-map"
    )


def read_class_map(
    name_or_path: str, own: Sequence[str], data: Sequence[str], weights: str, folder: str
) -> ClassMap:
    """Read a class map.

    Args:
        name_or_path: of a built-in map, or of a YAML file.
        own: the classes of the weights. data: those of the data.
        weights, folder: how messages call the two.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no such built-in map, or the file is not a map between these classes;
            one line names the file and the class.
    """
    path = find_yaml(name_or_path, BUILT_IN, f"class map '{name_or_path}'")
    groups = _read_groups(path)
    counts_as: dict[str, str] = {}  # class of the weights -> class of the data
    for name, group in groups.items():
        _check_known(name, data, folder, f"{path}: key")
        for one in group:
            _check_known(one, own, weights, f"{path}: {name}:")
            if one in counts_as:
                raise ValueError(
                    f"{path}: '{one}' is listed twice, for '{counts_as[one]}' and for '{name}'"
                )
            counts_as[one] = name
    if missing := [name for name in data if name not in groups]:
        raise ValueError(
            f"{path}: class '{missing[0]}' of {folder} is missing; list the classes of the weights "
            "that count as it, or [] if none does"
        )
    if not counts_as:
        raise ValueError(f"{path}: no class of the weights counts as one of the data")
    unmapped = [name for name in own if name not in counts_as]
    ordered = [*(groups[name] for name in data), unmapped]
    return ClassMap(
        name_or_path,
        tuple(tuple(map(own.index, group)) for group in ordered),
        _note(unmapped, [name for name in data if not groups[name]]),
    )


def _read_groups(path: Path) -> dict[Any, list[str]]:
    values = read_yaml(path)
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{path}: expected a mapping of the classes of the data to those of the weights, got "
            f"{values!r:.60}"
        )
    groups = {}
    for name, value in values.items():
        groups[name] = [value] if isinstance(value, str) else value
        if not isinstance(groups[name], list) or not all(isinstance(v, str) for v in groups[name]):
            raise ValueError(
                f"{path}: {name}: expected the name of a class of the weights, a list of names, or "
                f"[] if none counts as it, got {value!r:.60}"
            )
    return groups


def _check_known(name: Any, known: Sequence[str], whose: str, where: str) -> None:
    if name not in known:
        (near,) = difflib.get_close_matches(str(name), known, n=1, cutoff=0)
        raise ValueError(f"{where} {name!r} is not a class of {whose}; did you mean '{near}'?")


def _note(unmapped: Sequence[str], not_scored: Sequence[str]) -> str:
    parts = []
    if unmapped:
        parts.append(f"predictions of {', '.join(unmapped)} count as wrong")
    if not_scored:
        parts.append(f"not scored, as nothing counts as it: {', '.join(not_scored)}")
    return "; ".join(parts) or "every class has a counterpart"
