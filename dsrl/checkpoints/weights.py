"""`.weights` files: layers, and all that is needed to rebuild the network that they belong to."""

import errno
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AllowInfNan
from torch import Tensor

from dsrl.config.sections import Model, Size
from dsrl.config.settings import STAGES
from dsrl.config.strict import Strict, parse
from dsrl.data.archives import DAMAGE
from dsrl.data.manifest import ClassInfo, Triple
from dsrl.data.transforms import InputTransform
from dsrl.models.dsrl import DSRL
from dsrl.system.files import atomic_file

FORMAT = 1


class WeightsInfo(Strict):
    """What a weights file says beside the layers."""

    kind: Literal["weights"] = "weights"
    format: Literal[1] = 1
    stage: Literal[1, 2, 3]
    layers: Literal["all", "inference"]
    model: Model
    dataset: str
    classes: tuple[ClassInfo, ...]
    mean: Triple
    std: Triple
    input_size: Size
    epoch: int
    scores: dict[str, Annotated[float, AllowInfNan(True)]]
    experiment_id: str = ""
    description: str = ""

    @property
    def transform(self) -> InputTransform:
        """How an image becomes the network's input."""
        return InputTransform(self.input_size, torch.tensor(self.mean), torch.tensor(self.std))


@dataclass(frozen=True)
class Weights:
    """A weights file in memory."""

    info: WeightsInfo
    layers: Mapping[str, Tensor]


def load_any(path: Path) -> dict[str, Any]:
    """Read a dictionary that was written by `torch.save`, executing nothing in it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, holds objects that would run code, or is no dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with warnings.catch_warnings(action="ignore"):  # of damaged files; an error follows
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle make the unpickler raise anything
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = "truncated, damaged or no file of PyTorch's"
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            reason = "it holds Python objects that could run code, so it was not opened"
        raise ValueError(f"{path}: cannot be loaded: {reason}; get or make it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a dictionary")
    return content


def load(path: Path, *kinds: str) -> dict[str, Any]:
    """Read a file of this project.

    Raises:
        OSError, ValueError: see `load_any`; or it is of none of these kinds, or of another version.
    """
    content = load_any(path)
    if content.get("kind") not in kinds:
        raise ValueError(
            f"{path}: not a {' or '.join(kinds)} file of this project (kind: {content.get('kind')})"
        )
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path}: is of format {content.get('format')}, written by another version; "
            f"this one reads format {FORMAT}"
        )
    _check_checksums(path)
    return content


def _check_checksums(path: Path) -> None:
    """PyTorch writes a checksum of each tensor, and does not look at it when it loads."""
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except DAMAGE as error:
        raise ValueError(f"{path}: damaged ({error}); get or make it again") from None
    if damaged:
        raise ValueError(f"{path}: damaged: wrong checksum of {damaged}; get or make it again")


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` with `torch.save`, atomically."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:
            # Where the disk refuses a write, PyTorch raises an error of its own above that one.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def save_weights(path: Path, weights: Weights) -> None:
    """Write a weights file, atomically."""
    save(path, {**weights.info.model_dump(mode="json"), "state_dict": dict(weights.layers)})


def load_weights(path: Path) -> Weights:
    """Read a weights file, or the weights in a checkpoint: those of its epoch, not of the best.

    Raises:
        OSError, ValueError: see `load`.
    """
    content = load(path, "weights", "checkpoint")
    if content["kind"] == "checkpoint":
        layers, content = content.get("network", {}), content.get("info", {})
    else:
        layers = content.pop("state_dict", {})
    return Weights(parse(WeightsInfo, content, str(path)), layers)


def build_network(weights: Weights, source: str, stage: int = 1) -> DSRL:
    """The network of `stage` with the layers of `weights`, on the CPU, in eval mode.

    By default that is the inference network. A later stage than that of the weights gets new
    branches; layers of an earlier one that it lacks are left out.

    Raises:
        ValueError: a layer is missing, or of another shape; the message names `source`.
    """
    model = weights.info.model.model_copy(update={"pretrained": False})
    network = DSRL(model, len(weights.info.classes), stage)
    load_layers(network, weights, source)
    return network.eval()


def load_layers(network: DSRL, weights: Weights, source: str) -> None:
    """Copy into `network` every layer that its stage shares with that of `weights`.

    Raises:
        ValueError: one of them is missing, or of another shape.
    """
    own = network.state_dict()
    held = weights.info.stage if weights.info.layers == "all" else STAGES[0]
    expected = layer_names(weights.info, min(network.stage, held))
    parts = {name.partition(".")[0] for name in expected}
    shared = {name for name in own if name.partition(".")[0] in parts}
    compare_layers(own, weights.layers, expected | shared, source)
    network.load_state_dict({name: weights.layers[name] for name in expected}, strict=False)


def compare_layers(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor], names: set[str], source: str
) -> None:
    """Check that both have the layers `names`, in the same shapes.

    Raises:
        ValueError: one of them is missing, or of another shape.
    """
    for name in sorted(names):
        if name not in found:
            raise ValueError(f"{source}: layer '{name}' is missing; it is of another architecture")
        shape = tuple(found[name].shape)
        needed = tuple(own[name].shape) if name in own else "no such layer"
        if shape != needed:
            raise ValueError(
                f"{source}: layer '{name}' has the shape {shape}, the network needs {needed}; "
                "encoder, other `model` settings or class count differ"
            )


def layer_names(info: WeightsInfo, stage: int) -> set[str]:
    """Names of the layers of the network of `stage`."""
    with torch.device("meta"):
        model = info.model.model_copy(update={"pretrained": False})
        return set(DSRL(model, len(info.classes), stage).state_dict())


def prune(weights: Weights, source: str) -> Weights:
    """Only the layers that inference needs.

    Raises:
        ValueError: one of them is missing.
    """
    network = build_network(weights, source)
    return Weights(weights.info.model_copy(update={"layers": "inference"}), network.state_dict())
