"""What a stage starts from: the weights of the stage before, an encoder's, or chance."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dsrl.checkpoints.weights import Weights, WeightsInfo, load_any, load_layers, load_weights
from dsrl.config.sections import Model
from dsrl.config.settings import Settings
from dsrl.data.manifest import ClassInfo
from dsrl.models.dsrl import DSRL
from dsrl.system import distributed

# What programs put before the names of an encoder's layers, this one included.
PREFIXES = ("module.", "model.", "encoder.", "backbone.", "features.")


@dataclass(frozen=True)
class Start:
    """A file to start from: `weights` where all of its layers are taken, else an encoder's."""

    source: Path
    weights: Weights | None
    encoder: Mapping[str, Any]

    @property
    def checksum(self) -> str:
        """SHA-256 of the file."""
        with self.source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def apply(self, network: DSRL, model: Model, classes: Sequence[ClassInfo]) -> None:
        """Copy the layers into `network`, which is made for `model` and `classes`.

        Raises:
            ValueError: they do not fit; the message names the file.
        """
        if self.weights is None:
            load_encoder(network.encoder, self.encoder, self.source)
            return
        check_fits(self.weights.info, model, classes, str(self.source))
        load_layers(network, self.weights, str(self.source))


def find_start(settings: Settings, stage: int, path: Path | None, output: Path) -> Start | None:
    """What the training of `stage` starts from; None for nothing but random (or timm's) weights.

    Args:
        path: a file of this project or a model zoo's. By default that of the stage before, beside
            `output`, where the settings want it.
        output: folder of the stage.

    Raises:
        OSError, ValueError: the file does not exist, cannot be loaded or is of a wrong stage.
    """
    init = settings.training_of(stage).init
    wants_previous = stage > 1 and init == "previous"
    if path is None:
        if not wants_previous:
            return None
        path = output.parent / f"stage{stage - 1}" / "final.weights"
        if not path.is_file():
            raise ValueError(
                f"stage {stage} starts from the weights of stage {stage - 1}, and {path} does not "
                "exist: name them with --init-weights, or choose --init encoder"
            )
    content = load_any(path)
    if "kind" in content and init == "previous":
        weights = load_weights(path)
        held = weights.info.stage if weights.info.layers == "all" else 1
        if held < stage - 1:
            raise ValueError(
                f"{path}: has the layers of stage {held}; stage {stage} starts from the final "
                f"weights of stage {stage - 1}"
            )
        return Start(path, weights, {})
    if wants_previous:
        raise ValueError(
            f"{path}: has an encoder's layers only, but stage {stage} starts from the final "
            f"weights of stage {stage - 1}; name those, or choose --init encoder"
        )
    return Start(path, None, load_weights(path).layers if "kind" in content else content)


def check_fits(info: WeightsInfo, model: Model, classes: Sequence[ClassInfo], source: str) -> None:
    """Check that weights are of the network `model` over `classes`.

    Raises:
        ValueError: one line that names what differs.
    """
    if len(info.classes) != len(classes):
        raise ValueError(
            f"{source}: is for {len(info.classes)} classes ('{info.dataset}'), the data has "
            f"{len(classes)}"
        )
    for key in Model.model_fields.keys() - {"pretrained", "output_stride", *model.unused}:
        found, wanted = getattr(info.model, key), getattr(model, key)
        if found != wanted:
            raise ValueError(
                f"{source}: is of another architecture: {key} is {found} there, {wanted} here"
            )


def load_encoder(encoder: nn.Module, layers: Mapping[str, Any], source: Path) -> None:
    """Copy into an encoder every layer of a plain state dict that fits by name and shape, and
    report to stderr which did and which did not.

    Names are compared without the prefixes that wrappers add, and `.` is `_`, as timm flattens
    some encoders.

    Raises:
        ValueError: nothing fits.
    """
    nested = next(
        (layers[k] for k in ("state_dict", "model") if _is_mapping(layers.get(k))), layers
    )
    found = {_canonical(k): v for k, v in nested.items() if isinstance(v, Tensor)}
    own = getattr(encoder, "backbone", encoder).state_dict()
    names = {name: _canonical(name) for name in own}
    fitting = {
        name: found[key]
        for name, key in names.items()
        if key in found and found[key].shape == own[name].shape
    }
    learnt = [name for name in own if not name.endswith("num_batches_tracked")]
    missing = [name for name in learnt if name not in fitting]
    if len(missing) == len(learnt):
        raise ValueError(f"{source}: none of its {len(found)} layers fits the encoder")
    getattr(encoder, "backbone", encoder).load_state_dict(fitting, strict=False)
    unused = sorted(found.keys() - {names[name] for name in fitting})
    if distributed.is_main():
        matched = len(learnt) - len(missing)
        print(f"{source}: {matched} of {len(learnt)} encoder layers matched", file=sys.stderr)
        for title, rest in (("not in the file, or of another shape", missing), ("unused", unused)):
            if rest:
                print(f"  {title}: {', '.join(rest)}", file=sys.stderr)


def _canonical(name: str) -> str:
    while prefix := next((p for p in PREFIXES if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    return name.replace(".", "_")


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)
