"""Prepared splits as they are read: the same samples for everyone, and no damaged array."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dsrl.config.sections import Augmentation
from dsrl.data.dataset import EvaluationSet, PreparedSplit, TrainingSet

SIZE = (64, 128)


@pytest.fixture
def split(prepared: Path) -> PreparedSplit:
    return PreparedSplit(prepared, "train")


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared data set that may be damaged."""
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


def training_set(split: PreparedSplit, seed: int = 0) -> TrainingSet:
    return TrainingSet(split, SIZE, Augmentation(), seed)


def same(first, second) -> bool:
    return all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_a_sample_depends_on_seed_epoch_and_index_alone(split):
    first, second = training_set(split), training_set(split)
    _ = [first[key] for key in ((0, 0), (3, 5), (3, 5), (4, 1))]  # earlier samples do not matter
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert same(first[3, 2], second[3, 2])
    assert not same(first[3, 2], first[4, 2])
    assert not same(first[3, 2], first[3, 3])
    assert not same(first[3, 2], training_set(split, seed=1)[3, 2])


def test_workers_load_what_one_process_loads(split):
    keys = [(epoch, index) for epoch in range(3) for index in range(10)]
    dataset = training_set(split)
    alone, shared = (
        [tuple(part.clone() for part in batch) for batch in loader]
        for loader in (
            DataLoader(dataset, 4, sampler=keys, num_workers=workers) for workers in (0, 2)
        )
    )
    assert len(alone) == 8
    assert all(same(x, y) for x, y in zip(alone, shared, strict=True))


def test_sizes_and_types(split):
    sample = training_set(split)[0, 0]
    assert sample.input.shape == (3, 32, 64) and sample.target.shape == (3, *SIZE)
    assert sample.labels.shape == SIZE
    assert {part.dtype for part in sample[:3]} == {torch.uint8}
    assert len(training_set(split)) == len(split) == 10


def test_evaluation_sees_the_stored_pixels_of_the_chosen_images(prepared):
    split = PreparedSplit(prepared, "val")
    chosen = EvaluationSet(split, range(1, 5, 2))
    assert len(chosen) == 2
    image, labels = chosen[1]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), split.images[3])
    assert np.array_equal(labels.numpy(), split.labels[3])


def test_native_labels_are_those_of_each_image(prepared):
    split = PreparedSplit(prepared, "val")
    for index in range(len(split)):  # prepared at the size of the label files
        assert np.array_equal(split.native_label(index), split.labels[index])
    assert not np.array_equal(split.labels[0], split.labels[1])


def test_arrays_stay_on_disk(split):
    assert isinstance(split.images, np.memmap) and isinstance(split.labels, np.memmap)


def resident(file: Path) -> int:
    """KiB of this mapped file that count as memory of this process."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):  # the head of a mapping
            inside = line.endswith(str(file.resolve()))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells it")
def test_images_that_were_read_are_not_resident(copy):
    split = PreparedSplit(copy, "val")
    files = [copy / "val" / f"{name}.npy" for name in ("images", "labels", "native_labels")]
    assert split.images.sum() and split.labels.sum()
    assert resident(files[0]) > 0 and resident(files[1]) > 0  # the measure sees what is read
    for index in range(len(split)):
        split.sample(index)
        split.native_label(index)
    assert [resident(file) for file in files] == [0, 0, 0]


def keep(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:count])


def test_a_truncated_array_is_refused(copy):
    for name in ("labels.npy", "images.npy"):
        for size in (-1, 5000, 127, 60, 5, 0):
            keep(copy / "train" / name, size)
            with pytest.raises(ValueError, match=f"{name}: damaged.*prepare the split again"):
                PreparedSplit(copy, "train")
        shutil.copy(copy / "val" / name, copy / "train" / name)


def test_truncated_native_labels_are_refused(copy):
    split = PreparedSplit(copy, "val")
    for size in (5000, 127, 5, 0):
        keep(copy / "val" / "native_labels.npy", size)
        with pytest.raises(ValueError, match=r"native_labels\.npy: damaged"):
            split.native_label(0)


def test_an_array_of_another_shape_or_type_is_refused(copy):
    for shape, dtype in [
        ((9, *SIZE), np.uint8),
        ((10, *SIZE), np.int16),
        ((10, 32, 64), np.uint8),
        ((10, *SIZE, 1), np.uint8),
    ]:
        np.save(copy / "train" / "labels.npy", np.zeros(shape, dtype))
        with pytest.raises(ValueError, match=r"labels.npy: contains .* but its manifest says"):
            PreparedSplit(copy, "train")


def test_a_file_that_is_not_an_array_is_refused(copy):
    (copy / "train" / "images.npy").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"images\.npy: damaged"):
        PreparedSplit(copy, "train")


def test_a_missing_array_or_split_names_the_path(copy):
    (copy / "train" / "images.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"images\.npy"):
        PreparedSplit(copy, "train")
    with pytest.raises(FileNotFoundError, match=r"nowhere.*dsrl preprocess"):
        PreparedSplit(copy, "nowhere")


def test_a_damaged_manifest_is_refused(copy):
    keep(copy / "train" / "manifest.json", 100)
    with pytest.raises(ValueError, match=r"manifest\.json: not a JSON file"):
        PreparedSplit(copy, "train")
