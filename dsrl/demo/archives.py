"""The demo data set: drawn streets, packed like the two public archives of Cityscapes."""

import io
import multiprocessing
import zipfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from dsrl.demo.street import draw_street
from dsrl.demo.street_canvas import Label
from dsrl.system.files import atomic_file

IMAGES = "leftImg8bit"
LABELS = "gtFine"
# A split's place is part of the seed of its images: append, do not reorder.
CITIES = {
    "train": ("demostadt", "musterburg"),
    "val": ("beispielheim",),
    "test": ("nirgendorf",),
}
TEST_IMAGES = 4
FRAME = 19  # the labelled frame of every sequence of Cityscapes
EPOCH = (1980, 1, 1, 0, 0, 0)  # the archives must not depend on when they are written


class Sample(NamedTuple):
    """One drawing to make."""

    split: str
    city: str
    number: int

    def member(self, root: str, suffix: str) -> str:
        """Name of a file of this sample in the archive whose top folder is `root`."""
        name = f"{self.city}_{self.number:06d}_{FRAME:06d}_{suffix}.png"
        return f"{root}/{self.split}/{self.city}/{name}"


def write_demo_archives(
    output: Path, train_images: int, val_images: int, size: tuple[int, int], seed: int, jobs: int
) -> None:
    """Write `leftImg8bit_trainvaltest.zip` and `gtFine_trainvaltest.zip` into `output`.

    An image depends on `seed`, its split and its number only, and the archives do not depend on
    `jobs`, the number of processes that draw. `size` is height and width in pixels. Either both
    archives are written or none.

    Raises:
        ValueError: `output` is a file, or a number is out of range.
        OSError: the archives cannot be written.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: name a folder to write the demo archives to")
    for name, value in (("train_images", train_images), ("val_images", val_images), ("jobs", jobs)):
        if value < 1:
            raise ValueError(f"{name} is {value}: give 1 or more")
    if seed < 0:
        raise ValueError(f"demo_seed is {seed}: give 0 or more")
    samples = _samples({"train": train_images, "val": val_images, "test": TEST_IMAGES})
    # Not forked: a copy of a process in which torch runs threads may hang.
    context = multiprocessing.get_context("spawn")
    with (
        atomic_file(output / f"{IMAGES}_trainvaltest.zip") as image_path,
        atomic_file(output / f"{LABELS}_trainvaltest.zip") as label_path,
        zipfile.ZipFile(image_path, "w") as images,
        zipfile.ZipFile(label_path, "w") as labels,
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
    ):
        drawn = _draw_all(pool, 4 * jobs, samples, size, seed)
        for sample, (image, label) in tqdm(drawn, "draw streets", len(samples), unit="image"):
            _add(images, sample.member(IMAGES, IMAGES), image)
            _add(labels, sample.member(LABELS, f"{LABELS}_labelIds"), label)


def _samples(counts: dict[str, int]) -> list[Sample]:
    """Return what to draw in the order of the archives' names; cities take turns."""
    return sorted(
        Sample(split, CITIES[split][index % len(CITIES[split])], index)
        for split, count in counts.items()
        for index in range(count)
    )


def _draw_all(
    pool: ProcessPoolExecutor, ahead: int, samples: list[Sample], size: tuple[int, int], seed: int
) -> Iterator[tuple[Sample, tuple[bytes, bytes]]]:
    """Yield every sample with its two PNG files, in order.

    No more than `ahead` drawings wait at a time, however large the data set is.
    """
    pending: deque[tuple[Sample, Future[tuple[bytes, bytes]]]] = deque()
    for sample in samples:
        pending.append((sample, pool.submit(draw_sample, sample, size, seed)))
        if len(pending) > ahead:
            done, future = pending.popleft()
            yield done, future.result()
    for done, future in pending:
        yield done, future.result()


def draw_sample(sample: Sample, size: tuple[int, int], seed: int) -> tuple[bytes, bytes]:
    """Draw one sample; returns the PNG files of its RGB image and of its label ids."""
    rng = np.random.default_rng([seed, list(CITIES).index(sample.split), sample.number])
    image, label = draw_street(*size, rng)
    if sample.split == "test":
        # Cityscapes keeps the labels of its test split to itself: these hold ignored ids only.
        label[label != Label.EGO_VEHICLE] = Label.UNLABELED
    return _png(image), _png(label)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    # Noise hardly compresses: higher levels cost time and gain nothing.
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, EPOCH)
    member.external_attr = 0o644 << 16
    archive.writestr(member, content)
