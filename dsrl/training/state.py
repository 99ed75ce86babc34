"""Everything that changes while a stage is trained, and that a checkpoint keeps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from dsrl.checkpoints.checkpoint import Checkpoint, RunInfo, random_states, restore_random_states
from dsrl.checkpoints.encoder import backbone_of
from dsrl.checkpoints.network import compare_layers
from dsrl.checkpoints.weights import Weights, WeightsInfo
from dsrl.config.recipe import Recipe
from dsrl.config.sections import Loss
from dsrl.data.manifest import ClassInfo
from dsrl.losses import Losses, total_loss
from dsrl.models.dsrl import DSRL
from dsrl.system import distributed
from dsrl.training.optim import build_optimizer, poly_schedule
from dsrl.training.precision import loss_scaler
from dsrl.training.start import Start

Row = dict[str, float]  # of the history
FEW_IMAGES = 16  # of a process, for batch norm of its own
CROSS_ENTROPY = Losses._fields.index("cross_entropy")


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

    def weights(self, run: RunInfo) -> Weights:
        """The final weights of a run with this best epoch."""
        return Weights(WeightsInfo.of_run(run, self.epoch, self.scores), self.layers)


@dataclass
class TrainingState:
    """The state of a training.

    Attributes:
        network: on its device, in channels-last memory format.
        optimizer, scheduler: of its parameters; the learning rate is set for the next step.
        steps_per_epoch: of this process.
        position: in the training data.
        sums: float64 (2, losses), of this process over the steps of the epoch so far: the losses,
            each times its weight, and the weights; see `add`.
        frozen: batch norms that stay as they were loaded.
        scaler: of the losses, for float16.
        class_weights: of the cross entropy; see `mean_cross_entropy`.
        best: None before the first validation.
        history: a row per finished epoch.
    """

    network: DSRL
    optimizer: SGD
    scheduler: LambdaLR
    steps_per_epoch: int
    position: Position
    sums: Tensor
    frozen: Sequence[nn.Module]
    scaler: torch.amp.GradScaler
    class_weights: Tensor | None = None
    best: Best | None = None
    history: list[Row] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Finished steps since the training began."""
        return self.position.epoch * self.steps_per_epoch + self.position.step

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step, of what is not of a trained encoder."""
        factor: float = self.scheduler.lr_lambdas[-1](self.steps - 1)
        return float(self.scheduler.base_lrs[-1]) * factor

    def add(self, losses: Losses, labelled_pixels: Tensor) -> None:
        """Count the losses of a step. The cross entropy is the mean over the labelled pixels of
        the batch, so it weighs as much as they are; see `mean_over_processes`."""
        values = torch.stack(losses).detach().double()
        weights = torch.ones_like(values)
        weights[CROSS_ENTROPY] = labelled_pixels
        self.sums += torch.stack([values * weights, weights])

    def mean_losses(self, weights: Loss) -> Row:
        """The means over the epoch so far and over all processes, which must all call it."""
        sums = self.sums.clone()
        distributed.sum_over_processes(sums)
        means = Losses(*(sums[0] / sums[1].clamp(min=1)).float())
        total = total_loss(*means[1:], weights)
        return {name: mean.item() for name, mean in means._replace(total=total)._asdict().items()}

    def finish_epoch(self, row: Row) -> None:
        """Add the row of the epoch to the history and go to the next one."""
        self.history.append(row)
        self.position.epoch += 1
        self.position.step = 0
        self.sums.zero_()

    def checkpoint(self, run: RunInfo) -> Checkpoint:
        """A checkpoint of this state. All processes must call it."""
        sums = self.sums.clone()
        distributed.sum_over_processes(sums)
        progress = {
            **asdict(self.position),
            "sums": sums,
            "best": None if self.best is None else vars(self.best),
            "history": self.history,
            "scaler": self.scaler.state_dict(),
        }
        return Checkpoint(
            run,
            progress,
            self.network.state_dict(),
            self.optimizer.state_dict(),
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
        # In place, as the loader reads it too.
        self.position.epoch, self.position.step = progress["epoch"], progress["step"]
        if distributed.is_main():  # they are of all processes, whose number may be another now
            self.sums.copy_(progress["sums"])
        rates = self.scheduler.base_lrs  # of the recipe, which the user may have edited
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = group["initial_lr"] = rate
        self.scheduler = LambdaLR(self.optimizer, self.scheduler.lr_lambdas, self.steps - 1)
        self.best = None if progress["best"] is None else Best(**progress["best"])
        self.history = progress["history"]
        self.scaler.load_state_dict(progress.get("scaler") or self.scaler.state_dict())
        restore_random_states(checkpoint.random)


def build_state(
    recipe: Recipe,
    classes: Sequence[ClassInfo],
    steps_per_epoch: int,
    position: Position,
    start: Start | None,
    trained: bool,
    device: torch.device,
) -> TrainingState:
    """The state before the first step.

    Args:
        position: what the loader reads; it becomes that of the state.
        start: a file with initial weights, if there is one.
        trained: whether the training began with such a file, also if it is resumed without.

    Raises:
        ValueError: the initial weights do not fit the network.
    """
    torch.manual_seed(recipe.seed)
    network = DSRL(recipe.model, len(classes), recipe.stage)
    if start is not None:
        start.apply(network, recipe.model, classes)
    if device.type == "cuda" and shares_batch_norm(recipe, distributed.world_size()):
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    freezes = trained and recipe.training.freeze_batch_norm
    frozen = batch_norms(backbone_of(network.encoder)) if freezes else []
    for module in frozen:
        module.requires_grad_(False)
    network.to(memory_format=torch.channels_last).to(device)
    backbone = backbone_of(network.encoder) if trained else None
    optimizer = build_optimizer(network, recipe.training, backbone)
    steps = recipe.training.epochs * steps_per_epoch
    return TrainingState(
        network=network,
        optimizer=optimizer,
        scheduler=poly_schedule(optimizer, recipe.training, steps),
        steps_per_epoch=steps_per_epoch,
        position=position,
        sums=torch.zeros(2, len(Losses._fields), dtype=torch.float64, device=device),
        frozen=frozen,
        scaler=loss_scaler(recipe.training.precision, device),
    )


def is_finished(recipe: Recipe, history: Sequence[Row]) -> bool:
    """Whether all epochs are trained, or `early_stopping` validations in a row have brought no
    better mean IoU."""
    if len(history) >= recipe.training.epochs:
        return True
    scores = [row["val_mean_iou"] for row in history if "val_mean_iou" in row]
    patience = recipe.training.early_stopping
    if not patience or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])


def shares_batch_norm(recipe: Recipe, processes: int) -> bool:
    """Whether batch norm is over the images of all processes. PyTorch has that for GPUs only."""
    choice = recipe.training.sync_batch_norm
    few = recipe.training.batch_size // processes < FEW_IMAGES
    return processes > 1 and (choice == "always" or (choice == "auto" and few))


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """All batch norms of a network."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
