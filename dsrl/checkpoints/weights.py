"""`.weights` files: layers, and all that is needed to rebuild the network that they belong to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import AllowInfNan, Field
from torch import Tensor

from dsrl.checkpoints.checkpoint import RunInfo, checkpoint_in
from dsrl.checkpoints.format import check, load_any, save
from dsrl.config.model import Model
from dsrl.config.recipe import STAGE_NAMES
from dsrl.config.sections import Fit, Size
from dsrl.config.strict import Strict, parse
from dsrl.data.manifest import ClassInfo, Triple
from dsrl.data.transforms import InputTransform
from dsrl.models.dsrl import PARTS

LAYERS = "state_dict"  # the entry of a file that is not a field of WeightsInfo


class WeightsInfo(Strict):
    """What a weights file says beside the layers."""

    stage: Literal[1, 2, 3]
    layers: Literal["all", "inference"]
    model: Model
    dataset: str
    classes: tuple[ClassInfo, ...]
    mean: Triple
    std: Triple
    input_size: Size
    fit: Fit = "stretch"
    epoch: int
    epochs_before: int = Field(0, description="of the stages that the training went on from")
    scores: dict[str, Annotated[float, AllowInfNan(True)]]
    provenance: Mapping[str, Any] = Field({}, description="RunInfo's; none in earlier versions")
    experiment_id: str = ""
    description: str = ""

    @classmethod
    def of_run(cls, run: RunInfo, epoch: int, scores: Mapping[str, float]) -> Self:
        """The info of the weights that a training has after so many epochs."""
        return cls(
            stage=run.recipe.stage,
            layers="all",
            model=run.recipe.model,
            dataset=run.data.dataset,
            classes=run.data.classes,
            mean=run.data.mean,
            std=run.data.std,
            input_size=run.recipe.input_size,
            fit=run.recipe.fit,
            epoch=epoch,
            epochs_before=run.epochs_before,
            scores=dict(scores),
            provenance=run.provenance,
            experiment_id=run.experiment_id,
            description=run.description,
        )

    @property
    def type(self) -> str:
        """What acted in the training, as in `STAGE_NAMES`: a branch whose loss had the weight 0 did
        not, and then the stage is named, too."""
        loss = self.provenance.get("recipe", {}).get("loss", {})
        parts = {"SISR": self.stage > 1 and loss.get("w1") != 0}
        parts["FA"] = self.stage > 2 and loss.get("w2") != 0
        name = "+".join(["SSSR", *(part for part, acted in parts.items() if acted)])
        return name if name == STAGE_NAMES[self.stage] else f"{name} (stage {self.stage})"

    @property
    def epochs(self) -> int:
        """Epochs of the training and of the stages that it went on from."""
        recipe = self.provenance.get("recipe", {})
        planned: int = recipe.get("training", {}).get("epochs", self.epoch)
        return self.epochs_before + planned

    @property
    def transform(self) -> InputTransform:
        """How an image becomes the network's input."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return InputTransform(self.input_size, mean, std, self.fit)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the network whose layers are there."""
        return PARTS[self.stage if self.layers == "all" else 1]


@dataclass(frozen=True)
class Weights:
    """A weights file in memory."""

    info: WeightsInfo
    layers: Mapping[str, Tensor]


def save_weights(path: Path, weights: Weights) -> None:
    """Write a weights file, atomically."""
    layers = {LAYERS: dict(weights.layers)}
    save(path, "weights", {**weights.info.model_dump(mode="json"), **layers})


def load_weights(path: Path) -> Weights:
    """Read a weights file, or the weights in a checkpoint: those of its epoch, not of the best.

    Raises:
        OSError, ValueError: see `format.load_any` and `format.check`.
    """
    return weights_in(load_any(path), path)


def weights_in(content: Mapping[str, Any], path: Path) -> Weights:
    """The weights in `content`, which was loaded from `path`; see `load_weights`."""
    check(content, path, "weights", "checkpoint")
    if content["kind"] == "checkpoint":
        checkpoint = checkpoint_in(content, path)
        epoch, step, history = (checkpoint.progress[k] for k in ("epoch", "step", "history"))
        scores = {} if step or not history else scores_of(history[-1])
        info = WeightsInfo.of_run(checkpoint.run, epoch + (step > 0), scores)
        return Weights(info, checkpoint.network)
    rest = {key: value for key, value in content.items() if key not in ("kind", "format", LAYERS)}
    return Weights(parse(WeightsInfo, rest, str(path)), content.get(LAYERS, {}))


def scores_of(row: Mapping[str, float]) -> dict[str, float]:
    """The scores in a row of the history; empty if that epoch was not validated."""
    return {k.removeprefix("val_"): v for k, v in row.items() if k.startswith("val_")}


def prune(weights: Weights, source: str) -> Weights:
    """Only the layers that inference needs.

    Raises:
        ValueError: a part of the network has none; the message names `source`.
    """
    layers = {name: v for name, v in weights.layers.items() if name.split(".")[0] in PARTS[1]}
    for part in PARTS[1]:
        if not any(name.startswith(f"{part}.") for name in layers):
            raise ValueError(f"{source}: has no layers of '{part}'; it cannot be pruned")
    return Weights(weights.info.model_copy(update={"layers": "inference"}), layers)
