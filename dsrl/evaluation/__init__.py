"""How good and how costly a network is."""

from dsrl.evaluation.metrics import ConfusionMatrix

__all__ = ["ConfusionMatrix"]
