"""Optimiser and learning rate."""

from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from dsrl.config.sections import Training


def build_optimizer(
    network: nn.Module, settings: Training, trained: nn.Module | None = None
) -> SGD:
    """SGD over the parameters that are learnt, in groups of equal learning rate and weight decay.

    Args:
        trained: the part of the network that `encoder_learning_rate_factor` is for.
    """
    slow = set() if trained is None else set(trained.parameters())
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            factor = settings.encoder_learning_rate_factor if parameter in slow else 1.0
            decays = parameter.ndim > 1 or settings.decay_norm_and_bias
            key = factor * settings.learning_rate, settings.weight_decay if decays else 0.0
            groups.setdefault(key, []).append(parameter)
    return SGD(
        [
            {"params": parameters, "lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        lr=settings.learning_rate,
        momentum=settings.momentum,
    )


def poly_schedule(optimizer: SGD, settings: Training, steps: int) -> LambdaLR:
    """The poly schedule (ParseNet, Liu et al. 2015), from `learning_rate` in step 0 down to
    `end_learning_rate` after `steps` steps. A parameter group with another initial rate keeps its
    proportion."""
    end = settings.end_learning_rate / settings.learning_rate

    def factor(step: int) -> float:
        return end + (1 - end) * (1 - step / steps) ** settings.poly_power

    return LambdaLR(optimizer, factor)
