"""The layers of a trained encoder, from a file of this project or of a model zoo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dsrl.checkpoints.format import load_any
from dsrl.checkpoints.network import compare_layers
from dsrl.models.edgenets import from_edgenets
from dsrl.system import distributed

# Prefixes that wrappers, ours included, add to the names of an encoder's layers.
PREFIXES = ("module.", "model.", "encoder.", "backbone.", "features.")


def load_zoo_file(path: Path) -> dict[str, Any]:
    """Read a file of PyTorch's, or a `.safetensors` file; see `load_any`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or of another kind.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return load_any(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(
            f"{path}: cannot be loaded: truncated, damaged or not a safetensors file ({error}); "
            "get it again"
        ) from None


def encoder_layers(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The layers in the content of a file, those of EdgeNets in this project's names.

    Raises:
        ValueError: a layer looks like one of EdgeNets', and has a name that is not known.
    """
    inner = (content.get(key) for key in ("state_dict", "model"))
    layers = next((value for value in inner if isinstance(value, Mapping)), content)
    layers = {name: value for name, value in layers.items() if isinstance(value, Tensor)}
    return from_edgenets(layers) if any(".spp_dw." in name for name in layers) else layers


def backbone_of(encoder: nn.Module) -> nn.Module:
    """The part of an encoder that trained weights are for: all but ASPP."""
    backbone: nn.Module = getattr(encoder, "backbone", encoder)
    return backbone


def load_encoder(
    encoder: nn.Module, content: Mapping[str, Any], source: Path, partial: bool = False
) -> None:
    """Copy the layers of a file into an encoder, by name, and report to stderr how many matched.

    Names are compared without the prefixes that wrappers add, and `.` is `_`, as timm flattens
    some encoders.

    Args:
        content: of the file `source`.
        partial: accept that layers are missing or of another shape; these keep their values.

    Raises:
        ValueError: a layer is missing or of another shape, or, with `partial`, all of them.
    """
    try:
        layers = encoder_layers(content)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    encoder = backbone_of(encoder)
    entries, own = len(layers), encoder.state_dict()
    if "_conv_stem.weight" in layers:  # efficientnet-pytorch's names, in timm's order
        in_order = dict(zip(own, layers.values(), strict=False))
        if all(layer.shape == own[name].shape for name, layer in in_order.items()):
            layers = in_order
    found = {_canonical(name): layer for name, layer in layers.items()}
    wanted = {_canonical(name): (name, layer) for name, layer in own.items()}
    fitting = {
        key: found[key]
        for key, (_, layer) in wanted.items()
        if key in found and found[key].shape == layer.shape
    }
    learnt = [key for key in wanted if not key.endswith("num_batches_tracked")]
    lacking = [key for key in learnt if key not in fitting]
    matched = len(learnt) - len(lacking)
    report = f"{source}: {matched} of {len(learnt)} encoder layers matched"
    if lacking:
        name, layer = wanted[lacking[0]]
        why = "is missing"
        if lacking[0] in found:
            shapes = tuple(found[lacking[0]].shape), tuple(layer.shape)
            why = "has shape {}, the encoder needs {}".format(*shapes)
        others = f", and {len(lacking) - 1} others do not match" if len(lacking) > 1 else ""
        report += f"; layer '{name}' {why}{others}"
        if not matched:
            raise ValueError(f"{report}; these are weights of another encoder")
        if not partial:
            raise ValueError(
                f"{report}; choose weights of this encoder, or set allow_partial_encoder: true"
            )
    if unused := entries - len(fitting):
        report += f"; {unused} entries of the file are not used"
    encoder.load_state_dict({wanted[key][0]: layer for key, layer in fitting.items()}, strict=False)
    distributed.report(report)


def load_decoder(decoder: nn.Module, content: Mapping[str, Any], source: Path) -> None:
    """Copy the layers of SSSR's decoder in a file into a decoder, and report to stderr.

    Args:
        content: of the file `source`, of this project or of EdgeNets.

    Raises:
        ValueError: it has no such decoder, or a layer is missing or of another shape.
    """
    prefix = "sssr_decoder."
    layers = {
        name.removeprefix(prefix): layer
        for name, layer in encoder_layers(content).items()
        if name.startswith(prefix)
    }
    if not layers:
        raise ValueError(
            f"{source}: has no decoder; choose weights of a whole segmentation network, or set "
            "pretrained_decoder: false"
        )
    own = decoder.state_dict()
    compare_layers(own, layers, own.keys() | layers.keys(), str(source))
    decoder.load_state_dict(layers)
    distributed.report(f"{source}: {len(own)} of {len(own)} decoder layers matched")


def _canonical(name: str) -> str:
    while prefix := next((p for p in PREFIXES if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    return name.replace(".", "_")
