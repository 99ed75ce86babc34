"""The learning rate."""


def poly(step: int, steps: int, start: float, end: float, power: float) -> float:
    """The poly schedule (ParseNet, Liu et al. 2015), ending at `end` instead of zero.

    Args:
        step: 0 for the first of `steps` steps; at `steps` the rate is `end`.
        start, end, power: learning rates and the exponent.
    """
    return end + (start - end) * (1 - step / steps) ** power
