"""Training steps and inference beside segmentation_models_pytorch's DeepLabV3Plus.

    python benchmarks/training_step.py [--device cpu|gpu] [--config config/cityscapes.yaml]

On a GPU, training is in bfloat16 as `dsrl train` does it, and inference in float32.
"""

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from measure import interleaved, machine, ratio, row
from network_cost import affinity_flops
from torch import Tensor, nn

from dsrl.config.settings import Settings, read_settings
from dsrl.data.description import load_description
from dsrl.losses import objective
from dsrl.models.cost import flops
from dsrl.models.dsrl import DSRL, DSRLOutput
from dsrl.system.distributed import set_up_device

STEP_TARGETS = {
    "stage 1": "1.25 of smp, small",
    "stage 3 without FA": "1.6 of smp, small",
    "stage 3": "0.40 of smp, full",
}
PASS_TARGETS = {
    "pruned": "1.1 of smp, small; 0.28 of smp, full",
    "pruned, ONNX Runtime": "0.8 of pruned",
}


def training(
    network: nn.Module, loss: Callable[[Any], Tensor], images: Tensor
) -> Callable[[], object]:
    """The training step of a network: `loss` is that of its output."""
    device = images.device
    network = network.train().to(device, memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 1e-6, momentum=0.9)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = network(images)
        optimizer.zero_grad()
        loss(output).backward()
        optimizer.step()

    return step


def ours(
    settings: Settings,
    stage: int,
    classes: int,
    batch: int,
    device: torch.device,
    affinity: bool = True,
) -> Callable[[], object]:
    """The step of a stage, with the objective of `dsrl train`."""
    size = settings.data.output_size
    target = torch.randn(batch, 3, *size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch, *size), device=device)
    inside = torch.ones(batch, *size, dtype=torch.bool, device=device)

    def loss(output: DSRLOutput) -> Tensor:
        if not affinity:
            output = output._replace(segmentation_features=None)
        return objective(output, labels, target, settings.loss, inside).total

    return training(
        DSRL(settings.model, classes, stage),
        loss,
        torch.randn(batch, 3, *settings.data.input_size, device=device),
    )


def peer(
    settings: Settings, size: tuple[int, int], classes: int, batch: int, device: torch.device
) -> Callable[[], object]:
    """The step of smp's network, with PyTorch's cross entropy."""
    labels = torch.randint(classes, (batch, *size), device=device)
    return training(
        smp_network(settings, classes),
        lambda logits: F.cross_entropy(logits.float(), labels),
        torch.randn(batch, 3, *size, device=device),
    )


def thin(settings: Settings) -> Settings:
    """The same with the cheaper convolutions."""
    model = settings.model.model_copy(update={"separable": True, "upsampler": "thin"})
    return settings.model_copy(update={"model": model})


def smp_network(settings: Settings, classes: int) -> nn.Module:
    """DeepLabV3Plus with the encoder, output stride and channels of the settings."""
    network: nn.Module = smp.DeepLabV3Plus(
        settings.model.encoder,
        encoder_weights=None,
        encoder_output_stride=settings.model.output_stride,
        decoder_channels=settings.model.decoder_channels,
        classes=classes,
    )
    return network


def inference(
    network: nn.Module, size: tuple[int, int], device: torch.device
) -> Callable[[], object]:
    """A forward pass with batch 1."""
    image = torch.randn(1, 3, *size, device=device)

    def call() -> None:
        with torch.inference_mode():
            network(image)

    return call


def onnx_runtime(network: nn.Module, size: tuple[int, int]) -> Callable[[], object]:
    """The same forward pass in ONNX Runtime, on the CPU."""
    import onnxruntime

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images).logits

    image = torch.randn(1, 3, *size)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/network.onnx"
        torch.onnx.export(Logits().eval(), (image,), path, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image.numpy()}
    with torch.inference_mode():
        difference = (torch.from_numpy(session.run(None, feed)[0]) - network(image).logits).abs()
    assert difference.max() < 1e-2, difference.max()
    return lambda: session.run(None, feed)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="config/cityscapes.yaml")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    settings, device = read_settings(arguments.config), set_up_device(arguments.device)
    model, batch = settings.model, arguments.batch_size
    classes = len(load_description(settings.data.dataset).classes)
    small, full = settings.data.input_size, settings.data.output_size
    print("## Training step and inference\n")
    print(
        f"{model.encoder}, {small[0]}x{small[1]} -> {full[0]}x{full[1]}; the peer is smp's "
        "(segmentation_models_pytorch's) DeepLabV3Plus with the same encoder, output stride and "
        "decoder channels. A step is the forward pass, the losses, the backward pass and SGD, on "
        f"random images, batch {batch}; inference is a forward pass, batch 1, float32. *Thin* is "
        "with `separable: true` and `upsampler: thin`, as smp's convolutions are. *Operations* are "
        "those of convolutions and matrix products beside those of smp, small: what the time would "
        "be at its operations per second. ms: median (range) of "
        f"{arguments.rounds} rounds of steps and {4 * arguments.rounds} of inference, interleaved. "
        f"{machine(device)}.\n"
    )
    steps(settings, classes, batch, device, arguments.rounds)
    print()
    passes(settings, classes, device, 4 * arguments.rounds)


def steps(settings: Settings, classes: int, batch: int, device: torch.device, rounds: int) -> None:
    """Print the table of training steps."""
    calls = {
        "smp, small": peer(settings, settings.data.input_size, classes, batch, device),
        "smp, full": peer(settings, settings.data.output_size, classes, batch, device),
    }
    for suffix, variant in (("", settings), (", thin", thin(settings))):
        for stage in (1, 2, 3):
            calls[f"stage {stage}{suffix}"] = ours(variant, stage, classes, batch, device)
        name = f"stage 3 without FA{suffix}"
        calls[name] = ours(variant, 3, classes, batch, device, affinity=False)
    times = interleaved(calls, rounds)
    costs = step_costs(settings, classes)
    print(row("training step", "ms", "/ smp, small", "/ smp, full", "operations", "target"))
    print("|---|---:|---:|---:|---:|---|")
    for name, found in times.items():
        peers = [ratio(found, times[p]) for p in ("smp, small", "smp, full")]
        share = f"{costs[name] / costs['smp, small']:.2f}"
        print(row(name, found, *peers, share, STEP_TARGETS.get(name.removesuffix(", thin"), "")))


def step_costs(settings: Settings, classes: int) -> dict[str, int]:
    """FLOPs of each step: the backward pass costs two forward passes."""
    small, full = settings.data.input_size, settings.data.output_size
    with torch.device("meta"):
        base = smp_network(settings, classes).train()
    costs = {"smp, small": 3 * flops(base, small), "smp, full": 3 * flops(base, full)}
    for suffix, variant in (("", settings), (", thin", thin(settings))):
        for stage in (1, 2, 3):
            with torch.device("meta"):
                network = DSRL(variant.model, classes, stage).train()
            costs[f"stage {stage}{suffix}"] = 3 * flops(network, small)
        costs[f"stage 3 without FA{suffix}"] = costs[f"stage 3{suffix}"]
        costs[f"stage 3{suffix}"] += affinity_flops(network, small, variant)
    return costs


def passes(settings: Settings, classes: int, device: torch.device, rounds: int) -> None:
    """Print the table of forward passes."""
    small, full = settings.data.input_size, settings.data.output_size
    base = settings.model.model_copy(update={"upsampler": "none"})
    networks = {
        "smp": smp_network(settings, classes),
        "base network": DSRL(base, classes, 1),
        "pruned": DSRL(settings.model, classes, 1),
        "pruned, thin": DSRL(thin(settings).model, classes, 1),
    }
    for network in networks.values():
        network.eval().to(device, memory_format=torch.channels_last)  # the faster format of all
    costs = {
        name: flops(networks[key], size)
        for name, key, size in (
            ("smp, small", "smp", small),
            ("smp, full", "smp", full),
            ("base network, full", "base network", full),
            ("pruned", "pruned", small),
            ("pruned, thin", "pruned, thin", small),
        )
    }
    calls = {
        "smp, small": inference(networks["smp"], small, device),
        "smp, full": inference(networks["smp"], full, device),
        "base network, full": inference(networks["base network"], full, device),
    }
    for name in ("pruned", "pruned, thin"):
        calls[name] = inference(networks[name], small, device)
        if device.type == "cpu":
            calls[f"{name}, ONNX Runtime"] = onnx_runtime(networks[name], small)
    times = interleaved(calls, rounds)
    columns = ("ms", "/ smp, small", "/ smp, full", "/ pruned", "operations", "target")
    print(row("inference", *columns))
    print("|---|---:|---:|---:|---:|---:|---|")
    for name, found in times.items():
        peers = [ratio(found, times[p]) for p in ("smp, small", "smp, full", "pruned")]
        share = f"{costs[name.removesuffix(', ONNX Runtime')] / costs['smp, small']:.2f}"
        print(row(name, found, *peers, share, PASS_TARGETS.get(name.replace(", thin", ""), "")))


if __name__ == "__main__":
    main()
