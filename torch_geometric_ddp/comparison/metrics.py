"""Metrics: what a figure is worth beside the whole set and random clouds of the same storage."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch_geometric_ddp._checks import check_float

__all__ = [
    "Standing",
    "dd_ranking_score",
    "hard_label_recovery",
    "improvement_over_random",
    "share_of_whole",
]


def share_of_whole(own: float, whole: float) -> float:
    r"""The share :math:`a / a_{\text{whole}}` of what the whole set reaches.

    Args:
        own (float): What networks reach that are trained on a set, in 0..1.
        whole (float): What they reach on the whole set.

    Returns:
        The share; NaN where the whole set reaches nothing.
    """
    return own / whole if whole > 0 else math.nan


def hard_label_recovery(own: float, whole: float) -> float:
    r"""What a set lacks of the whole one, :math:`\text{HLR} = a_{\text{whole}} - a`.

    Less is better. From `"DD-Ranking: Rethinking the Evaluation of Dataset Distillation"
    <https://arxiv.org/abs/2505.13300>`_ (2025), with hard labels, which all sets here have.

    Args:
        own (float): What networks reach that are trained on a set, in 0..1.
        whole (float): What they reach on the whole set.
    """
    return whole - own


def improvement_over_random(own: float, random: float) -> float:
    r"""How far a set lies above random clouds, :math:`\text{IOR} = a - a_{\text{random}}`.

    From `"DD-Ranking: Rethinking the Evaluation of Dataset Distillation"
    <https://arxiv.org/abs/2505.13300>`_ (2025).

    Args:
        own (float): What networks reach that are trained on a set, in 0..1.
        random (float): What they reach on random real clouds of the same storage, in the same
            training.
    """
    return own - random


def dd_ranking_score(recovery: float, improvement: float, weight: float = 0.5) -> float:
    r"""The DD-Ranking score, in 0..1; more is better.

    .. math::
        \frac{e^{\alpha} - e^{-1}}{e - e^{-1}}, \qquad
        \alpha = w \, \text{IOR} - (1 - w) \, \text{HLR}

    It is the label-robust score of `"DD-Ranking: Rethinking the Evaluation of Dataset Distillation"
    <https://arxiv.org/abs/2505.13300>`_ (2025). A set that is worth as much as both the random
    clouds and the whole set has 0.27.

    Args:
        recovery (float): :func:`hard_label_recovery`, in -1..1.
        improvement (float): :func:`improvement_over_random`, in -1..1.
        weight (float): The weight :math:`w` of the improvement. (default: :obj:`0.5`, as published)

    Raises:
        TypeError: If :obj:`weight` is no number.
        ValueError: If :obj:`weight` does not lie in 0..1.
    """
    weight = check_float("weight", weight)
    if weight > 1:
        raise ValueError(f"'weight' must lie in 0..1, got {weight}")
    alpha = weight * improvement - (1 - weight) * recovery
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


@dataclass(frozen=True)
class Standing:
    """Where a figure stands between random clouds and the whole set.

    What needs a figure that is not there is :obj:`None`.

    Args:
        own (float): The mean of what networks reach that are trained on sets of a method, in 0..1.
        random (float, optional): The same of random clouds of the same storage. (default: unknown)
        whole (float, optional): The same of the whole set. (default: unknown)
    """

    own: float
    random: float | None = None
    whole: float | None = None

    @property
    def share(self) -> float | None:
        """:func:`share_of_whole`."""
        return None if self.whole is None else share_of_whole(self.own, self.whole)

    @property
    def recovery(self) -> float | None:
        """:func:`hard_label_recovery`."""
        return None if self.whole is None else hard_label_recovery(self.own, self.whole)

    @property
    def improvement(self) -> float | None:
        """:func:`improvement_over_random`."""
        return None if self.random is None else improvement_over_random(self.own, self.random)

    @property
    def score(self) -> float | None:
        """:func:`dd_ranking_score` with the published weight."""
        if self.recovery is None or self.improvement is None:
            return None
        return dd_ranking_score(self.recovery, self.improvement)
