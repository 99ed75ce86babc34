"""The losses of the three stages."""

from dsrl.losses.feature_affinity import feature_affinity_loss
from dsrl.losses.objective import Losses, objective, total_loss

__all__ = ["Losses", "feature_affinity_loss", "objective", "total_loss"]
