"""The commands that prepare data, where they do more than the functions they call."""

import json
from pathlib import Path

import pytest
from raw_data import describe, write_split


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a raw data set of two splits, and its description."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        write_split(tmp_path / "raw", split, 3)
    return json.loads(describe().model_dump_json(exclude={"archives"}, exclude_none=True))


def write(values, path="own.yaml", /, **changes):
    with Path(path).open("w") as file:
        json.dump({**values, **changes}, file)


def prepare(dsrl, split, output="out", dataset="own.yaml", size="6 8"):
    line = f"preprocess --size {size} --jobs 1 --output {output} --dataset {dataset}"
    return dsrl(*line.split(), "--dataset-split", split)


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_the_folder_of_a_description_is_prepared(own, dsrl):
    write(own, folder="raw")
    shares = "val: 3 images; % of pixels: ground 37.2, sky 62.8, far 0\n"
    assert prepare(dsrl, "val") == (0, "", shares)


def test_without_a_folder_it_is_that_of_the_workflow(own, dsrl):
    write(own, archives=["own.zip"])
    code, _, err = prepare(dsrl, "val")
    assert code == 1 and "data/raw/own does not exist; unpack the archives" in err
    write(own, folder="nowhere")
    code, _, err = prepare(dsrl, "val")
    assert code == 1 and "nowhere does not exist; correct `folder` in the description of" in err


def test_images_in_two_splits_are_warned_of_once(own, dsrl):
    splits = own["splits"]
    write(own, folder="raw", splits={**splits, "val": splits["train"], "test": splits["val"]})
    told = [prepare(dsrl, split) for split in ("train", "val", "test")]
    assert [code for code, _, _ in told] == [0, 0, 0]
    warned = [line for _, _, err in told for line in err.splitlines() if "warning" in line]
    assert warned == [
        "dsrl preprocess: warning: 3 of the 3 images of 'val' are also in 'train', such as "
        "train/000.png; scores need images of their own",
    ]


def test_only_the_same_split_is_replaced(own, dsrl):
    write(own, folder="raw")
    write(own, "other.yaml", folder="raw", name="other")
    assert prepare(dsrl, "val")[0] == 0
    before = contents("out/val")
    Path("out/val/manifest.json").write_text("{")  # the message says to prepare it again
    Path("out/val/.DS_Store").touch()
    assert prepare(dsrl, "val")[0] == 0
    assert contents("out/val") == before
    told = "out/val contains the split 'val' of the data set 'own' at 6x8; choose another --output"
    assert told in prepare(dsrl, "val", size="12 16")[2]
    assert told in prepare(dsrl, "val", dataset="other.yaml")[2]
    Path("out/val").rename("out/train")
    assert "out/train contains the split 'val'" in prepare(dsrl, "train")[2]
    assert sorted(contents("out/train").values()) == sorted(before.values())


@pytest.mark.parametrize("name", ["photo.jpg", "images.npy", "manifest.json and notes.txt"])
def test_what_is_no_prepared_split_is_kept(own, dsrl, name):
    write(own, folder="raw")
    for file in name.split(" and "):
        Path("out/val").mkdir(parents=True, exist_ok=True)
        Path("out/val", file).write_text("mine")
    before = contents("out")
    code, _, err = prepare(dsrl, "val")
    assert code == 1 and "out/val exists and is not a prepared split; choose" in err
    assert contents("out") == before
