"""Training of one stage: schedule, forward, backward, step; validate, log, save."""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from dsrl.config import STAGE_NAMES, Settings
from dsrl.data.dataset import PreparedSplit, TrainingSample, TrainingSet
from dsrl.data.transforms import normalise
from dsrl.evaluation.evaluate import Scores, evaluate
from dsrl.losses import Losses, objective
from dsrl.models.dsrl import DSRL
from dsrl.training import distributed
from dsrl.training.checkpoint import CheckpointFolder, restore_random_states
from dsrl.training.history import History, Progress, Row
from dsrl.training.schedule import poly
from dsrl.training.weights import Weights, WeightsInfo, load_layers, load_weights, save_weights


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
        previous: weights of the stage before, unless the settings say `init: encoder`.

    Raises:
        OSError, ValueError: bad input, told in one line.
    """
    device = distributed.set_up_device(settings.resources.device)
    with distributed.process_group(device):
        trainer = Trainer(settings, stage, data, output, previous, device)
        trainer.resume()
        trainer.run()


class Trainer:
    """The state of a training and the steps that change it.

    Attributes:
        epoch: finished epochs.
        best: epoch, scores and layers of the best validation so far; empty before the first.
        history: one row per finished epoch.
    """

    def __init__(
        self,
        settings: Settings,
        stage: int,
        data: Path,
        output: Path,
        previous: Path | None,
        device: torch.device,
    ):
        self.settings, self.stage, self.device, self.output = settings, stage, device, Path(output)
        self.training = settings.training_of(stage)
        self.train_split, self.val_split = PreparedSplit(data, "train"), PreparedSplit(data, "val")
        self.dataset = TrainingSet(
            self.train_split, settings.data.output_size, settings.augmentation, settings.seed
        )
        self.loader, self.sampler = self._build_loader()
        self.steps = self.training.epochs * len(self.loader)
        self.transform = self._info(0, {}).transform.to(device)
        self.epoch = 0
        self.best: dict[str, Any] = {}
        self.history: list[Row] = []

        torch.manual_seed(settings.seed)
        start = self._initial_weights(previous)
        self.network = self._build_network(start, previous)
        self.parallel = self._parallelise(self.network)
        self.optimizer = torch.optim.SGD(
            (p for p in self.network.parameters() if p.requires_grad),
            lr=self.training.learning_rate,
            momentum=self.training.momentum,
            weight_decay=self.training.weight_decay,
        )
        self.checkpoints = CheckpointFolder(
            self.output / "checkpoints", settings.resources.checkpoint_history
        )
        splits = (self.train_split, self.val_split)
        self.identity = {
            "stage": stage,
            "settings": settings.for_stage(stage),
            "data": {split.manifest.split: split.manifest.checksums for split in splits},
            "previous": None if start is None else _sha256(previous),
        }

    def _build_loader(self) -> tuple[DataLoader[TrainingSample], DistributedSampler[int]]:
        processes, batch = distributed.world_size(), self.training.batch_size
        if batch % processes or batch // processes < 2:
            raise ValueError(
                f"batch_size {batch} cannot be shared by {processes} processes: each needs the "
                "same number of images, and 2 at least"
            )
        if len(self.train_split) < batch:
            raise ValueError(
                f"batch_size {batch} is more than the {len(self.train_split)} training images"
            )
        workers = self.settings.resources.num_workers
        sampler: DistributedSampler[int] = DistributedSampler(
            self.dataset, processes, distributed.rank(), seed=self.settings.seed, drop_last=True
        )
        loader = DataLoader(
            self.dataset,
            batch // processes,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            drop_last=True,
        )
        return loader, sampler

    def _initial_weights(self, previous: Path | None) -> Weights | None:
        """The weights of the stage before, where the settings say to start from them."""
        if self.stage == 1 or self.training.init == "encoder":
            return None
        if previous is None:
            raise ValueError(
                f"stage {self.stage} starts from the weights of stage {self.stage - 1}: name them "
                "with --init-weights, or choose init: encoder"
            )
        return load_weights(previous)

    def _build_network(self, start: Weights | None, source: Path | None) -> DSRL:
        model = self.settings.model
        if start is not None:
            model = model.model_copy(update={"pretrained": False})
        network = DSRL(model, len(self.train_split.manifest.classes), self.stage)
        if start is not None:
            load_layers(network, start, str(source))
        if self.training.freeze_batch_norm:
            for module in _batch_norms(network):
                module.requires_grad_(False)
        network.to(memory_format=torch.channels_last)
        return network.to(self.device)

    def _parallelise(self, network: DSRL) -> nn.Module:
        """What the training step calls: compiled and distributed where that is asked for."""
        module: nn.Module = network
        if self.settings.resources.compile and self.device.type == "cuda":
            module.compile()
        if distributed.world_size() > 1:
            # Without gradient, the segmentation side leaves its transform out of the graph.
            detached = self.settings.loss.fa_detach == "segmentation"
            module = DistributedDataParallel(module, find_unused_parameters=detached)
        return module

    def resume(self) -> None:
        """Take up the resume state of the same training, if there is one."""
        state = self.checkpoints.load_latest(self.identity)
        if state is None:
            if distributed.is_main():
                self.checkpoints.clear()
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.best, self.history = state["epoch"], state["best"], state["history"]
        restore_random_states(state["random"])
        if distributed.is_main():
            print(f"Resumed after epoch {self.epoch}", file=sys.stderr)

    def run(self) -> None:
        """Train the epochs that are left, then write what the stage is for."""
        main = distributed.is_main()
        history = History(self.output if main else None, self.history)
        title = f"stage {self.stage} ({STAGE_NAMES[self.stage]})"
        progress = Progress(title, self.steps, self.epoch * len(self.loader), enabled=main)
        while self.epoch < self.training.epochs and not self._stopped_early():
            row = self._train_epoch(progress)
            self.epoch += 1
            if self.epoch % self.training.val_interval == 0 or self.epoch == self.training.epochs:
                row |= self._validate()
            history.append(row)
            if main and self.epoch % self.settings.resources.checkpoint_interval == 0:
                self.checkpoints.save(self._state())
        progress.close()
        if main:
            info = self._info(self.best["epoch"], self.best["scores"])
            save_weights(self.output / "final.weights", Weights(info, self.best["layers"]))
            self.checkpoints.finish()

    def _train_epoch(self, progress: Progress) -> Row:
        """One pass over the training split; returns the epoch's row of the history."""
        self._train_mode()
        self.sampler.set_epoch(self.epoch)
        self.dataset.set_epoch(self.epoch)
        sums = torch.zeros(len(Losses._fields), device=self.device)
        started = time.perf_counter()
        for i, sample in enumerate(self.loader):
            rate = self._set_learning_rate(self.epoch * len(self.loader) + i)
            losses = self._step(sample)
            sums += torch.stack(losses).detach()
            progress.step(f"{self.epoch + 1}/{self.training.epochs}", losses._asdict(), rate)
        distributed.sum_over_processes(sums)
        means = (sums / (len(self.loader) * distributed.world_size())).tolist()
        images = len(self.loader) * self.training.batch_size
        return {
            "epoch": self.epoch + 1,
            "learning_rate": rate,
            **dict(zip(Losses._fields, means, strict=True)),
            "images_per_second": images / (time.perf_counter() - started),
        }

    def _train_mode(self) -> None:
        self.parallel.train()
        if self.training.freeze_batch_norm:
            for module in _batch_norms(self.network):
                module.eval()

    def _set_learning_rate(self, step: int) -> float:
        t = self.training
        rate = poly(step, self.steps, t.learning_rate, t.end_learning_rate, t.poly_power)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _step(self, sample: TrainingSample) -> Losses:
        """Forward, backward and update for one batch."""
        inputs, target, labels = (x.to(self.device, non_blocking=True) for x in sample)
        inputs, target = self._normalise(inputs), self._normalise(target)
        on_gpu = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu):
            output = self.parallel(inputs)
        losses = objective(output, labels.long(), target, self.settings.loss)
        self.optimizer.zero_grad()
        losses.total.backward()
        self.optimizer.step()
        return losses

    def _normalise(self, images: Tensor) -> Tensor:
        images = normalise(images, self.transform.mean, self.transform.std)
        return images.contiguous(memory_format=torch.channels_last)

    def _validate(self) -> Row:
        """Score the network on val, and keep it if it is the best so far."""
        distributed.share_buffers(self.network)
        scores = evaluate(self.network, self.val_split, self.transform, self.device)
        if not self.best or scores.mean_iou > self.best["scores"]["mean_iou"]:
            layers = self.network.state_dict()
            self.best = {
                "epoch": self.epoch,
                "scores": _summary(scores),
                "layers": {name: layer.to("cpu", copy=True) for name, layer in layers.items()},
            }
        return {f"val_{name}": value for name, value in _summary(scores).items()}

    def _stopped_early(self) -> bool:
        patience = self.training.early_stopping
        if not patience or not self.best:
            return False
        later = [row for row in self.history if row["epoch"] > self.best["epoch"]]
        return sum("val_mean_iou" in row for row in later) >= patience

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "history": self.history,
        }

    def _info(self, epoch: int, scores: dict[str, float]) -> WeightsInfo:
        manifest = self.train_split.manifest
        return WeightsInfo(
            stage=self.stage,
            layers="all",
            model=self.settings.model,
            dataset=manifest.dataset,
            classes=manifest.classes,
            mean=manifest.mean,
            std=manifest.std,
            input_size=self.settings.data.input_size,
            epoch=epoch,
            scores=scores,
        )


def _batch_norms(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def _summary(scores: Scores) -> dict[str, float]:
    """The figures that are followed during training."""
    names = ("pixel_accuracy", "mean_iou", "mean_iou_per_image", "cross_entropy")
    return {name: getattr(scores, name) for name in names}


def _sha256(path: Path | None) -> str:
    assert path is not None
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
