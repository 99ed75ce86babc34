"""Splits by ratio: which samples belong to train, val and test, where no folder or list says it."""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field, model_validator

from dsrl.config.strict import Strict

Share = Annotated[float, Field(gt=0, lt=1)]


class Shares(Strict):
    """How large the splits are, and what is drawn together."""

    train: Share
    val: Share
    test: Share | None = None
    seed: int = Field(0, ge=0, description="of the drawing")
    group: str | None = Field(
        None,
        description="placeholder whose equal values stay in one split, such as the drive that "
        "frames are of; default: each sample alone",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            shares = ", ".join(f"{name}: {share}" for name, share in self.shares.items())
            raise ValueError(f"expected shares that add up to 1, got {shares}")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """The share of each split."""
        shares = {"train": self.train, "val": self.val, "test": self.test}
        return {name: share for name, share in shares.items() if share is not None}

    def draw(self, groups: Iterable[str]) -> dict[str, str]:
        """The split of each group: a function of the names and the seed, in any order.

        Raises:
            ValueError: there are fewer groups than splits.
        """
        drawn = sorted(set(groups), key=self._rank)
        shares = list(self.shares.items())
        if len(drawn) < len(shares):
            raise ValueError(
                f"{len(drawn)} samples or groups cannot be divided into {len(shares)} splits"
            )
        found: dict[str, str] = {}
        start, total = 0, 0.0
        for number, (name, share) in enumerate(shares, 1):
            total += share
            # Each split, and each that is still to come, has at least one.
            end = min(max(round(total * len(drawn)), start + 1), len(drawn) - len(shares) + number)
            found |= dict.fromkeys(drawn[start:end], name)
            start = end
        return found

    def _rank(self, group: str) -> str:
        return hashlib.sha256(f"{self.seed}/{group}".encode()).hexdigest()


class Part(Strict):
    """The part of the samples that a split has."""

    name: str
    of: Shares
