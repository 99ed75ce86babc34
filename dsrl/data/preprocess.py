"""From a raw data set to the packed arrays of a prepared one, described in `manifest.py`."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dsrl.config.sections import Fit
from dsrl.data.array_files import ArrayFiles
from dsrl.data.description import DatasetDescription
from dsrl.data.images import ImageReader, is_clutter, pixel_limit
from dsrl.data.manifest import MANIFEST_NAME, Manifest, Sample, Triple, read_manifest
from dsrl.data.pairing import Pair
from dsrl.data.prepare import prepare
from dsrl.system.files import atomic_directory, sha256, write_text

T = TypeVar("T")
R = TypeVar("R")
FAULTS = 20  # that are listed


def preprocess(
    description: DatasetDescription,
    raw: Path,
    split: str,
    size: tuple[int, int],
    output: Path,
    jobs: int,
    fit: Fit = "stretch",
) -> Manifest:
    """Pack one split into the folder `output`, which is replaced as a whole or left as it is.

    It is replaced only if it is empty, or the same split of the same data set at the same size.

    Images are stored upright, as their EXIF orientation says, unless only their pixels as they lie
    have the size of the label. What the files do not settle is reported on stderr. A split other
    than train and val may be missing from `raw`; it then has no samples.

    Args:
        raw: the folder of the unpacked archives.
        size: height and width of the stored images and labels, in pixels.
        jobs: number of threads; the output does not depend on it.
        fit: how images of another aspect ratio are stored; see `stored_box`.

    Returns:
        The manifest, as written to `output`.

    Raises:
        FileExistsError: `output` is something else.
        FileNotFoundError: `raw` does not exist.
        ValueError: an image or label is missing, damaged, of another size than its partner, or of a
            kind that would be misread, or a label has an unknown value; one line names the file.
            Several faults of files are listed on stderr first, and the line has their number. Or
            the size is too small for the fit.
        OSError: `output` cannot be written.
    """
    raw, output = Path(raw), Path(output)
    if fit == "pad" and min(size) < 2:
        raise ValueError(f"size {size[0]} {size[1]}: expected at least 2 2 with fit 'pad'")
    _check_replaceable(output, (description.name, split, size, fit))
    faults = list[ValueError]()
    pairs = _find_pairs(description, raw, split, faults)
    reader = ImageReader(description.value_range)
    one = partial(prepare, description, raw, size, fit, split != "train", reader)
    samples, lonely = [], len(faults)
    values, train_ids = np.zeros((3, 256), np.int64), np.zeros(256, np.int64)
    with pixel_limit(description.max_pixels), atomic_directory(output) as folder:
        with ArrayFiles(folder, _row_shapes(size, split)) as arrays:
            items = tqdm(_in_order(one, pairs, jobs), split, len(pairs), disable=None)
            for (name, image, label), item in zip(pairs, items, strict=True):
                if isinstance(item, ValueError):
                    faults.append(item)
                    continue
                if faults:  # nothing will be written; the rest is only checked
                    continue
                arrays.append(item.rows)
                values += item.values
                train_ids += item.train_ids
                samples.append(
                    Sample(name=name, image=image, label=label, native_size=item.native_size)
                )
        which = f"{raw}: {len(faults)} of the {len(pairs) + lonely} pairs of '{split}'"
        _raise(faults, which)
        mean, std = _mean_and_std(values)
        manifest = Manifest(
            dataset=description.name,
            split=split,
            source=raw.as_posix(),
            size=size,
            fit=fit,
            classes=description.classes,
            mean=mean,
            std=std,
            class_pixels=tuple(train_ids[: len(description.classes)].tolist()),
            samples=tuple(samples),
            checksums={path.name: sha256(path) for path in sorted(folder.iterdir())},
        )
        write_text(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")
    reader.print_notes()
    return manifest


def class_shares(manifest: Manifest) -> str:
    """One line: the share of each class of the labelled pixels, in %."""
    if not manifest.samples:
        return f"{manifest.split}: no images, as no file matches the patterns of this split"
    total = max(sum(manifest.class_pixels), 1)
    shares = [
        f"{info.name} {100 * pixels / total:.3g}"
        for info, pixels in zip(manifest.classes, manifest.class_pixels, strict=True)
    ]
    return f"{manifest.split}: {len(manifest.samples)} images; % of pixels: {', '.join(shares)}"


def _raise(faults: Sequence[ValueError], which: str) -> None:
    """Raises ValueError if there are faults; of several, the first are printed before."""
    if len(faults) == 1:
        raise faults[0]
    for fault in faults[:FAULTS]:
        print(fault, file=sys.stderr)
    if faults:
        listed = "listed above" if len(faults) <= FAULTS else f"the first {FAULTS} are listed above"
        raise ValueError(f"{which} cannot be used; {listed}")


def _check_replaceable(folder: Path, wanted: tuple[str, str, tuple[int, int], Fit]) -> None:
    """Raises FileExistsError if `folder` has files that preparing a split does not make anew.

    Args:
        wanted: data set, split, size and fit.
    """
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    found = {name for name in found if not is_clutter(PurePath(name))}
    cure = "choose another --output, or remove it"
    arrays = set(_row_shapes(wanted[2], "val"))
    if found and (MANIFEST_NAME not in found or found - arrays - {MANIFEST_NAME}):
        raise FileExistsError(f"{folder} exists and is not a prepared split; {cure}")
    with suppress(FileNotFoundError, ValueError):  # nothing, or damaged, to be prepared again
        there = read_manifest(folder)
        if (there.dataset, there.split, there.size, there.fit) != wanted:
            height, width = there.size
            fit = f" with fit '{there.fit}'" if there.fit != wanted[-1] else ""
            raise FileExistsError(
                f"{folder} contains the split '{there.split}' of the data set '{there.dataset}' "
                f"at {height}x{width}{fit}; {cure}"
            )


def _find_pairs(
    description: DatasetDescription, raw: Path, split: str, faults: list[ValueError]
) -> list[Pair]:
    """The pairs of a split; errors of files without a partner go to `faults`."""
    if split not in description.splits:
        known = ", ".join(description.splits)
        raise ValueError(
            f"data set '{description.name}' has no split '{split}'; choose from {known}"
        )
    if not raw.is_dir():
        cure = "unpack the archives with `dsrl unpack`, or correct --raw"
        if description.folder and raw == description.raw:
            cure = f"correct `folder` in the description of '{description.name}'"
        raise FileNotFoundError(f"{raw} does not exist; {cure}")
    patterns = description.splits[split]
    pairs = patterns.pairs(raw, faults)
    if not pairs and not faults and split in ("train", "val"):
        raise ValueError(patterns.no_match(raw))
    return pairs


def _row_shapes(size: tuple[int, int], split: str) -> dict[str, tuple[int, ...]]:
    """The array files of a split, and the shape of one row of each."""
    shapes: dict[str, tuple[int, ...]] = {"images.npy": (*size, 3), "labels.npy": size}
    # Training never reads labels at their native size, and they take much space.
    return shapes if split == "train" else {**shapes, "native_labels.npy": ()}


def _in_order(
    function: Callable[[T], R], tasks: Sequence[T], jobs: int
) -> Iterator[R | ValueError]:
    """Like `map`, on several threads, with few results in memory at a time (`Executor.map` would
    keep them all). A ValueError that the function raises is its result.

    Threads suffice: Pillow and NumPy release the interpreter lock while they decode and resize.
    """
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[R]] = deque()
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > 2 * jobs:
                yield _outcome(waiting.popleft())
        while waiting:
            yield _outcome(waiting.popleft())


def _outcome(future: Future[Any]) -> Any:
    """What a task returned, or the ValueError that it raised."""
    error = future.exception()
    return error if isinstance(error, ValueError) else future.result()


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
