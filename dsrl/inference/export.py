"""Export the inference network to a file that runs without this project.

The file has the `.pt2` format of torch.export: `torch.export.load(path).module()` needs only
PyTorch. ONNX is not supported: PyTorch's exporter needs packages (onnx, onnxscript) that are not
dependencies of this project.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from dsrl.checkpoints.network import load_network
from dsrl.data.transforms import normalise
from dsrl.models.dsrl import DSRL
from dsrl.system.files import atomic_file


class InferenceNetwork(nn.Module):
    """The network with the normalisation it was trained with: from pixels to logits.

    Args:
        mean, std: float32 (3,), for values in 0..1.
    """

    def __init__(self, network: DSRL, mean: Tensor, std: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in 0..255, at the input size -> logits (B, C, 2H, 2W)."""
        assert isinstance(self.mean, Tensor) and isinstance(self.std, Tensor)
        return self.network(normalise(images, self.mean, self.std)).logits


def export(weights: Path, output: Path) -> None:
    """Write the inference network of a file to `output`, for any batch size.

    Its extra file `info.json` holds classes, colours and sizes, as in the weights file.

    Args:
        weights: weights or a checkpoint of any stage.
        output: path that ends in `.pt2`.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the weights are damaged, or `output` has another suffix.
    """
    if output.suffix != ".pt2":
        raise ValueError(f"{output}: unsupported export format; choose a name that ends in .pt2")
    network, transform, info = load_network(weights, torch.device("cpu"))
    module = InferenceNetwork(network, transform.mean, transform.std).eval()
    # torch.export would take a batch of one for a constant.
    images = torch.zeros(2, 3, *transform.input_size)
    # The file is opened first, so that an unwritable path fails before the slow export; and
    # torch.export.save accepts a path only if it ends in .pt2, which the temporary one does not.
    with atomic_file(output) as temporary, temporary.open("wb") as file:
        program = torch.export.export(
            module, (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
        )
        extra_files = {"info.json": json.dumps(info.model_dump(mode="json"))}
        torch.export.save(program, file, extra_files=extra_files)
