"""The parts that a training is put together from."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from dsrl.config.settings import Settings
from dsrl.data.dataset import PreparedSplit, TrainingSample, TrainingSet
from dsrl.data.manifest import ClassInfo
from dsrl.models.dsrl import DSRL
from dsrl.system import distributed
from dsrl.system.signals import ignore_sigterm
from dsrl.training.sampler import EpochSampler
from dsrl.training.start import Start


def open_split(data: Path, name: str) -> PreparedSplit:
    """A prepared split to train or to validate on.

    Raises:
        OSError, ValueError: there is none, or none of its pixels has a label.
    """
    split = PreparedSplit(data, name)
    if not any(split.manifest.class_pixels):
        raise ValueError(
            f"{split.folder}: no pixel has a label, and a training needs labels in train to learn "
            "from and in val to find the best epoch by; prepare a split that has some"
        )
    return split


def build_loader(
    dataset: TrainingSet, settings: Settings, batch: int, device: torch.device
) -> tuple[DataLoader[TrainingSample], EpochSampler]:
    """The loader of this process, and the order it follows.

    Args:
        batch: images per step, over all processes together.

    Raises:
        ValueError: the processes cannot share a batch, or there are too few images for one.
    """
    processes = distributed.world_size()
    if batch % processes or batch // processes < 2:
        raise ValueError(
            f"batch_size {batch} cannot be shared by {processes} processes: each needs the "
            "same number of images, and 2 at least"
        )
    if len(dataset) < batch:
        raise ValueError(f"batch_size {batch} is more than the {len(dataset)} training images")
    workers = settings.resources.num_workers
    sampler = EpochSampler(dataset, batch // processes, settings.seed)
    loader = DataLoader(
        dataset,
        batch // processes,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        drop_last=True,
        worker_init_fn=ignore_sigterm,
        # Its own, so that starting workers draws nothing from the network's generator.
        generator=torch.Generator(),
    )
    return loader, sampler


def build_network(
    settings: Settings, stage: int, classes: Sequence[ClassInfo], start: Start | None
) -> DSRL:
    """The network of a stage as its training begins, on the CPU.

    Raises:
        ValueError: `start` does not fit.
    """
    model = settings.model
    if start is not None:
        model = model.model_copy(update={"pretrained": False})
    network = DSRL(model, len(classes), stage)
    if start is not None:
        start.apply(network, model, classes)
    if settings.training_of(stage).freeze_batch_norm:
        for module in batch_norms(network):
            module.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def optimiser(network: nn.Module, settings: Settings, stage: int) -> torch.optim.SGD:
    """SGD over what is to be learnt."""
    training = settings.training_of(stage)
    return torch.optim.SGD(
        (p for p in network.parameters() if p.requires_grad),
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )


def parallelise(network: DSRL, settings: Settings, device: torch.device) -> nn.Module:
    """What the training step calls: compiled and distributed where that is asked for."""
    module: nn.Module = network
    if settings.resources.compile and device.type == "cuda":
        module.compile()
    if distributed.world_size() > 1:
        # Without gradient, the segmentation side leaves its transform out of the graph.
        detached = settings.loss.fa_detach == "segmentation"
        module = DistributedDataParallel(module, find_unused_parameters=detached)
    return module


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """All batch norms of a network."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
