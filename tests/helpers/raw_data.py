"""A tiny raw data set of its own kind, written file by file."""

from pathlib import Path

import numpy as np
from PIL import Image

from dsrl.data.description import DatasetDescription
from dsrl.data.manifest import IGNORE_INDEX
from dsrl.data.preprocess import preprocess

SIZE = (6, 8)
# 2 and 3 are one class, 7 is ignored
LABELS = [
    {"id": 5, "name": "ground", "color": [1, 2, 3]},
    {"id": [2, 3], "name": "sky", "color": [4, 5, 6]},
    {"id": 7, "name": "void", "color": [0, 0, 0], "ignore": True},
    {"id": 400, "name": "far", "color": [7, 8, 9]},
]
TRAIN_IDS = {5: 0, 2: 1, 3: 1, 7: IGNORE_INDEX, 400: 2}


def describe(suffix: str = "png") -> DatasetDescription:
    return DatasetDescription.model_validate(
        {
            "name": "own",
            "archives": ["own.zip"],
            "splits": {
                split: {"image": f"{split}/{{frame}}.{suffix}", "label": f"{split}-l/{{frame}}.png"}
                for split in ("train", "val", "test")
            },
            "labels": LABELS,
        }
    )


def save(path: Path, content: np.ndarray | Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = content if isinstance(content, Image.Image) else Image.fromarray(content)
    image.save(path, exif=image.getexif())
    return path


def random_label(generator, shape) -> np.ndarray:
    return generator.choice(np.array([5, 2, 3, 7], np.uint8), shape)


def write_split(raw: Path, split: str, count: int, shape=(13, 20)) -> None:
    generator = np.random.default_rng(count)
    for index in reversed(range(count)):
        height, width = shape[0] + index % 3, shape[1]
        image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        save(raw / split / f"{index:03}.png", image)
        save(raw / f"{split}-l" / f"{index:03}.png", random_label(generator, (height, width)))


def one(tmp_path: Path, image, label, size=SIZE, split="val"):
    """Prepare a split of one image; its stored image and label."""
    save(tmp_path / "raw" / split / "x.png", image)
    save(tmp_path / "raw" / f"{split}-l" / "x.png", label)
    preprocess(describe(), tmp_path / "raw", split, size, tmp_path / "out", 1)
    return np.load(tmp_path / "out/images.npy")[0], np.load(tmp_path / "out/labels.npy")[0]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


GREY = np.full(SIZE, 100, np.uint8)
VOID = np.full(SIZE, 7, np.uint8)
