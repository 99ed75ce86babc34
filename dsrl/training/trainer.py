"""The training loop: schedule, forward, backward, step; validate, log, save."""

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsrl.checkpoints.checkpoint import CheckpointFolder, restore_random_states
from dsrl.checkpoints.weights import Weights, WeightsInfo, compare_layers, save_weights
from dsrl.config.settings import STAGE_NAMES, Settings
from dsrl.data.dataset import TrainingSample, TrainingSet
from dsrl.data.transforms import normalise
from dsrl.evaluation.evaluate import evaluate
from dsrl.losses import Losses, objective
from dsrl.system import distributed
from dsrl.system.faults import explained_faults
from dsrl.system.files import make_folder
from dsrl.system.signals import Stopped, StopRequest
from dsrl.training import setup
from dsrl.training.guards import LossWatch, all_finite
from dsrl.training.history import History, Progress, Row, scores_of, summary
from dsrl.training.schedule import poly
from dsrl.training.start import Start, check_fits


class Trainer:
    """The state of a training and the steps that change it.

    Attributes:
        epoch: finished epochs.
        step: finished steps of the epoch that is under way.
        sums: of the losses over these steps.
        best: epoch, scores and layers of the best validation so far; empty before the first.
        history: one row per finished epoch.
    """

    def __init__(
        self,
        settings: Settings,
        stage: int,
        data: Path,
        output: Path,
        device: torch.device,
        start: Start | None,
        stop: StopRequest,
    ):
        self.settings, self.stage, self.device, self.stop = settings, stage, device, stop
        self.data, self.output = Path(data), Path(output)
        self.training = settings.training_of(stage)
        self.train_split, self.val_split = (setup.open_split(data, n) for n in ("train", "val"))
        self.dataset = TrainingSet(
            self.train_split, settings.data.output_size, settings.augmentation, settings.seed
        )
        self.loader, self.sampler = setup.build_loader(
            self.dataset, settings, self.training.batch_size, device
        )
        self.steps = self.training.epochs * len(self.loader)
        self.transform = self._info(0, {}).transform.to(device)
        self.epoch = self.step = 0
        self.sums = torch.zeros(len(Losses._fields), device=device)
        self.watch = LossWatch(device)
        self.best: dict[str, Any] = {}
        self.history: list[Row] = []

        torch.manual_seed(settings.seed)
        self.network = setup.build_network(
            settings, stage, self.train_split.manifest.classes, start
        )
        self.network.to(device)
        self.parallel = setup.parallelise(self.network, settings, device)
        self.optimizer = setup.optimiser(self.network, settings, stage)
        self.checkpoints = CheckpointFolder(
            self.output / "checkpoints", settings.resources.checkpoint_history
        )
        splits = (self.train_split, self.val_split)
        self.identity = {
            "stage": stage,
            "settings": settings.for_stage(stage),
            "data": {split.manifest.split: split.manifest.checksums for split in splits},
            "previous": None if start is None else start.checksum,
        }

    def resume(self) -> None:
        """Take up the resume state of the same training, if there is one; discard another's."""
        state = self.checkpoints.load_latest(self.identity)
        if state is not None:
            self.restore(state, str(self.checkpoints.latest))
        elif distributed.is_main():
            make_folder(self.output)
            self.checkpoints.clear()

    def restore(self, state: dict[str, Any], source: str) -> None:
        """Take up the state of a checkpoint, bit for bit.

        Raises:
            ValueError: it is of another network, or of other data; the message names `source`.
        """
        info = WeightsInfo.model_validate(state["info"])
        check_fits(info, self.settings.model, self.train_split.manifest.classes, source)
        if state["identity"]["data"] != self.identity["data"]:
            raise ValueError(
                f"{source}: was trained on other data than {self.data} holds now; name the right "
                "folder with --data"
            )
        own = self.network.state_dict()
        compare_layers(own, state["network"], own.keys() | state["network"].keys(), source)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.identity = state["identity"]
        self.epoch, self.step = state["epoch"], state["step"]
        self.best, self.history = state["best"], state["history"]
        if self.step:
            self.sums = state["sums"][distributed.rank()].to(self.device)
        restore_random_states(state["random"])
        if distributed.is_main():
            step = f", step {self.step}" if self.step else ""
            print(f"Resumed after epoch {self.epoch}{step}", file=sys.stderr)

    def run(self) -> None:
        """Train the epochs that are left, then write what the stage is for."""
        main, epochs = distributed.is_main(), self.training.epochs
        texts = {"description": self.settings.description, "id": self.settings.experiment_id}
        history = History(self.output if main else None, self.history, texts)
        title = f"stage {self.stage} ({STAGE_NAMES[self.stage]})"
        done = self.epoch * len(self.loader) + self.step
        bar = Progress(title, self.steps, done, enabled=main)
        try:
            with (
                closing(bar) as progress,
                explained_faults(self.training.batch_size, self.settings.data.input_size),
            ):
                while self.epoch < epochs and not self._stopped_early():
                    row = self._train_epoch(progress)
                    if row["epoch"] % self.training.val_interval == 0 or row["epoch"] == epochs:
                        row |= self._validate()
                    self.epoch, self.step = self.epoch + 1, 0
                    self.sums.zero_()
                    history.append(row)
                    if self.epoch % self.settings.resources.checkpoint_interval == 0:
                        self._save()
        finally:
            # Ends the processes that load images. They leave SIGTERM to this one, so Python's exit
            # would wait for them for ever if a traceback kept the loader alive.
            del self.loader
        if main:
            info = self._info(self.best["epoch"], self.best["scores"])
            save_weights(self.output / "final.weights", Weights(info, self.best["layers"]))
            self.checkpoints.finish()

    def _train_epoch(self, progress: Progress) -> Row:
        """What is left of a pass over the training split; returns its row of the history."""
        self._train_mode()
        self.sampler.set_position(self.epoch, self.step)
        self.dataset.set_epoch(self.epoch)
        first, started = self.step, time.perf_counter()
        for sample in self.loader:
            self._stop_if_asked()
            rate = self._set_learning_rate()
            losses = self._step(sample)
            self.sums += torch.stack(losses).detach()
            self.watch.note(self.step, losses.total)
            self.step += 1
            if self.step % self.watch.interval == 0:
                self._check_losses()
            progress.step(f"{self.epoch + 1}/{self.training.epochs}", losses._asdict(), rate)
        images = (self.step - first) * self.training.batch_size
        seconds = time.perf_counter() - started
        self._check_losses()
        sums = self.sums.clone()
        distributed.sum_over_processes(sums)
        means = (sums / (self.step * distributed.world_size())).tolist()
        return {
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **dict(zip(Losses._fields, means, strict=True)),
            "images_per_second": images / seconds,
        }

    def _train_mode(self) -> None:
        self.parallel.train()
        if self.training.freeze_batch_norm:
            for module in setup.batch_norms(self.network):
                module.eval()

    def _set_learning_rate(self) -> float:
        t, step = self.training, self.epoch * len(self.loader) + self.step
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
        scores = evaluate(
            self.network,
            self.val_split,
            self.transform,
            self.device,
            # Processes have different numbers of images, so that only one alone can stop here.
            each_batch=self._stop_if_asked if distributed.world_size() == 1 else lambda: None,
        )
        if not self.best or scores.mean_iou > self.best["scores"]["mean_iou"]:
            layers = self.network.state_dict()
            self.best = {
                "epoch": self.epoch + 1,
                "scores": summary(scores),
                "layers": {name: layer.to("cpu", copy=True) for name, layer in layers.items()},
            }
        return {f"val_{name}": value for name, value in summary(scores).items()}

    def _stopped_early(self) -> bool:
        patience = self.training.early_stopping
        if not patience or not self.best:
            return False
        later = [row for row in self.history if row["epoch"] > self.best["epoch"]]
        return sum("val_mean_iou" in row for row in later) >= patience

    def _stop_if_asked(self) -> None:
        """Write a checkpoint and leave if SIGTERM has come to one of the processes."""
        if distributed.any_process(self.stop.made):
            self._save()
            where = f" from {self.checkpoints.latest}" if distributed.is_main() else ""
            raise Stopped(f"stopped by SIGTERM; repeat the call to go on{where}")

    def _check_losses(self) -> None:
        """Stop at a loss that is no number."""
        step = self.watch.first_bad_step()
        if step is not None:
            names = [self.train_split.manifest.samples[i].name for i in self.sampler.batch(step)]
            where = f"step {step + 1} of epoch {self.epoch + 1}, on the images {', '.join(names)}"
            self._give_up(f"the loss is no number in {where}")

    def _give_up(self, why: str) -> None:
        good = self.checkpoints.latest
        where = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
        raise ValueError(f"{why}; {where}; lower the learning rate, or look at these images")

    def _save(self) -> None:
        """Write a checkpoint, in the main process; all must call."""
        self._check_losses()
        if not all_finite(self.network):
            where = f"step {self.step} of epoch {self.epoch}"
            self._give_up(f"the weights are no numbers after {where}")
        sums = distributed.gather(self.sums)
        if not distributed.is_main():
            return
        epoch = self.epoch + (self.step > 0)
        scores = {} if self.step else scores_of(self.history)
        self.checkpoints.save(
            {
                "info": self._info(epoch, scores).model_dump(mode="json"),
                "identity": self.identity,
                "settings": self.settings.model_dump(
                    mode="json", exclude={"resources": {"device"}}
                ),
                "device": self.settings.resources.device,
                "data": str(self.data),
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "sums": sums,
                "best": self.best,
                "history": self.history,
            }
        )

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
            experiment_id=self.settings.experiment_id,
            description=self.settings.description,
        )
