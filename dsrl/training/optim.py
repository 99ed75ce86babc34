"""Optimiser and learning rate."""

from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from dsrl.config.sections import Training


def build_optimizer(network: nn.Module, settings: Training) -> SGD:
    """SGD over the parameters that are learnt."""
    return SGD(
        (p for p in network.parameters() if p.requires_grad),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def poly_schedule(optimizer: SGD, settings: Training, steps: int) -> LambdaLR:
    """The poly schedule (ParseNet, Liu et al. 2015), from `learning_rate` in step 0 down to
    `end_learning_rate` after `steps` steps. A parameter group with another initial rate keeps its
    proportion."""
    end = settings.end_learning_rate / settings.learning_rate

    def factor(step: int) -> float:
        return end + (1 - end) * (1 - step / steps) ** settings.poly_power

    return LambdaLR(optimizer, factor)
