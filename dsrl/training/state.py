"""Everything that changes while a stage is trained, and that a checkpoint keeps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from dsrl.checkpoints.checkpoint import Checkpoint, RunInfo, random_states, restore_random_states
from dsrl.checkpoints.network import compare_layers
from dsrl.config.settings import Recipe
from dsrl.data.manifest import ClassInfo
from dsrl.losses import Losses
from dsrl.models.dsrl import DSRL
from dsrl.system import distributed
from dsrl.training.optim import build_optimizer, poly_schedule
from dsrl.training.start import Start

Row = dict[str, float]  # of the history


@dataclass
class Position:
    """Where in the training data a training is."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the next one


@dataclass(frozen=True)
class Best:
    """The best validation so far."""

    epoch: int
    scores: Row
    layers: dict[str, Tensor]  # on the CPU


@dataclass
class TrainingState:
    """The state of a training.

    Attributes:
        network: on its device, in channels-last memory format.
        optimizer, scheduler: of its parameters; the learning rate is set for the next step.
        position: in the training data.
        sums: float32 (losses,), of this process over the steps of the epoch so far.
        best: None before the first validation.
        history: a row per finished epoch.
    """

    network: DSRL
    optimizer: SGD
    scheduler: LambdaLR
    position: Position
    sums: Tensor
    best: Best | None = None
    history: list[Row] = field(default_factory=list)

    def finish_epoch(self, row: Row) -> None:
        """Add the row of the epoch to the history and go to the next one."""
        self.history.append(row)
        self.position.epoch += 1
        self.position.step = 0
        self.sums.zero_()

    def checkpoint(self, run: RunInfo) -> Checkpoint:
        """What is needed to go on from here. All processes must call it."""
        progress = {
            **asdict(self.position),
            "sums": distributed.gather(self.sums),
            "best": None if self.best is None else vars(self.best),
            "history": self.history,
        }
        return Checkpoint(
            run,
            progress,
            self.network.state_dict(),
            self.optimizer.state_dict(),
            self.scheduler.state_dict(),
            random_states(),
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, bit for bit.

        Raises:
            ValueError: it is of another network; the message names its file.
        """
        own, layers, progress = self.network.state_dict(), checkpoint.network, checkpoint.progress
        compare_layers(own, layers, own.keys() | layers.keys(), str(checkpoint.path))
        self.network.load_state_dict(layers)
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        self.scheduler.load_state_dict(dict(checkpoint.scheduler))
        # In place, as the loader reads it too.
        self.position.epoch, self.position.step = progress["epoch"], progress["step"]
        if self.position.step:
            self.sums.copy_(progress["sums"][distributed.rank()])
        self.best = None if progress["best"] is None else Best(**progress["best"])
        self.history = progress["history"]
        restore_random_states(checkpoint.random)


def build_state(
    recipe: Recipe,
    classes: Sequence[ClassInfo],
    steps_per_epoch: int,
    position: Position,
    start: Start | Checkpoint | None,
    device: torch.device,
) -> TrainingState:
    """The state before the first step.

    Args:
        position: what the loader reads; it becomes that of the state.
        start: initial weights; None for random ones, or timm's. Of a checkpoint nothing is taken
            yet, and no weights are downloaded for it.

    Raises:
        ValueError: the initial weights do not fit the network.
    """
    torch.manual_seed(recipe.seed)
    pretrained = recipe.model.pretrained and start is None
    network = DSRL(recipe.model, len(classes), recipe.stage, pretrained)
    if isinstance(start, Start):
        start.apply(network, recipe.model, classes)
    if recipe.training.freeze_batch_norm:
        for module in batch_norms(network):
            module.requires_grad_(False)
    network.to(memory_format=torch.channels_last).to(device)
    optimizer = build_optimizer(network, recipe.training)
    steps = recipe.training.epochs * steps_per_epoch
    return TrainingState(
        network=network,
        optimizer=optimizer,
        scheduler=poly_schedule(optimizer, recipe.training, steps),
        position=position,
        sums=torch.zeros(len(Losses._fields), device=device),
    )


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """All batch norms of a network."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
