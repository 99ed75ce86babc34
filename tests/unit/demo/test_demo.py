import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsrl.demo import archives as demo
from dsrl.demo.archives import TEST_IMAGES, Sample, draw_sample, write_demo_archives
from dsrl.demo.street import draw_street
from dsrl.demo.street_canvas import SUPERSAMPLING, Camera, Canvas, Label
from dsrl.demo.street_photo import daylight

SIZE = (48, 96)
ARCHIVES = ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")
FILE_NAME = r"{root}/(train|val|test)/([a-z]+)/(\2_\d{{6}}_\d{{6}})_{suffix}\.png"


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ARCHIVES]


def broken(*_: object) -> None:
    """Stand in for draw_sample; at the top of the module, where a worker process finds it."""
    raise RuntimeError("out of paint")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "archives"
    write_demo_archives(folder, train_images=5, val_images=2, size=SIZE, seed=0, jobs=1)
    return folder


@pytest.fixture(scope="module")
def streets() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_street(64, 128, np.random.default_rng([0, 0, i])) for i in range(20)]


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


def test_number_of_jobs_does_not_show(archives: Path, tmp_path: Path) -> None:
    write_demo_archives(tmp_path, train_images=5, val_images=2, size=SIZE, seed=0, jobs=2)
    assert contents(tmp_path) == contents(archives)


def test_seed_split_and_number_choose_the_street() -> None:
    first = Sample("train", "demostadt", 0)
    others = [
        draw_sample(first, SIZE, 1),
        draw_sample(first._replace(number=1), SIZE, 0),
        draw_sample(first._replace(split="val"), SIZE, 0),
    ]
    assert draw_sample(first, SIZE, 0) == draw_sample(first, SIZE, 0)
    assert all(
        png != other
        for drawn in others
        for png, other in zip(draw_sample(first, SIZE, 0), drawn, strict=True)
    )


def test_a_longer_data_set_begins_with_the_shorter_one(archives: Path, tmp_path: Path) -> None:
    write_demo_archives(tmp_path, train_images=3, val_images=1, size=SIZE, seed=0, jobs=1)
    short = members(tmp_path / ARCHIVES[0], "leftImg8bit", "leftImg8bit")
    long = members(archives / ARCHIVES[0], "leftImg8bit", "leftImg8bit")
    assert short.items() <= long.items()


def test_archives_are_laid_out_like_cityscapes(archives: Path) -> None:
    images = members(archives / ARCHIVES[0], "leftImg8bit", "leftImg8bit")
    labels = members(archives / ARCHIVES[1], "gtFine", "gtFine_labelIds")
    assert images.keys() == labels.keys()
    splits = [split for split, _ in images]
    assert [splits.count(s) for s in ("train", "val", "test")] == [5, 2, TEST_IMAGES]
    for (split, name), png in labels.items():
        image, label = Image.open(io.BytesIO(images[split, name])), Image.open(io.BytesIO(png))
        assert (image.mode, label.mode) == ("RGB", "L")
        assert image.size == label.size == SIZE[::-1]
        found = set(np.unique(np.asarray(label)).tolist())
        ignored = {Label.UNLABELED, Label.EGO_VEHICLE}
        assert found <= (ignored if split == "test" else set(Label))
        assert split == "test" or Label.ROAD in found


def test_main_classes_are_drawn(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    main = [Label.ROAD, Label.SIDEWALK, Label.BUILDING, Label.VEGETATION, Label.SKY, Label.CAR]
    main += [Label.PERSON, Label.POLE, Label.TRAFFIC_SIGN]
    images_with = {name: sum(bool((label == name).any()) for _, label in streets) for name in main}
    assert min(images_with.values()) >= len(streets) // 2, images_with
    everything = np.unique(np.concatenate([label.ravel() for _, label in streets]))
    rare = {Label.FENCE, Label.WALL, Label.TERRAIN, Label.TRAFFIC_LIGHT, Label.RIDER}
    assert rare | {Label.BICYCLE, Label.TRUCK, Label.BUS} <= set(everything.tolist())


def test_drawn_poles_are_thin(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    poles = np.concatenate([label == Label.POLE for _, label in streets])
    one_wide = poles[:, 1:-1] & ~poles[:, :-2] & ~poles[:, 2:]
    assert one_wide.sum() > 0.2 * poles.sum()


@pytest.mark.parametrize("offset", np.linspace(0, 0.3, 7))
def test_the_label_never_loses_a_thin_line(offset: float) -> None:
    light = daylight(np.random.default_rng(0))
    camera = Camera(focal=64, horizon=32, centre=64, x=0.0, height=1.5, bend=0.0)
    canvas = Canvas(camera, light, Image.new("RGB", (128, 64)), Label.SKY)
    canvas.line([(offset, -9, 10), (offset + 1, 9, 10)], 0.001, (0, 0, 0), Label.POLE)
    label = np.asarray(canvas.label)[::SUPERSAMPLING, ::SUPERSAMPLING]
    assert (label == Label.POLE).any(axis=1).all()


def test_image_and_label_agree(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Colours change where the label does, and not so a few pixels beside it."""

    def contrast(image: np.ndarray, label: np.ndarray) -> float:
        step = np.abs(np.diff(image.astype(float), axis=1)).sum(axis=2)
        return float(step[np.diff(label.astype(int), axis=1) != 0].mean())

    on_edge = np.mean([contrast(image, label) for image, label in streets])
    for shift in (-3, 3):
        beside = np.mean([contrast(image, np.roll(label, shift, 1)) for image, label in streets])
        assert on_edge > 1.5 * beside


@pytest.mark.parametrize("size", [(32, 64), (33, 65), (64, 48), (128, 256)])
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    image, label = draw_street(*size, np.random.default_rng(3))
    assert (image.shape, label.shape) == ((*size, 3), size)
    assert image.dtype == label.dtype == np.uint8


def test_too_small_a_street_is_refused() -> None:
    with pytest.raises(ValueError, match=r"16x64.*32 or more"):
        draw_street(16, 64, np.random.default_rng(0))


@pytest.mark.parametrize("failing", ["worker", "disk"])
def test_a_failure_leaves_no_archive(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    if failing == "worker":
        monkeypatch.setattr(demo, "draw_sample", broken)
    else:
        monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises((RuntimeError, OSError), match=r"out of paint|No space left"):
        write_demo_archives(tmp_path, train_images=1, val_images=1, size=SIZE, seed=0, jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_output_must_be_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        write_demo_archives(file, train_images=1, val_images=1, size=SIZE, seed=0, jobs=1)
    assert file.read_text() == "precious"


@pytest.mark.parametrize("option", ["train_images", "val_images", "jobs"])
def test_counts_must_be_positive(option: str, tmp_path: Path) -> None:
    counts = {"train_images": 1, "val_images": 1, "jobs": 1, option: 0}
    with pytest.raises(ValueError, match=f"{option} is 0"):
        write_demo_archives(tmp_path, size=SIZE, seed=0, **counts)
