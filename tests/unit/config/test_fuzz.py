"""What users write or disks garble is read or refused in one line, whatever it is."""

import json
import string

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dsrl.config.settings import Settings, read_settings, section_of
from dsrl.data.description import MAX_ID, DatasetDescription
from dsrl.data.manifest import IGNORE_INDEX, Manifest, read_manifest

# The same cases in every run, so that a failure is of the change at hand; nothing is left on disk.
fuzz = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

KEYS = [*Settings.model_fields, *section_of(), "1", "stages"]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=5),
)
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=10), st.integers(0, 4), st.booleans())
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)
)
mappings = st.dictionaries(st.sampled_from(KEYS) | keys, values, max_size=5)
# Text that looks like YAML: its own punctuation, the names of settings, tags and anchors.
yaml_words = st.sampled_from(
    [
        *KEYS,
        *"{}[],:-?!&*|>%@`#'\"=~<\n\t\x00\u2028",
        *("  ", ": ", "- ", "<<: ", "&a ", "*a", "0x", "0b", "1e999", ".nan", ".inf", "2026-99-99"),
        *("!!int", "!!float", "!!timestamp", "!!bool", "!!binary", "!!set", "!!omap", "!!pairs"),
        *("!!python/object:os.system", "1:2:3"),
    ]
)
yaml_texts = st.lists(yaml_words | st.text(max_size=4), max_size=15).map("".join)


def one_line(message: str) -> bool:
    return bool(message) and len(message.splitlines()) == 1


def is_refused_or_read(source) -> None:
    try:
        found = read_settings(source)
    except (ValueError, OSError) as error:
        assert one_line(str(error))
    else:
        assert isinstance(found, Settings)


@fuzz
@given(mappings)
@example({"training": 5, "epochs": 3})
@example({"training": {"epochs": 3, "a\nb": 1}})
@example({"stages": {1: {"learning_rate": float("nan")}}})
@example({"w1": float("inf")})
def test_settings_of_any_mapping(mapping):
    is_refused_or_read(mapping)


@fuzz
@given(yaml_texts)
@example("!!timestamp x")
@example("!!bool x")
@example("!!int x")
@example("2026-99-99")
@example("&a [*a]")
@example("training: &a {epochs: *a}")
@example("[" * 2000)
@example("{? [1] : 2}")
@example("a: b\nc: 'd\ne: f")
def test_settings_of_any_yaml_text(tmp_path, text):
    is_refused_or_read("{" + text + "}")
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_settings(str(path))
    except ValueError as error:
        assert one_line(str(error)) and str(error).startswith(str(path))


@fuzz
@given(st.binary(max_size=60))
@example(b"\xff\xfe")
@example(b"\x00")
def test_settings_of_any_bytes(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    try:
        read_settings(str(path))
    except ValueError as error:
        assert one_line(str(error)) and str(error).startswith(str(path))


@fuzz
@given(mappings)
def test_settings_that_are_read_are_read_back(mapping):
    """What a checkpoint keeps of the settings gives the same settings."""
    try:
        found = read_settings(mapping)
    except ValueError:
        return
    kept = json.loads(json.dumps(found.model_dump(mode="json")))
    assert read_settings(kept) == found
    assert read_settings(yaml.safe_load(yaml.safe_dump(kept))) == found


@pytest.fixture(scope="module")
def manifest(prepared) -> dict:
    return json.loads((prepared / "val" / "manifest.json").read_text())


def check_manifest(folder, content: bytes) -> None:
    path = folder / "manifest.json"
    path.write_bytes(content)
    try:
        found = read_manifest(folder)
    except ValueError as error:
        assert one_line(str(error)) and str(error).startswith(str(path))
    else:
        assert isinstance(found, Manifest)


@fuzz
@given(st.binary(max_size=60))
@example(b"\xff")
@example(b"[" * 20_000)
@example(b"1" * 5000)
@example(b'{"format": NaN}')
def test_manifest_of_any_bytes(tmp_path, content):
    check_manifest(tmp_path, content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@fuzz
@given(st.data())
def test_manifest_with_any_value_at_any_key(tmp_path, manifest, data):
    """From one key at the top to one deep in the samples is garbled."""
    garbled = json.loads(json.dumps(manifest))
    holder, key = garbled, data.draw(st.sampled_from(sorted(garbled)))
    while isinstance(holder[key], (dict, list)) and holder[key] and data.draw(st.booleans()):
        holder = holder[key]
        places = sorted(holder) if isinstance(holder, dict) else range(len(holder))
        key = data.draw(st.sampled_from(places))
    if data.draw(st.booleans()):
        holder[key] = data.draw(json_values)
    else:
        del holder[key]
    check_manifest(tmp_path, json.dumps(garbled).encode())


@fuzz
@given(st.data())
def test_a_manifest_cut_or_flipped_anywhere(tmp_path, manifest, data):
    content = bytearray(json.dumps(manifest).encode())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    check_manifest(tmp_path, bytes(content))


ids = st.integers(0, MAX_ID)


@st.composite
def descriptions(draw) -> DatasetDescription:
    """A data set with one to eight labels of one to three ids, of which one at least is learnt."""
    groups = draw(
        st.lists(st.lists(ids, min_size=1, max_size=3, unique=True), min_size=1, max_size=8)
        .filter(lambda groups: len({i for g in groups for i in g}) == sum(map(len, groups)))
    )  # fmt: skip
    ignored = [draw(st.booleans()) for _ in groups]
    ignored[draw(st.integers(0, len(groups) - 1))] = False
    patterns = {"image": "a/{frame}.png", "label": "b/{frame}.png"}
    return DatasetDescription.model_validate(
        {
            "name": "fuzz",
            "archives": ["a.zip"],
            "splits": {"train": patterns, "val": patterns},
            "labels": [
                {"id": group, "name": string.ascii_letters[n], "color": [n, 0, 0], "ignore": ignore}
                for n, (group, ignore) in enumerate(zip(groups, ignored, strict=True))
            ],
        }
    )


def train_id(description: DatasetDescription, value: int) -> int | None:
    """The slow way to look a value up; None if no label has it."""
    place = 0
    for label in description.labels:
        if value in label.id:
            return IGNORE_INDEX if label.ignore else place
        place += not label.ignore
    return None


@fuzz
@given(st.data())
def test_label_ids_become_train_ids(data):
    description = data.draw(descriptions())
    known = [value for label in description.labels for value in label.id]
    dtype = np.dtype(data.draw(st.sampled_from(["uint8", "uint16", "int32", "int64"])))
    limits = np.iinfo(dtype)
    fitting = [value for value in known if value <= limits.max]
    elements = st.integers(int(limits.min), int(limits.max))
    if fitting:
        elements = st.sampled_from(fitting) | (
            elements if data.draw(st.booleans()) else st.nothing()
        )
    shape = arrays.array_shapes(min_dims=1, max_dims=3, max_side=6)
    values = data.draw(arrays.arrays(dtype, shape, elements=elements))
    expected = [train_id(description, int(value)) for value in values.ravel()]
    if None not in expected:
        found = description.to_train_ids(values)
        assert found.dtype == np.uint8 and found.shape == values.shape
        assert found.ravel().tolist() == expected
        return
    with pytest.raises(ValueError, match="is not described for the data set 'fuzz'") as caught:
        description.to_train_ids(values)
    unknown = sorted({int(v) for v in values.ravel() if train_id(description, int(v)) is None})
    assert f"label value {', '.join(map(str, unknown[:10]))} is" in str(caught.value)
