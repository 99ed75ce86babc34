"""The way of images to the network: preparing them, training batches, waiting, memory.

python benchmarks/input_pipeline.py [--rounds 5]
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from measure import Times, interleaved, machine, ratio, row
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from dsrl.config.settings import Settings, read_settings
from dsrl.data.dataset import PreparedSplit, TrainingSample
from dsrl.data.description import load_description
from dsrl.data.preprocess import preprocess
from dsrl.data.transforms import InputTransform
from dsrl.demo.street import draw_street
from dsrl.system.signals import StopRequest
from dsrl.training.guards import Guard
from dsrl.training.history import Progress
from dsrl.training.loader import training_loader
from dsrl.training.state import Position, build_state
from dsrl.training.train import _train_epoch

CPU = torch.device("cpu")
DEMO = load_description("demo")
NATIVE, PREPARED = (1024, 2048), (512, 1024)
SMALL = (192, 256)  # the output of a network that two cores can train
STREETS = 6
# Networks whose steps the loader must keep up with: the cheapest, and a usual one.
NETWORKS = {
    "mobilenetv3_small_050": {"encoder": "mobilenetv3_small_050", "decoder_channels": 32},
    "resnet18": {"encoder": "resnet18", "decoder_channels": 128},
}
MANY = (500, 5000)
IMAGES = 48  # whole batches of 8


def draw(raw: Path, size: tuple[int, int], images: int) -> None:
    """Write a split `train` of so many images, some of them drawn, the others links to these."""
    rng = np.random.default_rng(0)
    for number in range(images):
        for kind, pixels in zip(
            ("leftImg8bit", "gtFine_labelIds"),
            draw_street(*size, rng) if number < STREETS else (None, None),
            strict=True,
        ):
            folder = raw / kind.split("_")[0] / "train" / "a"
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"a_{number:06}_000000_{kind}.png"
            if pixels is None:
                first = folder / f"a_{number % STREETS:06}_000000_{kind}.png"
                path.hardlink_to(first)
            else:
                Image.fromarray(pixels).save(path)


def prepare(raw: Path, size: tuple[int, int], output: Path, jobs: int = 1) -> None:
    """As `dsrl preprocess` does it."""
    preprocess(DEMO, raw, "train", size, output / "train", jobs=jobs)


def prepare_with_pillow(raw: Path, size: tuple[int, int], output: Path) -> None:
    """The arrays alone, without checks, means, counts and checksums."""
    images, labels = [], []
    for path in sorted(raw.rglob("*_leftImg8bit.png")):
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB").resize(size[::-1], Image.BILINEAR)))
        name = str(path).replace("leftImg8bit", "gtFine", 1)
        with Image.open(name.replace("leftImg8bit", "gtFine_labelIds")) as label:
            ids = np.asarray(label.resize(size[::-1], Image.NEAREST))
        labels.append(DEMO.to_train_ids(ids))
    output.mkdir(parents=True)
    np.save(output / "images.npy", np.stack(images))
    np.save(output / "labels.npy", np.stack(labels))


class Plain(Dataset[tuple[Tensor, ...]]):
    """A data set as tutorials write it: torchvision's transforms on image and mask."""

    def __init__(self, data: Path, settings: Settings):
        self.images, self.labels = (np.load(data / f"{name}.npy") for name in ("images", "labels"))
        height, width = settings.data.output_size
        low, high = settings.augmentation.scale
        jitter = settings.augmentation
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(
                    (height, width),
                    scale=(1 / high**2, 1 / low**2),
                    ratio=(width / height, width / height),
                    antialias=True,
                ),
                v2.RandomHorizontalFlip(jitter.flip),
                v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue),
            ]
        )
        self.shrink = v2.Resize((height // 2, width // 2), antialias=True)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        image = tv_tensors.Image(torch.from_numpy(self.images[index]).permute(2, 0, 1))
        target, label = self.transform(image, tv_tensors.Mask(torch.from_numpy(self.labels[index])))
        return self.shrink(target), target, label


def settings_of(size: tuple[int, int], workers: int, **settings: object) -> Settings:
    """Zoom from 1, so that RandomResizedCrop can do the same."""
    half = (size[0] // 2, size[1] // 2)
    fixed = {"scale": [1, 2], "batch_size": 8, "num_workers": workers, "device": "cpu"}
    return read_settings({"input_size": half, **fixed, **settings})


def our_loader(data: Path, settings: Settings) -> DataLoader[TrainingSample]:
    """That of `dsrl train`."""
    split = PreparedSplit(data, "train")
    return training_loader(split, settings.recipe(1), settings.resources, CPU, Position())


def preparing(folder: Path, rounds: int) -> None:
    """Print the rows of `dsrl preprocess`."""
    draw(folder / "raw", NATIVE, STREETS)

    def ours() -> None:
        shutil.rmtree(folder / "ours", ignore_errors=True)
        prepare(folder / "raw", PREPARED, folder / "ours")

    def peer() -> None:
        shutil.rmtree(folder / "pillow", ignore_errors=True)
        prepare_with_pillow(folder / "raw", PREPARED, folder / "pillow")

    times = interleaved({"`dsrl preprocess`": ours, "Pillow": peer}, rounds)
    print_rows(times, STREETS, "Pillow", "preparing {}x{} -> {}x{}".format(*NATIVE, *PREPARED))


def batches(folder: Path, rounds: int) -> None:
    """Print the rows of the training batches."""
    for size in (SMALL, PREPARED):
        data = folder / "x".join(map(str, size))
        if not data.exists():
            prepare(folder / "raw", size, data)
        settings = settings_of(size, workers=0)
        loaders = {
            "`dsrl train`": our_loader(data, settings),
            "torchvision v2": DataLoader(
                Plain(data / "train", settings), 8, shuffle=True, drop_last=True
            ),
        }
        times = interleaved(
            {
                name: lambda loader=loader: [sum(1 for _ in loader) for _ in range(2)]
                for name, loader in loaders.items()
            },
            rounds,
        )
        images = 2 * IMAGES
        print_rows(times, images, "torchvision v2", "training batches, {}x{}".format(*size))


def print_rows(times: dict[str, Times], images: int, peer: str, title: str) -> None:
    """A row for each, of the time of an image."""
    for name, found in times.items():
        each = Times([seconds / images for seconds in found.seconds])
        print(row(title, name, each, ratio(found, times[peer])), flush=True)


class Watched:
    """A loader that counts the seconds in which a training waits for it."""

    def __init__(self, loader: DataLoader[TrainingSample]):
        self.loader, self.seconds = loader, 0.0

    def __iter__(self) -> Iterator[TrainingSample]:
        batches, self.seconds = iter(self.loader), 0.0
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch


def waiting_share(data: Path, network: dict[str, object], epochs: int) -> Times:
    """The share of an epoch of `dsrl train` that waits for data; of several epochs."""
    settings = settings_of(SMALL, workers=1, epochs=epochs + 1, **network)
    recipe, loader = settings.recipe(1), Watched(our_loader(data, settings))
    manifest = PreparedSplit(data, "train").manifest
    state = build_state(recipe, manifest.classes, len(loader.loader), Position(), None, False, CPU)
    transform = InputTransform.from_manifest(manifest, recipe.input_size)
    guard = Guard(None, state, None, StopRequest(), lambda step: [])
    shares = []
    for _ in range(epochs + 1):
        started = time.perf_counter()
        arguments = (transform, recipe, guard, Progress("", 1, 1, 0, enabled=False))
        row_of_epoch = _train_epoch(state.network, state, loader, *arguments)
        shares.append(loader.seconds / (time.perf_counter() - started))
        state.finish_epoch(row_of_epoch)
    return Times(shares[1:])  # the first starts the loader's processes


def resident(data: Path) -> float:
    """MiB of a process and of its loader's processes, after an epoch; what they share counts in
    parts."""
    loader = our_loader(data, settings_of(SMALL, workers=2))
    for _ in loader:
        pass
    processes = [os.getpid(), *(worker.pid for worker in loader._iterator._workers)]
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in processes]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("Pss:")]
    loader._iterator._shutdown_workers()
    return sum(int(line.split()[1]) for line in lines) / 1024


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("## Input pipeline\n")
    print(
        f"Times of an image in one thread or process, median (range) of {rounds} rounds, "
        "interleaved. Pillow decodes, resizes and stores the same arrays, without checks, "
        "statistics and checksums. torchvision v2: RandomResizedCrop, flip, ColorJitter and Resize "
        "on a plain data set of arrays in memory; `dsrl train` reads its own from files. Both "
        f"jitter the large image. {machine(CPU)}.\n"
    )
    print(row("what", "by", "ms an image", "/ peer"))
    print("|---|---|---:|---:|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        preparing(folder, rounds)
        shutil.rmtree(folder / "raw")
        draw(folder / "raw", PREPARED, IMAGES)
        batches(folder, rounds)
        print(
            "\nThe share of an epoch of `dsrl train` (192x256, batch 8, one loader process beside "
            f"the training's {torch.get_num_threads()} threads) that waits for data, of {rounds} "
            "epochs after the first:\n"
        )
        print("| network | waits, % | target |\n|---|---:|---|")
        draw(folder / "raw-epoch", SMALL, 5 * IMAGES)
        prepare(folder / "raw-epoch", SMALL, folder / "epoch")
        for name, network in NETWORKS.items():
            found = waiting_share(folder / "epoch", network, rounds)
            low, high = 100 * min(found.seconds), 100 * max(found.seconds)
            print(row(name, f"{100 * found.median:.2f} ({low:.2f}-{high:.2f})", "< 3"), flush=True)
        print(
            "\nResident memory (proportional set size) of the training process without a network "
            "and two loader processes, after an epoch of images of 192x256:\n"
        )
        print("| images | MiB | / first | target |\n|---:|---:|---:|---|")
        memory = []
        for images in MANY:
            draw(folder / f"raw{images}", SMALL, images)
            prepare(folder / f"raw{images}", SMALL, folder / f"data{images}", jobs=2)
            memory.append(resident(folder / f"data{images}"))
            target = "<= 1.1" if images > MANY[0] else ""
            print(row(images, f"{memory[-1]:.0f}", f"{memory[-1] / memory[0]:.3f}", target))


if __name__ == "__main__":
    main()
