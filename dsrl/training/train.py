"""Training of one stage: build the state, resume; for each epoch train, validate, save; finish."""

import time
from contextlib import closing

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from dsrl.checkpoints.checkpoint import RunInfo
from dsrl.checkpoints.stage_folder import StageFolder
from dsrl.checkpoints.weights import save_weights
from dsrl.config.recipe import STAGE_NAMES, Recipe
from dsrl.data.dataset import TrainingSample
from dsrl.data.manifest import IGNORE_INDEX
from dsrl.data.transforms import InputTransform, normalise
from dsrl.evaluation.evaluate import Scores, evaluate
from dsrl.evaluation.reconstruction import mean_psnr
from dsrl.losses import Losses, objective
from dsrl.losses.objective import class_weights
from dsrl.system import distributed
from dsrl.system.faults import explained_faults
from dsrl.system.signals import StopRequest
from dsrl.training.earlier import Plan, set_aside
from dsrl.training.guards import Guard
from dsrl.training.history import HistoryWriter, Progress, report_resumption
from dsrl.training.loader import EpochSampler, Splits, training_loader
from dsrl.training.precision import low_precision
from dsrl.training.start import Start
from dsrl.training.state import (
    Best,
    Position,
    Row,
    TrainingState,
    build_state,
    is_finished,
)

SCORES = ("pixel_accuracy", "mean_iou", "mean_iou_per_image", "cross_entropy")  # in the history


def train(
    run: RunInfo,
    splits: Splits,
    folder: StageFolder,
    device: torch.device,
    stop: StopRequest,
    start: Start | None,
    plan: Plan,
) -> None:
    """Train the remaining epochs, then write the final weights.

    Args:
        run: what is trained; `splits` are those that it names.
        folder: of the stage.
        stop: checked before each step.
        start: initial weights; None for random ones.
        plan: the checkpoint to go on from, instead, and what is in the way in the folder.
    """
    recipe, resources, main = run.recipe, run.resources, distributed.is_main()
    epochs, position = recipe.training.epochs, Position()
    loader = training_loader(splits.train, recipe, resources, device, position)
    classes = splits.train.manifest.classes
    trained = run.checksums.initial is not None
    state = build_state(recipe, classes, len(loader), position, start, trained, device)
    if recipe.loss.class_weights != "none":
        weights = class_weights(recipe.loss.class_weights, splits.train.manifest.class_pixels)
        state.class_weights = weights.to(device)
    model = _parallelise(state.network, run, device)
    if plan.checkpoint is not None:
        state.resume(plan.checkpoint)
        planned = plan.checkpoint.run.recipe.training.epochs
        report_resumption(state, planned, epochs, folder.path)
    if main:
        set_aside(folder, plan)

    transform = InputTransform.from_manifest(splits.train.manifest, recipe.input_size).to(device)
    texts = {"description": run.description, "id": run.experiment_id}
    history = HistoryWriter(folder.path, state.history, texts) if main else None
    guard = Guard(run, state, folder.checkpoints, stop, lambda step: _names(splits, loader, step))
    title = f"stage {recipe.stage} ({STAGE_NAMES[recipe.stage]})"
    bar = Progress(title, epochs, len(loader), state.steps, enabled=main)
    try:
        with (
            closing(bar) as progress,
            explained_faults(recipe.training.batch_size, recipe.input_size),
        ):
            while not is_finished(recipe, state.history):
                row = _train_epoch(model, state, loader, transform, recipe, guard, progress)
                if row["epoch"] % recipe.training.val_interval == 0 or row["epoch"] == epochs:
                    row |= _validate(state, splits, transform, device, guard)
                state.finish_epoch(row)
                if history is not None:
                    history.write(state.history)
                due = position.epoch % resources.checkpoint_interval == 0
                if due or is_finished(recipe, state.history):
                    guard.save()
    finally:
        # End the data loader processes. They leave SIGTERM to this one, so Python's exit would wait
        # for them for ever if a traceback kept the loader alive.
        if isinstance(loader._iterator, _MultiProcessingDataLoaderIter):
            loader._iterator._shutdown_workers()
    if main:
        assert state.best is not None  # the last epoch is validated
        save_weights(folder.weights, state.best.weights(run))


def _train_epoch(
    model: nn.Module,
    state: TrainingState,
    loader: DataLoader[TrainingSample],
    transform: InputTransform,
    recipe: Recipe,
    guard: Guard,
    progress: Progress,
) -> Row:
    """Train the rest of the current epoch; returns its row of the history."""
    model.train()
    for module in state.frozen:
        module.eval()
    epoch, first, started = state.position.epoch + 1, state.position.step, time.perf_counter()
    for batch in loader:
        guard.stop_if_asked()
        losses, labelled_pixels = _losses(model, state, batch, transform, recipe)
        state.optimizer.zero_grad()
        state.scaler.scale(losses.total).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.scheduler.step()
        state.add(losses, labelled_pixels)
        state.position.step += 1
        guard.after_step(losses.total)
        progress.step(epoch, losses, state.learning_rate)
    guard.check_losses()  # waits for the device
    seconds = time.perf_counter() - started
    return {
        "epoch": epoch,
        "learning_rate": state.learning_rate,
        **state.mean_losses(recipe.loss),
        "images_per_second": (state.position.step - first) * recipe.training.batch_size / seconds,
    }


def _losses(
    model: nn.Module,
    state: TrainingState,
    batch: TrainingSample,
    transform: InputTransform,
    recipe: Recipe,
) -> tuple[Losses, Tensor]:
    """The losses of one batch; and the number of its labelled pixels, by which the cross entropy
    weighs: of several processes, their mean."""
    device = state.sums.device

    def normalised(images: Tensor) -> Tensor:
        images = normalise(images, transform.mean, transform.std)
        return images.contiguous(memory_format=torch.channels_last)

    inputs, target, labels, inside = (x.to(device, non_blocking=True) for x in batch)
    inputs, target = normalised(inputs), normalised(target)
    dtype = low_precision(recipe.training.precision, device)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        output = model(inputs)
    losses = objective(output, labels.long(), target, recipe.loss, inside, state.class_weights)
    return losses, distributed.mean_over_processes((labels != IGNORE_INDEX).sum())


def _validate(
    state: TrainingState,
    splits: Splits,
    transform: InputTransform,
    device: torch.device,
    guard: Guard,
) -> Row:
    """Score the network on val, and keep it if it is the best segmentation so far."""
    distributed.share_buffers(state.network)
    scores = evaluate(
        state.network,
        splits.val,
        transform,
        device,
        # Processes have different numbers of images, so that only one alone can stop here.
        each_batch=guard.stop_if_asked if distributed.world_size() == 1 else lambda: None,
    )
    if state.best is None or scores.mean_iou > state.best.scores["mean_iou"]:
        layers = state.network.state_dict()
        state.best = Best(
            state.position.epoch + 1,
            _summary(scores),
            {name: layer.to("cpu", copy=True) for name, layer in layers.items()},
        )
    row = _summary(scores)
    if state.network.stage > 1:
        row |= mean_psnr(state.network, splits.val, transform, device)
    return {f"val_{name}": value for name, value in row.items()}


def _summary(scores: Scores) -> Row:
    return {name: getattr(scores, name) for name in SCORES}


def _parallelise(network: nn.Module, run: RunInfo, device: torch.device) -> nn.Module:
    """The module that a training step calls: compiled and distributed if enabled."""
    if run.resources.compile and device.type == "cuda":
        network.compile()
    if distributed.world_size() > 1:
        # Without gradient, the segmentation side leaves its transform out of the graph.
        detached = run.recipe.loss.fa_detach == "segmentation"
        return DistributedDataParallel(network, find_unused_parameters=detached)
    return network


def _names(splits: Splits, loader: DataLoader[TrainingSample], step: int) -> list[str]:
    """Names of the images of a step of this epoch, in this process."""
    assert isinstance(loader.sampler, EpochSampler)
    samples = splits.train.manifest.samples
    return [samples[image].name for image in loader.sampler.batch(step)]
