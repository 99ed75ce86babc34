"""Which upsampler SSSR should have: stage 1 trained with each, on one data set, at equal settings.

    python benchmarks/upsamplers.py --config config/camvid-small.yaml \\
        --data data/prepared/camvid-192x256 --seeds 0 1 --epochs 6 --output upsamplers

docs/method.md has the table for MobileNetV3-Small from random weights: `--config '{input_size: [96,
128], encoder: mobilenetv3_small_100, decoder_channels: 128, learning_rate: 0.05}'`.

Prints a table (mean over seeds, and the range) and draws what each predicts for one image of val,
enlarged, without the image itself, whose license may not allow it. Finished runs are not repeated.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from dsrl.checkpoints.network import load_network
from dsrl.config.encoder_weights import encoder_file
from dsrl.config.settings import Settings, read_settings
from dsrl.config.strict import parse
from dsrl.data.dataset import PreparedSplit
from dsrl.data.palette import colour
from dsrl.evaluation.evaluate import evaluate
from dsrl.figures.figure import save_figure
from dsrl.models.cost import flops, latency, parameters
from dsrl.system.distributed import set_up_device
from dsrl.training.stage import train_stage

KINDS = ("none", "transposed", "pixel_shuffle", "bilinear")
WINDOW = 0.5  # share of the height and width that is drawn, from the middle


def train(settings: Settings, kind: str, seed: int, epochs: int, data: Path, folder: Path) -> Path:
    """Train stage 1 with one upsampler; returns its weights."""
    path = folder / f"{kind}-{seed}" / "final.weights"
    if not path.exists():
        values = settings.model_dump(exclude_unset=True)
        values["model"] = {**values.get("model", {}), "upsampler": kind}
        changes = {"seed": seed, "stages": {1: {"epochs": epochs}}}
        changed = parse(Settings, {**values, **changes}, "config")
        initial = encoder_file(changed.model)
        train_stage(changed.recipe(1), changed.resources, data, path.parent, initial)
    return path


def main() -> None:
    """Train, score, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    settings = read_settings(arguments.config)
    device = set_up_device("auto")
    split = PreparedSplit(arguments.data, "val")
    predictions = {}
    print("| upsampler | mean IoU % | pixel accuracy % | parameters (M) | GFLOPs | latency (ms) |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        found = []
        for seed in arguments.seeds:
            path = train(settings, kind, seed, arguments.epochs, arguments.data, arguments.output)
            network, transform, info = load_network(path, device)
            found.append(evaluate(network, split, transform, device))
        with torch.no_grad():
            image = torch.from_numpy(split.images[len(split) // 2].copy()).permute(2, 0, 1)[None]
            logits = network(transform(image.to(device))).logits
        labels = logits[0].argmax(0).byte().cpu().numpy()
        predictions[kind] = colour(labels, split.manifest.classes)
        size = info.input_size
        print(
            f"| {kind} | {spread([s.mean_iou for s in found])} "
            f"| {spread([s.pixel_accuracy for s in found])} | {parameters(network) / 1e6:.2f} "
            f"| {flops(network, size) / 1e9:.2f} "
            f"| {1000 * latency(network, size, device, 20):.1f} |",
            flush=True,
        )
    draw(predictions, arguments.output / "upsamplers.png")


def spread(values: list[float]) -> str:
    """Mean and range of shares, in percent."""
    low, high = 100 * min(values), 100 * max(values)
    return f"{100 * float(np.mean(values)):.2f} ({low:.2f}-{high:.2f})"


def draw(predictions: dict[str, np.ndarray], output: Path) -> None:
    """Draw the middle of each prediction, side by side, without smoothing."""
    figure = Figure(figsize=(3.4 * len(predictions), 2.9))
    axes = figure.subplots(1, len(predictions))
    for (kind, image), ax in zip(predictions.items(), axes, strict=True):
        height, width = (round(side * (1 - WINDOW) / 2) for side in image.shape[:2])
        ax.imshow(image[height:-height, width:-width], interpolation="nearest")
        ax.set_title(kind, fontsize=10)
        ax.set_axis_off()
    figure.tight_layout(pad=0.3)
    save_figure(figure, output)


if __name__ == "__main__":
    main()
