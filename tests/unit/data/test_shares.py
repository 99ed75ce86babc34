"""Splits by ratio."""

from pathlib import Path

import pytest

from dsrl.config.strict import parse
from dsrl.data.description import DatasetDescription
from dsrl.data.shares import Shares

BASE = {
    "name": "own",
    "folder": "raw",
    "labels": [{"id": 0, "name": "road", "color": [1, 2, 3]}],
    "splits": {"all": {"image": "i/{drive}/{frame}.png", "label": "l/{drive}/{frame}.png"}},
}


def describe(**split) -> DatasetDescription:
    return parse(DatasetDescription, {**BASE, "split": split}, "own.yaml")


def drawn(raw: Path, **split) -> dict[str, set[str]]:
    splits = describe(**split).splits
    return {name: {pair[0] for pair in each.pairs(raw)} for name, each in splits.items()}


@pytest.fixture
def raw(tmp_path) -> Path:
    for drive in range(10):
        for frame in range(drive + 1):
            for kind in "il":
                path = tmp_path / f"{kind}/{drive}/{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    return tmp_path


def test_each_sample_is_in_one_split_and_the_shares_are_kept(raw):
    found = drawn(raw, train=0.6, val=0.2, test=0.2)
    assert {name: len(names) for name, names in found.items()} == {
        "train": 33, "val": 11, "test": 11,
    }  # fmt: skip
    assert len(set().union(*found.values())) == 55


def test_the_seed_decides_and_nothing_else(raw):
    first = drawn(raw, train=0.8, val=0.2)
    assert drawn(raw, train=0.8, val=0.2, seed=0) == first
    assert drawn(raw, train=0.8, val=0.2, seed=1) != first
    shares = Shares(train=0.5, val=0.5)
    assert shares.draw("abcdef") == shares.draw("fedcba")


def test_a_group_stays_together(raw):
    found = drawn(raw, train=0.8, val=0.2, group="drive")
    drives = {name: {sample.split("_")[0] for sample in names} for name, names in found.items()}
    assert not drives["train"] & drives["val"]
    assert {name: len(each) for name, each in drives.items()} == {"train": 8, "val": 2}


def test_unlabelled_images_do_not_count(raw):
    for path in list((raw / "l").rglob("*.png"))[:25]:
        path.unlink()
    values = {**BASE["splits"]["all"], "unlabelled": "skip"}
    whole = {**BASE, "splits": {"all": values}, "split": {"train": 0.5, "val": 0.5}}
    splits = parse(DatasetDescription, whole, "own.yaml").splits
    assert [len(split.pairs(raw)) for split in splits.values()] == [15, 15]


def test_every_split_has_a_sample():
    assert sorted(Shares(train=0.98, val=0.01, test=0.01).draw("abc").values()) == [
        "test", "train", "val",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="1 samples or groups cannot be divided into 2"):
        Shares(train=0.5, val=0.5).draw("a")


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({"train": 0.8, "val": 0.1}, "shares that add up to 1, got train: 0.8, val: 0.1"),
        ({"train": 0.8}, "'val' is missing"),
        ({"train": 0.8, "val": 0.2, "group": "city"}, "'city' is no placeholder of 'i/{drive}"),
        ({"train": 0.8, "val": 0.2, "sed": 1}, "did you mean 'seed'"),
    ],
)
def test_a_wrong_split_is_refused_in_one_line(split, told):
    with pytest.raises(ValueError, match=r"^own\.yaml") as caught:
        describe(**split)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_split_is_of_all():
    splits = {"train": BASE["splits"]["all"], "val": BASE["splits"]["all"]}
    with pytest.raises(ValueError, match=r"`split` divides the samples of `splits: \{all:"):
        parse(
            DatasetDescription,
            {**BASE, "splits": splits, "split": {"train": 0.8, "val": 0.2}},
            "own.yaml",
        )
