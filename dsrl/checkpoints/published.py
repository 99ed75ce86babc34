"""Segmentation networks that their authors published, as weights of this project."""

import re
from pathlib import Path

from torch import Tensor

from dsrl.checkpoints.format import load_any
from dsrl.checkpoints.network import build_network
from dsrl.checkpoints.weights import Weights, WeightsInfo
from dsrl.config.model import Model
from dsrl.config.sections import Size
from dsrl.config.strict import parse
from dsrl.data.description import load_description
from dsrl.data.manifest import ClassInfo
from dsrl.models.edgenets import from_edgenets

# What their code normalises images with, RGB in 0..1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DATASETS = {20: "cityscapes", 21: "voc"}  # number of classes -> what they were trained on
INPUT_SIZE = (256, 512)
CLASS_LAYER = "sssr_head.classifier.fuse.1.bias"  # one value a class
WIDTH_LAYER = "encoder.levels.0.down.activation.weight"  # 64 values for a width scale of 1
EXPECTED = "expected a segmentation network of EdgeNets (ESPNetv2) or of the official DSRL"


def import_weights(source: Path, input_size: Size | None = None) -> Weights:
    """The weights in a file that the authors of ESPNetv2 (EdgeNets) or of DSRL published.

    Args:
        input_size: height and width of the network's input; by default as the file's name says,
            otherwise INPUT_SIZE.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or does not contain such a network.
    """
    layers = _layers(source)
    classes = layers[CLASS_LAYER].numel()
    if classes not in DATASETS:
        known = " or ".join(f"{count} ({name})" for count, name in DATASETS.items())
        raise ValueError(f"{source}: a network of {classes} classes; expected {known}")
    is_dsrl = any(name.startswith("sssr_head.upsampler.") for name in layers)
    model = {
        "network": "espnetv2",
        "width_scale": layers[WIDTH_LAYER].numel() / 64,
        "upsampler": "transposed" if is_dsrl else "none",
    }
    info = WeightsInfo(
        stage=3 if is_dsrl else 1,  # of its training
        layers="inference",
        model=parse(Model, model, str(source)),
        dataset=DATASETS[classes],
        classes=_classes(classes),
        mean=MEAN,
        std=STD,
        input_size=input_size or _size_in_name(source, is_dsrl) or INPUT_SIZE,
        epoch=0,
        scores={},
        description=f"imported from {source.name}",
    )
    weights = Weights(info, layers)
    build_network(weights, str(source))  # all layers are there and fit
    return weights


def _layers(source: Path) -> dict[str, Tensor]:
    """The layers of the network, under the names that they have here."""
    try:
        content = load_any(source)
        if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
            raise ValueError("not a state dict (names and tensors)")
        layers = from_edgenets(content)
        if not layers.keys() >= {CLASS_LAYER, WIDTH_LAYER}:
            raise ValueError("only a part of a network, such as an ImageNet model")
    except ValueError as error:
        reason = str(error).removeprefix(f"{source}: ")
        raise ValueError(f"{source}: {reason}; {EXPECTED}") from None
    return layers


def _classes(count: int) -> tuple[ClassInfo, ...]:
    """The classes of the data set. The authors' networks for Cityscapes have one more output, for
    pixels without a class; their code writes it as label id 0, "unlabeled"."""
    description = load_description(DATASETS[count])
    ignored = [label for label in description.labels if label.ignore]
    more = [
        ClassInfo(name=label.name, color=label.color, id=label.id[0])
        for label in ignored[: count - len(description.classes)]
    ]
    return (*description.classes, *more)


def _size_in_name(path: Path, is_dsrl: bool) -> tuple[int, int] | None:
    """Height and width in `espnetv2_s_2.0_city_512x256.pth` (EdgeNets: width and height of the
    input), or half of those in `espnetv2_2.0_1024_best.pth` (DSRL: width of the output)."""
    if sides := re.search(r"_([1-9]\d*)x([1-9]\d*)$", path.stem):
        return int(sides[2]), int(sides[1])
    if is_dsrl and (width := re.search(r"_([1-9]\d{2,})_best$", path.stem)):
        return int(width[1]) // 4, int(width[1]) // 2
    return None
