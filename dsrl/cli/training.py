"""Commands that train: train, resume-train."""

import sys
from pathlib import Path
from typing import Any

from dsrl.cli.options import (
    DEFAULT_CONFIG,
    Arguments,
    add_command,
    add_config,
    add_data,
    add_settings,
    data_of_settings,
    override,
    settings_from,
    whole_number,
)
from dsrl.config.encoder_weights import encoder_file, missing_encoder_message
from dsrl.config.model import Model
from dsrl.config.recipe import STAGES
from dsrl.config.sections import Augmentation, Data, Loss, Resources, Training
from dsrl.config.settings import Settings
from dsrl.system.files import keep_inputs

# torchrun tells `dsrl` about these.
WORKFLOW_ONLY = ("gpus_per_job", "nodes", "threads_per_job")


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_train(commands)
    add_resume_train(commands)


def add_train(commands: Any) -> None:
    parser = add_command(commands, "train", train, "train one stage")
    parser.add_argument("--stage", type=int, choices=STAGES, required=True, help="stage to train")
    add_data(parser, "settings")
    parser.add_input(
        "--init-weights",
        metavar="FILE",
        help="initial weights: final weights of the stage before (default for stages 2 and 3: "
        "those beside --output), or a model zoo's weights of the encoder",
    )
    parser.add_output(
        "--output", folder=True, help="folder of the stage (default: weights/stage<K>)"
    )
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--restart",
        dest="if_another",
        action="store_const",
        const="restart",
        help="begin anew; a training that is in the output folder is set aside: renamed, with the "
        "date",
    )
    earlier.add_argument(
        "--set-aside",
        dest="if_another",
        action="store_const",
        const="set-aside",
        help="set a training with other settings aside, instead of stopping",
    )
    parser.add_argument(
        "--code", default="", help="fingerprint of the code; by another one it is another training"
    )
    add_config(parser)
    parser.add_argument("--seed", type=int, help="seed of weights, data order and augmentation")
    for option in ("--description", "--experiment-id"):
        parser.add_argument(option, metavar="TEXT", help="kept in the files and in TensorBoard")
    add_settings(parser, Training, Loss, Model, Data, Augmentation)
    add_settings(parser, Resources, leave_out=WORKFLOW_ONLY)


def train(arguments: Arguments) -> None:
    settings = settings_from(arguments)
    if arguments.config is None and DEFAULT_CONFIG.is_file():
        print(f"note: settings of {DEFAULT_CONFIG}; --config FILE names others", file=sys.stderr)
    data, initial = data_of_settings(arguments, settings), _initial_weights(arguments, settings)
    # Not before: what is wrong with the settings is told at once.
    from dsrl.training.stage import train_stage

    with keep_inputs([] if initial is None else [initial]):
        train_stage(
            settings.recipe(arguments.stage),
            settings.resources,
            data,
            arguments.output or Path(f"weights/stage{arguments.stage}"),
            initial,
            if_another=arguments.if_another or "stop",
            code=arguments.code,
            experiment_id=settings.experiment_id,
            description=settings.description,
        )


def _initial_weights(arguments: Arguments, settings: Settings) -> Path | None:
    """--init-weights, or the encoder's weights, if the stage starts from these; never downloaded
    here, as a compute node may have no internet access.

    Raises:
        FileNotFoundError: the encoder's weights are not there.
    """
    if arguments.init_weights or not settings.starts_from_encoder(arguments.stage):
        return arguments.init_weights
    path = encoder_file(settings.model)
    if path is not None and not path.is_file():
        raise FileNotFoundError(missing_encoder_message(settings.model, path))
    return path


def add_resume_train(commands: Any) -> None:
    parser = add_command(
        commands,
        "resume-train",
        resume_train,
        "resume a training from a checkpoint, with its settings",
    )
    parser.add_argument(
        "--checkpoint",  # of the training's own files
        type=Path,
        required=True,
        metavar="FILE",
        help="file in the folder `checkpoints` of the stage's folder, where the training goes on",
    )
    parser.add_output("--output", folder=True, help="folder of the stage, if the file is elsewhere")
    parser.add_argument(
        "--epochs", type=whole_number, help="new length of the training (default: as planned)"
    )
    parser.add_input("--data", help="prepared data set, if it was moved")
    add_settings(parser, Resources, leave_out=WORKFLOW_ONLY, default="as in the checkpoint")


def resume_train(arguments: Arguments) -> None:
    from dsrl.checkpoints.checkpoint import load_checkpoint
    from dsrl.training.stage import resume_stage

    checkpoint = load_checkpoint(arguments.checkpoint)
    settings = override(Settings(resources=checkpoint.run.resources), arguments)
    resume_stage(checkpoint, settings.resources, arguments.data, arguments.output, arguments.epochs)
