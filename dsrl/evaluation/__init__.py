"""How good and how costly a network is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsrl.evaluation.metrics import ConfusionMatrix

__all__ = ["ConfusionMatrix"]


def __getattr__(name: str) -> Any:
    """Import PyTorch only when `ConfusionMatrix` is asked for (PEP 562); tables need none."""
    if name in __all__:
        from dsrl.evaluation import metrics

        return getattr(metrics, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
