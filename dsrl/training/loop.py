"""Training of one stage, from its beginning or from a checkpoint."""

from pathlib import Path
from typing import Any

from dsrl.checkpoints.weights import load
from dsrl.config.settings import Settings, read_settings
from dsrl.system import distributed
from dsrl.system.signals import stop_on_sigterm
from dsrl.training.start import find_start
from dsrl.training.trainer import Trainer


def train_stage(
    settings: Settings, stage: int, data: Path, output: Path, previous: Path | None = None
) -> None:
    """Train one stage and write its final weights and history.

    Where `output` holds the resume state of the same training (same settings, data and initial
    weights), that one goes on; resume state of another is discarded.

    Args:
        settings: as read from a config.
        stage: 1, 2 or 3.
        data: folder of a prepared data set with the splits train and val.
        output: receives `final.weights` (the epoch with the best mean IoU on val, all layers),
            `history.csv`, `tensorboard/` and `checkpoints/`.
        previous: weights to start from: of the stage before, or of an encoder. By default those of
            the stage before, beside `output`, unless the settings say `init: encoder`.

    Raises:
        OSError, ValueError: bad input, told in one line.
        Stopped: SIGTERM came; a checkpoint is written.
    """
    device = distributed.set_up_device(settings.resources.device)
    with distributed.process_group(device), stop_on_sigterm() as stop:
        start = find_start(settings, stage, previous, Path(output))
        trainer = Trainer(settings, stage, data, output, device, start, stop)
        trainer.resume()
        trainer.run()


def resume_stage(
    checkpoint: Path, state: dict[str, Any], settings: Settings, data: Path | None = None
) -> None:
    """Go on from a checkpoint, in the stage folder above the folder that it lies in.

    Args:
        checkpoint: the file; messages name it.
        state, settings: what `read_checkpoint` returned, the settings maybe with other `resources`.
        data: folder of the prepared data set; by default where it was when the training began.

    Raises:
        OSError, ValueError: bad input, told in one line.
        Stopped: SIGTERM came; a checkpoint is written.
    """
    device = distributed.set_up_device(settings.resources.device)
    model = settings.model.model_copy(update={"pretrained": False})
    with distributed.process_group(device), stop_on_sigterm() as stop:
        trainer = Trainer(
            settings.model_copy(update={"model": model}),
            state["info"]["stage"],
            data or Path(state["data"]),
            Path(checkpoint).absolute().parents[1],
            device,
            None,
            stop,
        )
        trainer.restore(state, str(checkpoint))
        trainer.run()


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Settings]:
    """A checkpoint and its settings, with the device that its `device` entry names.

    Raises:
        OSError, ValueError: see `load`; or the settings are not valid.
    """
    state = load(path, "checkpoint")
    resources = {**state["settings"]["resources"], "device": state["device"]}
    return state, read_settings({**state["settings"], "resources": resources}, str(path))
