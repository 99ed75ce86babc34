"""The inference network as a file that runs without this project.

A `.pt2` file of torch.export: `torch.export.load(path).module()` needs PyTorch alone. ONNX is not
offered, as PyTorch's exporter to it needs packages (onnx, onnxscript) that are not in the lock.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from dsrl.checkpoints.weights import build_network, load_weights
from dsrl.data.transforms import normalise
from dsrl.models.dsrl import DSRL
from dsrl.system.files import atomic_file


class InferenceNetwork(nn.Module):
    """Pixels to logits: the network with the normalisation that it was trained with."""

    def __init__(self, network: DSRL, mean: Tensor, std: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in 0..255, at the input size -> logits (B, C, 2H, 2W)."""
        assert isinstance(self.mean, Tensor) and isinstance(self.std, Tensor)
        return self.network(normalise(images, self.mean, self.std)).logits


def export(weights_path: Path, output: Path) -> None:
    """Write the inference network of `weights_path` to `output`; the batch size stays free.

    `info.json` in it tells classes, colours and sizes, as the weights file does.

    Raises:
        OSError, ValueError: the weights cannot be loaded, or `output` is no `.pt2` file.
    """
    if output.suffix != ".pt2":
        raise ValueError(f"{output}: exported networks are .pt2 files of torch.export")
    weights = load_weights(weights_path)
    transform = weights.info.transform
    network = build_network(weights, str(weights_path))
    module = InferenceNetwork(network, transform.mean, transform.std).eval()
    # Two images, as a batch of one would be taken for a constant.
    images = torch.zeros(2, 3, *transform.input_size)
    info = json.dumps(weights.info.model_dump(mode="json"))
    # To an open file, as torch.export.save wants the suffix that the temporary name has not. Opened
    # first, as a place that cannot be written should be told before the time is spent.
    with atomic_file(output) as temporary, temporary.open("wb") as file:
        program = torch.export.export(
            module, (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
        )
        torch.export.save(program, file, extra_files={"info.json": info})
