"""Validation of mappings that users write: an error is one line that names the key."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """A mapping with known keys only, frozen once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def known_keys(cls) -> list[str]:
        """The keys that it may have."""
        return list(cls.model_fields)


S = TypeVar("S", bound=Strict)


def parse(model: type[S], values: Any, source: str) -> S:
    """Validate `values` as `model`.

    Raises:
        ValueError: one line that names `source`, the key at fault and, for a misspelt key, the
            nearest valid one.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{source}: expected a mapping of keys to values, got {values!r:.60}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        messages = [_message(model, problem) for problem in error.errors()]
        raise ValueError(" ".join(f"{source}: {'; '.join(messages)}".split())) from None


def _message(model: type[BaseModel], problem: Any) -> str:
    """One line for one pydantic error."""
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(model, location)
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0)
        return f"unknown key '{key}'; did you mean '{'.'.join([*map(str, location[:-1]), *near])}'?"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "tuple_type":
        example = list(_default(model, location) or [0, 1, 2])
        return f"{key}: expected a list, such as {example}, got {problem['input']!r:.60}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[0].lower()}{message[1:]}, got {problem['input']!r:.60}"


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the mapping that contains the last key of `location`."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        for candidate in (field.annotation, *get_args(field.annotation)) if field else ():
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    return model.known_keys() if issubclass(model, Strict) else list(model.model_fields)


def _default(model: type[BaseModel], location: tuple[int | str, ...]) -> Any:
    """The default of the setting at `location`, if there is one."""
    value: Any = None
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            return None
        value = field.default
        if isinstance(value, BaseModel):
            model = type(value)
    return value if isinstance(value, tuple) else None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not YAML; the message names the file and the line.
    """
    return parse_yaml(Path(path).read_bytes(), str(path))


class _Loader(yaml.SafeLoader):
    """Refuses a mapping with a key twice, of which PyYAML would keep the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(
                    problem=f"key '{key.value}' is given twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, str(key.value)))
        return node


def find_yaml(name_or_path: str, folder: Path, what: str) -> Path:
    """The YAML file that a user names: a built-in one in `folder` by its name, any other by its
    path; see `built_in_yaml`."""
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    return built_in_yaml(name_or_path, folder, what)


def built_in_yaml(name: str, folder: Path, what: str) -> Path:
    """The YAML file `name` in `folder`.

    Raises:
        ValueError: there is none; the message begins with `what`, and lists those there are.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if name not in known:
        raise ValueError(
            f"{what} is unknown; built-in are {', '.join(known)}, and the path of a .yaml file "
            "describes one of your own"
        )
    return known[name]


def parse_yaml(text: str | bytes, source: str) -> Any:
    """The content of YAML text.

    Raises:
        ValueError: it is not YAML, or a key is given twice; the message names `source`.
    """
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # tags such as !!timestamp make PyYAML raise anything
        raise ValueError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
