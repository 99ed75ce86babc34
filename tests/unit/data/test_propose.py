"""`dsrl describe`: the description that it proposes prepares the data set that it found."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dsrl.data.description import load_description
from dsrl.data.preprocess import preprocess
from dsrl.data.propose import propose

SIZE = 24, 32
RNG = np.random.default_rng(0)
COLORS = np.array([[0, 0, 0], [128, 64, 128], [250, 170, 30]], np.uint8)


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)


def label(path: Path, values=(0, 1, 7, 255), colors: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = RNG.choice(values, SIZE).astype(np.uint8)
    Image.fromarray(COLORS[ids % 3] if colors else ids).save(path)


def prepared(root: Path) -> dict[str, set[str]]:
    """The samples of each split, prepared by the proposed description of `root / "data"`."""
    path = root / "own.yaml"
    path.write_text(propose(root / "data"))
    description = load_description(str(path))
    return {
        split: {
            sample.image
            for sample in preprocess(
                description, description.raw, split, (12, 16), root / "out" / split, 1
            ).samples
        }
        for split in description.splits
    }


def test_two_folders(tmp_path):
    for number in range(10):
        image(tmp_path / f"data/images/{number:03}.jpg")
        label(tmp_path / f"data/masks/{number:03}.png")
    found = prepared(tmp_path)
    assert {split: len(samples) for split, samples in found.items()} == {"train": 8, "val": 2}
    values = yaml.safe_load((tmp_path / "own.yaml").read_text())
    assert values["splits"]["all"] == {"image": "images/{name}.jpg", "label": "masks/{name}.png"}
    assert [entry["id"] for entry in values["labels"]] == [0, 1, 7, 255]
    assert [entry.get("ignore", False) for entry in values["labels"]] == [False] * 3 + [True]
    assert "% " not in values["name"] and "# 2" in (tmp_path / "own.yaml").read_text()


def test_side_by_side_and_some_without_a_label(tmp_path):
    for number in range(12):
        image(tmp_path / f"data/street_{number:03}.png")
        if number < 10:
            label(tmp_path / f"data/street_{number:03}_mask.png")
    found = prepared(tmp_path)
    assert len(found["train"] | found["val"]) == 10
    assert "unlabelled: skip" in (tmp_path / "own.yaml").read_text()


def test_splits_are_those_of_the_folders(tmp_path):
    for split, count in {"train": 4, "valid": 2, "test": 1}.items():
        for number in range(count):
            image(tmp_path / f"data/{split}/images/{number}.png")
            label(tmp_path / f"data/{split}/labels/{number}.png")
    found = prepared(tmp_path)
    assert {split: len(samples) for split, samples in found.items()} == {
        "train": 4, "val": 2, "test": 1,
    }  # fmt: skip
    assert all(sample.startswith("valid/images/") for sample in found["val"])


def test_folders_of_cities_and_several_kinds_of_labels(tmp_path):
    for city in ("bonn", "ulm"):
        for number in range(3):
            stem = f"{city}_{number:06}"
            image(tmp_path / f"data/left/{city}/{stem}_left8bit.png")
            label(tmp_path / f"data/fine/{city}/{stem}_fine_labelIds.png")
            image(tmp_path / f"data/fine/{city}/{stem}_fine_depth.png")
    found = prepared(tmp_path)
    assert len(found["train"] | found["val"]) == 6
    assert all("left8bit" in sample for sample in found["train"])


def test_black_and_white_masks_have_two_classes(tmp_path):
    for number in range(5):
        image(tmp_path / f"data/img/{number}.jpg")
        label(tmp_path / f"data/gt/{number}.png", values=(0, 255))
    prepared(tmp_path)
    labels = yaml.safe_load((tmp_path / "own.yaml").read_text())["labels"]
    assert [(entry["id"], "ignore" in entry) for entry in labels] == [(0, False), (255, False)]


def test_color_masks(tmp_path):
    for number in range(5):
        image(tmp_path / f"data/img/{number}.jpg")
        label(tmp_path / f"data/gt/{number}.png", values=(0, 1, 2), colors=True)
    prepared(tmp_path)
    labels = yaml.safe_load((tmp_path / "own.yaml").read_text())["labels"]
    assert [entry["color"] for entry in labels] == COLORS.tolist()


def test_the_command_prints_or_writes_and_replaces_nothing(tmp_path, dsrl):
    folder, output = str(tmp_path / "data"), tmp_path / "own.yaml"
    code, _, err = dsrl("describe", folder)
    assert code == 1 and "data: no such folder" in err
    for number in range(4):
        image(tmp_path / f"data/i/{number}.jpg")
    code, _, err = dsrl("describe", folder)
    assert code == 1 and "no images with label files of the same names are found" in err
    for number in range(4):
        label(tmp_path / f"data/l/{number}.png")
    code, out, _ = dsrl("describe", folder)
    assert code == 0 and dsrl("describe", folder, "--output", str(output))[0] == 0
    assert output.read_text() == out
    code, _, err = dsrl("describe", folder, "--output", str(output))
    assert code == 1 and "own.yaml exists" in err and output.read_text() == out


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_mixed_suffixes(tmp_path, suffix):
    for number in range(5):
        image(tmp_path / f"data/i/{number}{suffix if number % 2 else '.png'}")
        label(tmp_path / f"data/l/{number}.png")
    found = prepared(tmp_path)
    assert len(found["train"] | found["val"]) == 5


def test_a_damaged_image_hides_no_others(tmp_path):
    for number in range(6):
        image(tmp_path / f"data/i/{number}.jpg")
        label(tmp_path / f"data/l/{number}.png")
    (tmp_path / "data/i/0.jpg").write_text("hello")
    assert "image: i/{name}.jpg" in propose(tmp_path / "data")


def palettes(root: Path, *palettes: list[int]) -> None:
    """Images, and masks of the ids 0, 1 and 2 that show them in the colors of these palettes."""
    for number, palette in enumerate(palettes):
        image(root / f"i/{number}.jpg")
        (root / "l").mkdir(exist_ok=True)
        mask = Image.fromarray(RNG.choice(3, SIZE).astype(np.uint8), "P")
        mask.putpalette(palette)
        mask.save(root / f"l/{number}.png")


def test_palettes_tell_the_colors_of_the_ids(tmp_path):
    palettes(tmp_path / "data", *[COLORS.ravel().tolist()] * 5)
    prepared(tmp_path)
    labels = yaml.safe_load((tmp_path / "own.yaml").read_text())["labels"]
    assert [(entry["id"], entry["color"]) for entry in labels] == list(enumerate(COLORS.tolist()))


def test_a_grey_palette_tells_no_colors(tmp_path):
    grey, plain = tmp_path / "grey", tmp_path / "plain"
    palettes(grey, *[[value for value in range(256) for _ in range(3)]] * 4)
    for number in range(4):
        image(plain / f"i/{number}.jpg")
        label(plain / f"l/{number}.png", values=(0, 1, 2))
    texts = [yaml.safe_load(propose(folder))["labels"] for folder in (grey, plain)]
    assert [entry["color"] for entry in texts[0]] == [entry["color"] for entry in texts[1]]


def test_palettes_that_differ_are_refused(tmp_path):
    one, other = COLORS.ravel().tolist(), COLORS[::-1].ravel().tolist()
    palettes(tmp_path / "data", one, one, other, one)
    with pytest.raises(
        ValueError, match=r"l/2\.png: its palette shows the index 0 as \[.*l/0\.png"
    ):
        propose(tmp_path / "data")


def test_ids_and_colors_together_are_refused_in_one_line(tmp_path):
    for number in range(4):
        image(tmp_path / f"data/i/{number}.jpg")
        label(tmp_path / f"data/l/{number}.png", values=(0, 1, 2), colors=number == 0)
    with pytest.raises(ValueError, match="l: some label files have ids and others colors; save"):
        propose(tmp_path / "data")


def test_values_of_all_files_and_splits_are_proposed(tmp_path):
    for split, values in {"train": (0, 1), "val": (0, 1, 9)}.items():
        for number in range(70):
            image(tmp_path / f"data/{split}/i/{number}.jpg")
            rare = split == "train" and number == 41
            label(tmp_path / f"data/{split}/l/{number}.png", values=(7,) if rare else values)
    prepared(tmp_path)
    labels = yaml.safe_load((tmp_path / "own.yaml").read_text())["labels"]
    assert [entry["id"] for entry in labels] == [0, 1, 7, 9]


def test_transparent_masks_are_refused_as_they_would_be_later(tmp_path):
    for number in range(4):
        image(tmp_path / f"data/i/{number}.jpg")
        (tmp_path / "data/l").mkdir(exist_ok=True)
        mask = np.dstack([COLORS[RNG.choice(3, SIZE)], RNG.choice([0, 255], SIZE)]).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f"data/l/{number}.png")
    with pytest.raises(ValueError, match="of the pixels are transparent"):
        propose(tmp_path / "data")
