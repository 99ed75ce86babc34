import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsrl.data.description import load_description
from dsrl.demo import archives as demo
from dsrl.demo.archives import TEST_IMAGES, write_demo_archives
from dsrl.demo.shapes import Label
from dsrl.demo.street import draw_street

SIZE = (48, 96)
ARCHIVES = ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")
FILE_NAME = r"{root}/(train|val|test)/([a-z]+)/(\2_\d{{6}}_\d{{6}})_{suffix}\.png"


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ARCHIVES]


def members(archive: Path, root: str, suffix: str) -> dict[tuple[str, str], bytes]:
    """Content by (split, name without suffix); every name must follow Cityscapes' pattern."""
    pattern = re.compile(FILE_NAME.format(root=root, suffix=suffix))
    files = {}
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            match = pattern.fullmatch(name)
            assert match, name
            files[match[1], match[3]] = file.read(name)
    return files


def decode(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def run_lengths(mask: np.ndarray) -> np.ndarray:
    """For each pixel of the mask, bool (N, H, W), how wide it is there."""
    edges = np.diff(np.pad(mask, ((0, 0), (0, 0), (1, 1))).astype(int), axis=2)
    lengths = np.nonzero(edges == -1)[2] - np.nonzero(edges == 1)[2]
    return np.repeat(lengths, lengths)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "archives"
    write_demo_archives(folder, train_images=3, val_images=2, size=SIZE, seed=0)
    return folder


@pytest.fixture(scope="module")
def other_archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("others")
    write_demo_archives(folder / "fewer", 1, 1, SIZE, seed=0)
    write_demo_archives(folder / "other seed", 1, 1, SIZE, seed=1)
    return {"fewer": folder / "fewer", "other seed": folder / "other seed"}


@pytest.fixture(scope="module")
def streets() -> tuple[np.ndarray, np.ndarray]:
    """Pictures and labels at the size of the demo's input, 96x192."""
    drawn = [draw_street(96, 192, np.random.default_rng([0, 0, i])) for i in range(12)]
    images, labels = zip(*drawn, strict=True)
    return np.stack(images), np.stack(labels)


def test_same_arguments_same_archives(archives: Path, tmp_path: Path) -> None:
    write_demo_archives(tmp_path, 3, 2, SIZE, seed=0)
    assert contents(tmp_path) == contents(archives)


@pytest.mark.parametrize(
    ("place", "root", "suffix"),
    [(0, "leftImg8bit", "leftImg8bit"), (1, "gtFine", "gtFine_labelIds")],
)
def test_an_image_depends_on_seed_split_and_number_only(
    place: int, root: str, suffix: str, archives: Path, other_archives: dict[str, Path]
) -> None:
    files = members(archives / ARCHIVES[place], root, suffix)
    assert len({png for (split, _), png in files.items() if split != "test"}) == 5
    fewer = members(other_archives["fewer"] / ARCHIVES[place], root, suffix)
    assert fewer.items() < files.items()
    other = members(other_archives["other seed"] / ARCHIVES[place], root, suffix)
    assert all(files[key] != png for key, png in other.items() if key[0] != "test")


def test_archives_are_laid_out_like_cityscapes(archives: Path) -> None:
    images = members(archives / ARCHIVES[0], "leftImg8bit", "leftImg8bit")
    labels = members(archives / ARCHIVES[1], "gtFine", "gtFine_labelIds")
    assert images.keys() == labels.keys()
    splits = [split for split, _ in images]
    assert [splits.count(s) for s in ("train", "val", "test")] == [3, 2, TEST_IMAGES]
    for (split, name), png in labels.items():
        image, label = decode(images[split, name]), decode(png)
        assert (image.shape, label.shape) == ((*SIZE, 3), SIZE)
        assert image.dtype == label.dtype == np.uint8
        assert image.std() > 20
        assert set(np.unique(label)) == {0} if split == "test" else Label.ROAD in label


def test_labels_are_those_of_the_description() -> None:
    ids = {entry.name: entry.id for entry in load_description("cityscapes").labels}
    for label in set(Label) - {Label.NONE}:
        assert np.ravel(ids[label.name.replace("_", " ").lower()]) == [label]
    assert np.ravel(ids["unlabeled"]) == [Label.NONE]


def test_every_class_is_frequent(streets: tuple[np.ndarray, np.ndarray]) -> None:
    _, labels = streets
    assert set(np.unique(labels)) == set(Label) - {Label.NONE}
    images_with = {label.name: int((labels == label).any(axis=(1, 2)).sum()) for label in Label}
    del images_with["NONE"]
    assert images_with.pop("BUS") >= 3
    assert min(images_with.values()) >= 9, images_with


@pytest.mark.parametrize(
    ("label", "widths"),
    [("POLE", (3, 6)), ("PERSON", (3, 9)), ("RIDER", (3, 9)), ("BICYCLE", (3, 12))],
)
def test_thin_things_are_pixels_wide_in_the_input(
    label: str, widths: tuple[int, int], streets: tuple[np.ndarray, np.ndarray]
) -> None:
    found = run_lengths(streets[1] == Label[label])
    assert widths[0] <= np.median(found) <= widths[1]
    assert np.mean(found >= 3) > 0.7


def test_image_and_label_agree(streets: tuple[np.ndarray, np.ndarray]) -> None:
    """Colours change where the label does, and not so a few pixels beside it."""
    images, labels = streets
    steps = np.abs(np.diff(images.astype(float), axis=2)).sum(axis=3)
    borders = np.diff(labels.astype(int), axis=2) != 0
    beside = [steps[np.roll(borders, shift, axis=2) & ~borders].mean() for shift in (-3, 3)]
    assert steps[borders].mean() > 1.7 * max(beside)


@pytest.mark.parametrize("size", [(32, 64), (33, 65), (64, 48)])
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    image, label = draw_street(*size, np.random.default_rng(3))
    assert (image.shape, label.shape) == ((*size, 3), size)
    assert {Label.ROAD, Label.BUILDING, Label.POLE} <= set(np.unique(label))


def test_too_small_a_street_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^16x64 is too small.*32 or more$"):
        write_demo_archives(tmp_path, 1, 1, size=(16, 64), seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["drawing", "disk"])
def test_a_failure_leaves_no_archive(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    owner, name = (demo, "draw_street") if failing == "drawing" else (zipfile.ZipFile, "writestr")
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OSError, match="No space left"):
        write_demo_archives(tmp_path, 1, 1, SIZE, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_output_must_be_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        write_demo_archives(file, 1, 1, SIZE, seed=0)
    assert file.read_text() == "precious"


def test_drawing_needs_no_pytorch() -> None:
    code = "import sys, dsrl.demo.archives; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_archives_that_are_there_are_not_replaced(tmp_path: Path) -> None:
    """They have the names of the real archives of Cityscapes."""
    (tmp_path / ARCHIVES[1]).write_bytes(b"real")
    with pytest.raises(FileExistsError, match=f"{ARCHIVES[1]} exists; choose another --output"):
        write_demo_archives(tmp_path, 1, 1, SIZE, seed=0)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"real"]
