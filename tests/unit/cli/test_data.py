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


def write(values, name="own.yaml", **changes):
    with Path(name).open("w") as file:
        json.dump({**values, **changes}, file)


CALL = "preprocess --size 6 8 --jobs 1 --output out"


def test_the_folder_of_a_description_is_prepared(own, dsrl):
    write(own, folder="raw")
    code, out, err = dsrl(*f"{CALL} --dataset own.yaml --dataset-split val".split())
    assert (code, out, err) == (0, "", "")


def test_without_a_folder_it_is_that_of_the_workflow(own, dsrl):
    write(own, archives=["own.zip"])
    code, _, err = dsrl(*f"{CALL} --dataset own.yaml --dataset-split val".split())
    assert code == 1 and "data/raw/own does not exist; unpack the archives" in err


def test_images_in_two_splits_are_warned_of_once(own, dsrl):
    splits = own["splits"]
    write(own, folder="raw", splits={**splits, "val": splits["train"], "test": splits["val"]})
    told = [
        dsrl(*f"{CALL} --dataset own.yaml --dataset-split {split}".split())
        for split in ("train", "val", "test")
    ]
    assert [code for code, _, _ in told] == [0, 0, 0]
    assert [err for _, _, err in told] == [
        "",
        "dsrl preprocess: warning: 3 of the 3 images of 'val' are also in 'train', such as "
        "train/000.png; scores need images of their own\n",
        "",
    ]
