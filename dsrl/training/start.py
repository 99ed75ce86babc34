"""The file that a stage starts from: the weights of the stage before, or those of an encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.checkpoints.encoder import load_decoder, load_encoder, load_zoo_file
from dsrl.checkpoints.network import load_layers
from dsrl.checkpoints.weights import Weights, WeightsInfo, weights_in
from dsrl.config.model import ENCODER_START, Model
from dsrl.config.recipe import Recipe
from dsrl.data.manifest import ClassInfo
from dsrl.models.dsrl import DSRL
from dsrl.system.files import sha256


@dataclass(frozen=True)
class PreviousStage:
    """Weights of this project, of which all layers are taken."""

    path: Path
    weights: Weights

    def apply(self, network: DSRL, model: Model, classes: Sequence[ClassInfo]) -> None:
        """Copy the layers into `network`, which is made for `model` and `classes`.

        Raises:
            ValueError: they do not fit; the message names the file.
        """
        check_fits(self.weights.info, model, classes, str(self.path))
        load_layers(network, self.weights, str(self.path))


@dataclass(frozen=True)
class EncoderWeights:
    """A file with the layers of an encoder, of this project or of a model zoo."""

    path: Path
    content: Mapping[str, Any]

    def apply(self, network: DSRL, model: Model, classes: Sequence[ClassInfo]) -> None:
        """Copy the layers into the encoder of `network`, and, if `model` asks for it, into the
        decoder of SSSR; see `load_encoder` and `load_decoder`."""
        load_encoder(network.encoder, self.content, self.path, model.allow_partial_encoder)
        if model.pretrained_decoder:
            load_decoder(network.sssr_decoder, self.content, self.path)


Start = PreviousStage | EncoderWeights


def find_start(recipe: Recipe, path: Path | None, output: Path) -> Start | None:
    """What the training of a stage starts from; None for random weights.

    Args:
        path: weights of this project or of a model zoo. By default those of the stage before,
            beside `output`, unless the recipe says `init: encoder`.
        output: folder of the stage.

    Raises:
        OSError, ValueError: the file does not exist, cannot be loaded or is of the wrong stage.
    """
    before = recipe.stage - 1
    needs_previous = before > 0 and recipe.training.init == "previous"
    if path is None:
        if not needs_previous and recipe.model.pretrained:
            raise ValueError(
                f"stage {recipe.stage} starts from trained weights of the encoder; name their file "
                "with --init-weights"
            )
        if not needs_previous:
            return None
        path = output.parent / f"stage{before}" / "final.weights"
        if not path.is_file():
            raise ValueError(
                f"stage {recipe.stage} starts from the weights of stage {before}, but {path} does "
                "not exist: name them with --init-weights, or choose --init encoder"
            )
    content = load_zoo_file(path)
    if "kind" not in content:
        if needs_previous:
            raise ValueError(
                f"{path}: has only the layers of an encoder, but stage {recipe.stage} starts from "
                f"the final weights of stage {before}; name those, or choose --init encoder"
            )
        return EncoderWeights(path, content)
    weights = weights_in(content, path)
    if recipe.training.init == "encoder":
        return EncoderWeights(path, weights.layers)
    has = weights.info.stage if weights.info.layers == "all" else 1
    if has < before:
        raise ValueError(
            f"{path}: has the layers of stage {has}; stage {recipe.stage} starts from the final "
            f"weights of stage {before}"
        )
    return PreviousStage(path, weights)


def checksum(start: Start | None) -> str | None:
    """SHA-256 of the file, if there is one."""
    return None if start is None else sha256(start.path)


def check_fits(info: WeightsInfo, model: Model, classes: Sequence[ClassInfo], source: str) -> None:
    """Check that weights are of the network `model` over `classes`.

    Raises:
        ValueError: one line that names what differs.
    """
    if len(info.classes) != len(classes):
        raise ValueError(
            f"{source}: is for {len(info.classes)} classes ('{info.dataset}'), the data has "
            f"{len(classes)}; to start from its encoder only, choose --init encoder"
        )
    # What has no layers is no architecture.
    no_layers = {*ENCODER_START, "output_stride", "sisr_residual", *model.unused}
    for key in Model.model_fields.keys() - no_layers:
        found, wanted = getattr(info.model, key), getattr(model, key)
        if found != wanted:
            raise ValueError(
                f"{source}: is of another architecture: {key} is {found} there, {wanted} here"
            )
