"""From a raw data set to the packed arrays of a prepared one, described in `manifest.py`."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from dsrl.data.description import DatasetDescription
from dsrl.data.images import open_image, upright_rgb
from dsrl.data.manifest import MANIFEST_NAME, Manifest, Sample, Triple
from dsrl.data.pairing import Pair
from dsrl.system.files import atomic_directory, sha256, write_text

T = TypeVar("T")
R = TypeVar("R")

LABEL_MODES = ("L", "P", "1", "I", "I;16", "I;16B")
# Pillow scales grey values of 2 and 4 bits to 0..255 by these factors, which changes label ids.
STRETCHED = {"L;2": 85, "L;4": 17}


class Prepared(NamedTuple):
    """The contribution of one image and its label to the prepared split."""

    rows: dict[str, NDArray[np.uint8]]  # array file -> the rows to append
    native_size: tuple[int, int]
    values: NDArray[np.int64]  # (3, 256), how often each value occurs per channel
    train_ids: NDArray[np.int64]  # (256,), how often each occurs in the prepared label


def preprocess(
    description: DatasetDescription,
    raw: Path,
    split: str,
    size: tuple[int, int],
    output: Path,
    jobs: int,
) -> Manifest:
    """Pack one split into the folder `output`, which is replaced as a whole or left as it is.

    Images are stored upright, as their EXIF orientation says. A split other than train and val may
    be missing from `raw`; it then has no samples.

    Args:
        raw: the folder of the unpacked archives.
        size: height and width of the stored images and labels, in pixels.
        jobs: number of threads; the output does not depend on it.

    Returns:
        The manifest, as written to `output`.

    Raises:
        FileNotFoundError: `raw` does not exist.
        ValueError: an image or label is missing, damaged, of another size than its partner, or has
            an unknown label value; one line names the file.
        OSError: `output` cannot be written.
    """
    raw = Path(raw)
    pairs = _find_pairs(description, raw, split)
    prepare = partial(_prepare, description, raw, size, split != "train")
    samples = []
    values, train_ids = np.zeros((3, 256), np.int64), np.zeros(256, np.int64)
    with atomic_directory(output) as folder:
        with _ArrayFiles(folder, _row_shapes(size, split)) as arrays:
            items = tqdm(_in_order(prepare, pairs, jobs), split, len(pairs), disable=None)
            for (name, image, label), item in zip(pairs, items, strict=True):
                arrays.append(item.rows)
                values += item.values
                train_ids += item.train_ids
                samples.append(
                    Sample(name=name, image=image, label=label, native_size=item.native_size)
                )
        mean, std = _mean_and_std(values)
        manifest = Manifest(
            dataset=description.name,
            split=split,
            source=raw.as_posix(),
            size=size,
            classes=description.classes,
            mean=mean,
            std=std,
            class_pixels=tuple(train_ids[: len(description.classes)].tolist()),
            samples=tuple(samples),
            checksums={path.name: sha256(path) for path in sorted(folder.iterdir())},
        )
        write_text(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _find_pairs(description: DatasetDescription, raw: Path, split: str) -> list[Pair]:
    if split not in description.splits:
        known = ", ".join(description.splits)
        raise ValueError(
            f"data set '{description.name}' has no split '{split}'; choose from {known}"
        )
    if not raw.is_dir():
        raise FileNotFoundError(f"{raw} does not exist; unpack the archives with `dsrl unpack`")
    patterns = description.splits[split]
    pairs = patterns.pairs(raw)
    if not pairs and split in ("train", "val"):
        raise ValueError(
            f"{raw}: no file matches '{patterns.image}', the pattern of the split '{split}'; "
            "unpack the archives again or correct the pattern"
        )
    return pairs


def _row_shapes(size: tuple[int, int], split: str) -> dict[str, tuple[int, ...]]:
    """The array files of a split, and the shape of one row of each."""
    shapes: dict[str, tuple[int, ...]] = {"images.npy": (*size, 3), "labels.npy": size}
    # Training never reads labels at their native size, and they take much space.
    return shapes if split == "train" else {**shapes, "native_labels.npy": ()}


def _prepare(
    description: DatasetDescription, raw: Path, size: tuple[int, int], native: bool, pair: Pair
) -> Prepared:
    """Decode and resize one image with its label."""
    _, image_path, label_path = pair
    image, values = _read_image(raw / image_path), _read_label(raw / label_path)
    if image.size != values.shape[::-1]:
        raise ValueError(
            f"{raw / label_path}: {values.shape[1]}x{values.shape[0]} pixels, but its image "
            f"{raw / image_path} has {image.width}x{image.height}; both need the same size"
        )
    try:
        native_label = description.to_train_ids(values)
    except ValueError as error:
        raise ValueError(f"{raw / label_path}: {error}") from None
    height, width = size
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    label = np.asarray(
        Image.fromarray(native_label).resize((width, height), Image.Resampling.NEAREST)
    )
    rows = {"images.npy": np.asarray(image)[None], "labels.npy": label[None]}
    if native:
        rows["native_labels.npy"] = native_label.ravel()
    return Prepared(
        rows,
        native_label.shape,
        np.array(image.histogram(), np.int64).reshape(3, 256),
        np.bincount(label.ravel(), minlength=256),
    )


def _read_image(path: Path) -> Image.Image:
    with open_image(path) as image:
        return upright_rgb(image)


def _read_label(path: Path) -> NDArray[Any]:
    """The values of a label file, integers (H, W)."""
    with open_image(path) as image:
        mode, raw_mode = image.mode, image.tile[0].args if image.tile else None
        values = np.asarray(image)
    if mode not in LABEL_MODES:
        raise ValueError(
            f"{path}: expected a label image with one channel of label ids (grey or palette), "
            f"got mode {mode}"
        )
    if isinstance(raw_mode, str) and raw_mode in STRETCHED:
        return values // STRETCHED[raw_mode]
    return values.astype(np.uint8) if mode == "1" else values


def _in_order(function: Callable[[T], R], tasks: Sequence[T], jobs: int) -> Iterator[R]:
    """Like `map`, on several threads, with few results in memory at a time (`Executor.map` would
    keep them all).

    Threads suffice: Pillow and NumPy release the interpreter lock while they decode and resize.
    """
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[R]] = deque()
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > 2 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _ArrayFiles:
    """.npy files of uint8 in one folder, to which rows are appended."""

    def __init__(self, folder: Path, row_shapes: dict[str, tuple[int, ...]]) -> None:
        self._shapes = {name: (0, *shape) for name, shape in row_shapes.items()}
        with ExitStack() as stack:
            self._files = {
                name: stack.enter_context((folder / name).open("wb")) for name in row_shapes
            }
            self._write_headers()
            self._stack = stack.pop_all()

    def append(self, rows: dict[str, NDArray[np.uint8]]) -> None:
        for name, array in rows.items():
            count, *shape = self._shapes[name]
            assert array.dtype == np.uint8 and list(array.shape[1:]) == shape
            self._files[name].write(np.ascontiguousarray(array).data)
            self._shapes[name] = (count + len(array), *shape)

    def _write_headers(self) -> None:
        """NumPy leaves room for the first dimension to grow, so that a header keeps its length."""
        for name, file in self._files.items():
            file.seek(0)
            header = {"descr": "|u1", "fortran_order": False, "shape": self._shapes[name]}
            np.lib.format.write_array_header_1_0(file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack:
            self._write_headers()


def _mean_and_std(values: NDArray[np.int64]) -> tuple[Triple, Triple]:
    """Mean and standard deviation per channel, for values in 0..1, from exact integer sums.

    Args:
        values: (3, 256), how often each value occurs per channel.
    """
    mean, std = [], []
    for channel in values.tolist():
        count = sum(channel)
        first = sum(value * times for value, times in enumerate(channel))
        second = sum(value**2 * times for value, times in enumerate(channel))
        mean.append(first / count / 255 if count else 0.0)
        # A constant channel has a std of 0, and images are divided by it: 1 instead.
        std.append((count * second - first**2) ** 0.5 / count / 255 if count else 1.0)
    return (mean[0], mean[1], mean[2]), (std[0] or 1.0, std[1] or 1.0, std[2] or 1.0)
