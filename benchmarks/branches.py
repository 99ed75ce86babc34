"""What SISR and FA do to a network of stage 3: gradients of the losses, and rank of the features.

python benchmarks/branches.py WEIGHTS --data data/prepared/camvid-192x256 [--batches 4]

The tables of docs/method.md, section "Feature affinity". WEIGHTS are all layers of a stage; of one
below 3, only the features of the branches it has are described.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import row
from torch import Tensor, nn

from dsrl.checkpoints.network import build_network
from dsrl.checkpoints.weights import Weights, load_weights
from dsrl.config.sections import Augmentation, Loss
from dsrl.data.dataset import PreparedSplit, TrainingSample, TrainingSet
from dsrl.data.transforms import normalise
from dsrl.losses import objective
from dsrl.losses.objective import pool_to_stride
from dsrl.models.dsrl import DSRL

BATCH = 8
AUGMENTATION = Augmentation(scale=(1, 2))  # that of the configs for CamVid


def batches(weights: Weights, data: Path, count: int) -> Iterator[TrainingSample]:
    """The first batches of the first epoch, with normalised input and target."""
    split = PreparedSplit(data, "train")
    height, width = weights.info.input_size
    samples = TrainingSet(split, (2 * height, 2 * width), AUGMENTATION, seed=0)
    mean, std = weights.info.transform.mean, weights.info.transform.std
    for number in range(count):
        batch = zip(*(samples[0, BATCH * number + i] for i in range(BATCH)), strict=True)
        inputs, target, labels, inside = (torch.stack(values) for values in batch)
        images = (normalise(x, mean, std) for x in (inputs, target))
        yield TrainingSample(*images, labels.long(), inside)


def gradient_norms(
    network: DSRL, batch: TrainingSample, loss: Loss
) -> dict[tuple[str, str], float]:
    """Norm of the gradient of each weighted loss in each part of the network."""
    found = objective(network(batch.input), batch.labels, batch.target, loss, batch.inside)
    losses = {
        "L_ce": found.cross_entropy,
        f"{loss.w1:g} L_mse": loss.w1 * found.mean_squared_error,
        f"{loss.w2:g} L_fa": loss.w2 * found.feature_affinity,
    }
    parts = {"encoder": network.encoder, "SSSR's decoder": network.sssr_decoder}
    return {
        (part, name): _norm(value, module)
        for part, module in parts.items()
        for name, value in losses.items()
    }


def _norm(value: Tensor, module: nn.Module) -> float:
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return float(torch.cat([g.flatten() for g in gradients if g is not None] or [value * 0]).norm())


@torch.no_grad()
def features(network: DSRL, images: Tensor) -> dict[str, Tensor]:
    """The maps (B, C, h, w) that FA compares, and what they come from."""
    maps = network.encoder(images)
    found = {"segmentation": network.sssr_decoder(*maps)}
    if network.stage > 1:
        found["super-resolution"] = network.sisr_decoder(*maps)
    if network.stage > 2:
        found["segmentation, after FA's transform"] = network.fa_transform(found["segmentation"])
    return found


def rank_and_similarity(features: Tensor) -> tuple[float, float]:
    """Of normalised features (C, N): the effective rank, which is the exponential of the entropy of
    the squared singular values (Roy and Vetterli 2007), and the mean similarity of two pixels."""
    shares = torch.linalg.svdvals(features).square()
    shares = shares / shares.sum()
    rank = torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum())
    similarity = features.T @ features
    pairs = similarity.numel() - len(similarity)
    return float(rank), float((similarity.sum() - similarity.trace()) / pairs)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=4)
    arguments = parser.parse_args()
    weights = load_weights(arguments.weights)
    network = build_network(weights, str(arguments.weights), weights.info.stage).train()
    norms, values = defaultdict(list), defaultdict(list)
    for batch in batches(weights, arguments.data, arguments.batches):
        if network.stage == 3:
            for key, norm in gradient_norms(network, batch, Loss()).items():
                norms[key].append(norm)
        for side, maps in features(network, batch.input).items():
            pooled = pool_to_stride(maps, batch.labels.shape[-2:], Loss().fa_stride)
            for image in F.normalize(pooled.flatten(2), dim=1):
                values[side].append(rank_and_similarity(image))
    print(f"{BATCH * arguments.batches} training images of {arguments.data}, batches of {BATCH}.\n")
    if norms:
        print(row("gradient in", "of", "norm"), "|---|---|---:|", sep="\n")
        for key, found in norms.items():
            print(row(*key, f"{statistics.mean(found):.3g}"))
        print()
    print(row("features", "effective rank", "mean similarity"), "|---|---:|---:|", sep="\n")
    for side, pairs in values.items():
        rank, similarity = map(statistics.mean, zip(*pairs, strict=True))
        print(row(side, f"{rank:.1f}", f"{similarity:.2f}"))


if __name__ == "__main__":
    main()
