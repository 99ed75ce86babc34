"""A training step of each stage, the share of feature affinity in that of stage 3, and how much of
the matrix throughput of the device it reaches.

    python benchmarks/training_step.py [--config config/cityscapes.yaml] [--device cpu|gpu]

On random images, with the config's network, sizes and batch; on a GPU in bfloat16 as in training.
Times are medians of forward, backward and update. Feature affinity is timed alone, on the features
of the network, forward and backward. Its operations are counted as the device's form does them (see
`dsrl/losses/`): 3 B N^2 (C + C') tiled, by symmetry; 4 B N^2 (C + C') in the CUDA kernel. The
throughput beside it is that of one large `torch.matmul` in the same dtype.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from dsrl.config.settings import STAGE_NAMES, Settings, read_settings
from dsrl.data.description import load_description
from dsrl.evaluation.benchmark import device_name
from dsrl.losses import feature_affinity_loss, objective
from dsrl.losses.objective import pool_to_stride
from dsrl.models.dsrl import DSRL
from dsrl.system.distributed import set_up_device


def seconds(call: Callable[[], object], device: torch.device, runs: int) -> float:
    """Median time of a call, after two to warm up."""
    found = []
    for _ in range(runs + 2):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found[2:])


class Stage:
    """A stage's network with a batch of random images, as training sees them."""

    def __init__(self, settings: Settings, stage: int, batch: int, device: torch.device):
        self.settings, self.device = settings, device
        classes = len(load_description(settings.data.dataset).classes)
        size, doubled = settings.data.input_size, settings.data.output_size
        network = DSRL(settings.model, classes, stage).to(device, memory_format=torch.channels_last)
        self.network = network.train()
        self.optimizer = torch.optim.SGD(network.parameters(), 1e-6, momentum=0.9)
        images = torch.randn(batch, 3, *size, device=device)
        self.images = images.to(memory_format=torch.channels_last)
        self.target = torch.randn(batch, 3, *doubled, device=device)
        self.labels = torch.randint(classes, (batch, *doubled), device=device)

    def forward(self):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.network(self.images)

    def step(self) -> None:
        losses = objective(self.forward(), self.labels, self.target, self.settings.loss)
        self.optimizer.zero_grad()
        losses.total.backward()
        self.optimizer.step()

    def features(self) -> list[torch.Tensor]:
        """What feature affinity compares, (B, C, H, W) twice."""
        output = self.forward()
        maps = (output.segmentation_features, output.super_resolution_features)
        stride = self.settings.loss.fa_stride
        return [
            pool_to_stride(m, self.labels.shape[-2:], stride).detach().requires_grad_()
            for m in maps
        ]


def matrix_throughput(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a large matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device, dtype=dtype)
    return 2 * n**3 / seconds(lambda: a @ a, device, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="config/config.yaml")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--batch-size", type=int, help="default: the config's")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    settings, device = read_settings(arguments.config), set_up_device(arguments.device)
    batch = arguments.batch_size or settings.training.batch_size
    height, width = settings.data.input_size
    print(f"{device_name(device)}, PyTorch {torch.__version__}, {arguments.config}: ", end="")
    print(
        f"{settings.model.encoder_name}, {height}x{width}, batch {batch}, {arguments.runs} runs\n"
    )
    print("| stage | step (s) | images/s |\n|---|---:|---:|")
    for number, name in STAGE_NAMES.items():
        stage = Stage(settings, number, batch, device)
        step = seconds(stage.step, device, arguments.runs)
        print(f"| {name} | {step:.4f} | {batch / step:.1f} |", flush=True)
    maps = stage.features()
    alone = seconds(lambda: feature_affinity_loss(*maps).backward(), device, arguments.runs)
    n, channels = maps[0].shape[2] * maps[0].shape[3], maps[0].shape[1] + maps[1].shape[1]
    operations = (4 if device.type == "cuda" else 3) * batch * n**2 * channels
    reached, possible = operations / alone, matrix_throughput(maps[0].dtype, device)
    print(f"\nFeature affinity: {alone:.4f} s on {n} pixels of {channels} channels, both sides;")
    print(
        f"{100 * alone / step:.1f} % of the step of stage 3; {reached / 1e9:.0f} GFLOP/s, ", end=""
    )
    print(f"{100 * reached / possible:.0f} % of the {possible / 1e9:.0f} of a large product.")


if __name__ == "__main__":
    main()
