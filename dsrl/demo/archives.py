"""The demo data set, packed like the two public archives of Cityscapes."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dsrl.demo.street import draw_street
from dsrl.system.files import atomic_file

IMAGES, LABELS = "leftImg8bit", "gtFine"
# A split's place is part of the seed of its images: append, do not reorder.
CITIES = {"train": ("demostadt", "musterburg"), "val": ("beispielheim",), "test": ("nirgendorf",)}
TEST_IMAGES = 4
EPOCH = (1980, 1, 1, 0, 0, 0)  # the archives must not depend on when they are written


def write_demo_archives(
    output: Path, train_images: int, val_images: int, size: tuple[int, int], seed: int
) -> None:
    """Write `leftImg8bit_trainvaltest.zip` and `gtFine_trainvaltest.zip` into `output`.

    An image depends on `seed`, its split and its number only. `size` is height and width in
    pixels. Either both archives are written or none.

    Raises:
        FileExistsError: one of them exists.
        ValueError: `output` is a file, or `size` too small.
        OSError: the archives cannot be written.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: name a folder to write the demo archives to")
    paths = [output / f"{name}_trainvaltest.zip" for name in (IMAGES, LABELS)]
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} exists; choose another --output, or remove it")
    counts = {"train": train_images, "val": val_images, "test": TEST_IMAGES}
    samples = [(split, number) for split, count in counts.items() for number in range(count)]
    with (
        atomic_file(paths[0]) as image_path,
        atomic_file(paths[1]) as label_path,
        zipfile.ZipFile(image_path, "w") as images,
        zipfile.ZipFile(label_path, "w") as labels,
    ):
        for split, number in tqdm(samples, "draw streets", unit="image"):
            rng = np.random.default_rng([seed, list(CITIES).index(split), number])
            image, label = draw_street(*size, rng)
            label *= split != "test"  # whose labels Cityscapes keeps to itself: 0 is ignored
            city = CITIES[split][number % len(CITIES[split])]
            name = f"{split}/{city}/{city}_{number:06d}_000019"
            for archive, member, pixels in (
                (images, f"{IMAGES}/{name}_{IMAGES}.png", image),
                (labels, f"{LABELS}/{name}_{LABELS}_labelIds.png", label),
            ):
                info, file = zipfile.ZipInfo(member, EPOCH), io.BytesIO()
                info.external_attr = 0o644 << 16
                # Noise hardly compresses: higher levels cost time and gain nothing.
                Image.fromarray(pixels).save(file, "PNG", compress_level=1)
                archive.writestr(info, file.getvalue())
