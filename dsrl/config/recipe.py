"""How a stage is trained: the settings that identify a training, whatever a config says beside."""

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from dsrl.config.model import Model
from dsrl.config.sections import Augmentation, Fit, Loss, Size, Training
from dsrl.config.strict import Strict

STAGES = (1, 2, 3)
STAGE_NAMES = {1: "SSSR", 2: "SSSR+SISR", 3: "SSSR+SISR+FA"}
# Settings that earlier versions did not have, at the value that says what these did: a recipe
# leaves them out, so that trainings of these versions are still valid.
LATER_SETTINGS: dict[str, dict[str, Any]] = {
    "model": {
        "allow_partial_encoder": False,
        "pretrained_decoder": False,
        "separable": False,
        "sisr_residual": False,
    },
    "training": {
        "decay_norm_and_bias": True,
        "encoder_learning_rate_factor": 1.0,
        "sync_batch_norm": "auto",
        "precision": "auto",
    },
    "loss": {"fa_rows": None, "class_weights": "none", "ohem_threshold": None},
    "augmentation": {"rotation": 0.0},
}

Stage = Annotated[int, Field(ge=1, le=3)]


class Recipe(Strict):
    """How one stage is trained: all settings that its weights depend on.

    Its dump is what identifies a training, with the data and the initial weights. It leaves out
    what the stage does not use, and, but for the stage, it is itself a config: `read_settings` of
    it trains the same stage.
    """

    stage: Stage
    seed: int
    input_size: Size
    fit: Fit = "stretch"
    model: Model
    training: Training
    loss: Loss
    augmentation: Augmentation

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = {
            # Which file the encoder starts from is told by its checksum, so that it may be moved.
            "model": {"encoder_weights", *self.model.unused},
            "training": {"init"} if self.stage == 1 else set(),
            "loss": {
                1: {"w1", "w2", "fa_stride", "fa_detach", "fa_rows"},
                2: {"w2", "fa_stride", "fa_detach", "fa_rows"},
                3: set(),
            }[self.stage],
            "augmentation": set(),
        }
        if self.stage == 1:
            unused["model"].add("sisr_residual")
        if self.model.network == "espnetv2" and not self.model.pretrained:
            unused["model"].add("pretrained")  # as in earlier versions
        values = dump(self)
        if self.fit == "stretch":  # as in earlier versions
            del values["fit"]
        for section, keys in unused.items():
            later = LATER_SETTINGS[section]
            values[section] = {
                key: value
                for key, value in values[section].items()
                if key not in keys and not (key in later and value == later[key])
            }
        return values
