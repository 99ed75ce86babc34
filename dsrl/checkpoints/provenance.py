"""What a training depends on, as plain values that its checkpoints, its weights and the CSV files
of their scores carry, and how two of them differ. `RunInfo.provenance` makes them."""

from collections.abc import Iterator, Mapping
from typing import Any

from dsrl.config.recipe import LATER_SETTINGS

Provenance = Mapping[str, Any]
ABSENT = "unused"
# What is left out of a recipe where it has its default.
DEFAULTS: dict[tuple[str, ...], Any] = {("recipe", "fit"): "stretch"} | {
    ("recipe", section, key): value
    for section, values in LATER_SETTINGS.items()
    for key, value in values.items()
}

# How differences are named that are not settings.
NAMES = {"train": "training images", "val": "validation images", "initial": "initial weights"}


def differences(found: Provenance, wanted: Provenance) -> dict[str, str]:
    """How two trainings differ, by setting: `{"learning_rate": "0.1 there, 0.2 here"}`.

    A provenance that is empty, as that of weights of earlier versions, differs in `recipe`.
    """
    if not found:
        return {"recipe": "unknown there"}
    there, here = dict(_flat(found)), dict(_flat(wanted))
    keys = [key for key in {**here, **there} if there.get(key, ABSENT) != here.get(key, ABSENT)]
    differing = {}
    for key in keys:
        if key[0] == "checksums":
            differing[NAMES[key[1]]] = "others"
        elif key[0] == "code":
            differing["code"] = "another version"
        else:
            absent = DEFAULTS.get(key, ABSENT)
            values = (values.get(key, absent) for values in (there, here))
            differing[key[-1]] = "{} there, {} here".format(*values)
    return differing


def as_text(differing: Mapping[str, str]) -> str:
    """The differences in one line."""
    return ", ".join(f"{name}: {how}" for name, how in differing.items())


def _flat(values: Any, *keys: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of nested mappings, by path."""
    if not isinstance(values, Mapping):
        yield keys, values
        return
    for key, value in values.items():
        yield from _flat(value, *keys, key)
