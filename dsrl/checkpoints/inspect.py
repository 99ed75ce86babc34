"""Showing what `.checkpoint`, `.weights` and other PyTorch files contain, and editing entries."""

import difflib
import itertools
import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dsrl.checkpoints.checkpoint import checkpoint_in
from dsrl.checkpoints.format import load_any, write
from dsrl.checkpoints.weights import weights_in
from dsrl.system.files import atomic_file

SHOWN = 8  # entries of a list that the tree shows
ALIASES = {"device": "resources.device"}  # in a checkpoint; its name in the original implementation


def summary(value: Any) -> Any:
    """The same with tensors replaced by their shape and dtype; ready for JSON."""
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, Mapping):
        return {str(key): summary(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [summary(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)[:80]


def tree(value: Any, indent: str = "") -> list[str]:
    """Lines that show a dictionary as a tree of keys; long lists are cut."""
    items = value.items() if isinstance(value, Mapping) else list(enumerate(value))[:SHOWN]
    lines = []
    for key, item in items:
        nested = isinstance(item, Mapping) or _holds_more(item)
        count = f" ({len(item)} entries)" if nested else ""
        lines.append(f"{indent}{key}:{count or ' ' + _leaf(item)}")
        if nested:
            lines += tree(item, indent + "  ")
    if not isinstance(value, Mapping) and len(value) > SHOWN:
        lines.append(f"{indent}... {len(value) - SHOWN} more")
    return lines


def _holds_more(value: Any) -> bool:
    """Whether a list contains more than plain values, or too many to show in a line."""
    if not isinstance(value, (list, tuple)):
        return False
    return len(value) > SHOWN or any(isinstance(v, (Mapping, list, tuple, Tensor)) for v in value)


def _leaf(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return str(summary(value)) if isinstance(value, (list, tuple, str)) else repr(value)


def convert(text: str, kind: str) -> Any:
    """The value that `text` stands for, as `str`, `int`, `float`, `bool` or `json`.

    Raises:
        ValueError: it stands for none of that kind.
    """
    truths = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    converters: dict[str, Callable[[str], Any]] = {
        "str": str,
        "int": int,
        "float": float,
        "bool": lambda word: truths[word.lower()],
        "json": json.loads,
    }
    try:
        return converters[kind](text)
    except (ValueError, KeyError):
        raise ValueError(f"--value: expected {kind}, got {text!r}") from None


def edit(path: Path, key: str, value: Any, add: bool) -> None:
    """Set one entry of a file; the old file stays as `<name>.bak`, or `.bak2`, ... if that exists.

    Args:
        key: dots lead into nested entries: `resources.num_workers`. `device` is short for
            `resources.device` in a checkpoint.
        add: allow an entry that is not there yet.

    Raises:
        OSError, ValueError: the file cannot be loaded or written, there is no such entry, the entry
            contains tensors, or the new value is not valid.
    """
    path = Path(path)
    content = load_any(path)
    if content.get("kind") == "checkpoint":
        key = ALIASES.get(key, key)
    keys = key.split(".")
    holder: Any = content
    for number, part in enumerate(keys[:-1], start=1):
        holder = holder[_find(path, holder, part, keys[:number])]
    last = keys[-1]
    if add and isinstance(holder, dict) and last not in map(str, holder):
        holder[last] = value
    else:
        found = _find(path, holder, last, keys)
        if _has_tensors(holder[found]):
            raise ValueError(f"{path}: '{key}' contains tensors, which cannot be edited")
        holder[found] = value
    _check_use(content, path)
    suffixes = (f".bak{number if number > 1 else ''}" for number in itertools.count(1))
    backups = (path.with_name(path.name + suffix) for suffix in suffixes)
    with atomic_file(next(file for file in backups if not file.exists())) as temporary:
        shutil.copy2(path, temporary)
    write(path, content)


def _find(path: Path, holder: Any, part: str, keys: list[str]) -> Any:
    """The key or place in `holder` that is written as `part`."""
    names: dict[str, Any] = {}
    if isinstance(holder, Mapping):
        names = {str(key): key for key in holder}
    elif isinstance(holder, list):
        names = {str(place): place for place in range(len(holder))}
    if part not in names:
        near = difflib.get_close_matches(part, names, n=1, cutoff=0)
        hint = f"; did you mean '{'.'.join([*keys[:-1], *near])}'" if near else ""
        raise ValueError(f"{path}: has no key '{'.'.join(keys)}'{hint}; --add makes a new one")
    return names[part]


def _has_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_tensors, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_tensors, value))
    return isinstance(value, Tensor)


def _check_use(content: Mapping[str, Any], path: Path) -> None:
    """Check that a file of this project can still be read."""
    readers: dict[Any, Callable[[Mapping[str, Any], Path], object]] = {
        "weights": weights_in,
        "checkpoint": checkpoint_in,
    }
    if reader := readers.get(content.get("kind")):
        try:
            reader(content, path)
        except ValueError as error:
            raise ValueError(f"not edited: {error}") from None
