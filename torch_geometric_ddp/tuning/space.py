"""Search spaces: settings that fit a storage budget, and those of shape morphing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

from optuna.trial import BaseTrial, FixedTrial

from torch_geometric_ddp._checks import check_flag, check_int, check_number
from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.parameterization import ANCHOR_LR, ShapeMorphing

__all__ = ["SearchSpace", "Settings", "Space", "check_range", "within"]

#: Arguments of a method, as JSON.
Settings = dict[str, Any]


@runtime_checkable
class Space(Protocol):
    """What a search draws settings from; a dataclass, whose fields identify a study."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def check(self, budget: StorageBudget) -> None:
        """Raises if nothing in the space fits a budget."""

    def sample(self, trial: BaseTrial, budget: StorageBudget) -> Settings:
        """Draws settings that fit a budget, by the sampler of a trial."""

    def published(self, budget: StorageBudget) -> dict[str, Any]:
        """The usual settings, or what is nearest in the space, as parameters of a trial."""

    def published_settings(self, budget: StorageBudget) -> Settings:
        """The same as arguments of the method."""


# DDP, ICLR 2026: M, L and λ; the learning rates are those of distill.
_PUBLISHED = {"num_anchors": 4, "num_morphs": 16, "uniformity_lambda": 1000.0}
_RATES = {"anchor_lr": ANCHOR_LR, "weight_lr": ANCHOR_LR / 10}


@dataclass(frozen=True)
class SearchSpace:
    r"""The ranges of M, N2, L and λ, from which only settings within the budget are drawn.

    :math:`M` and then :math:`L` are drawn up to what leaves room for anchors of one point, and
    :math:`N_2` as a share of the largest that fits both
    (:meth:`~torch_geometric_ddp.parameterization.ShapeMorphing.largest_anchor_points`), so that
    no trial is wasted. The ranges are the same in every trial, but for that of :math:`L` where the
    budget is so small that its end falls with :math:`M` (a sixteenth of a cloud of 1,024 points: 32
    up to :math:`M = 6`, 28 at 7, 24 at 8); samplers that need one range draw it apart there. A
    range whose ends are equal fixes its value.

    Args:
        num_anchors (tuple of int): Anchors per group :math:`M`. (default: :obj:`(2, 8)`)
        num_morphs (tuple of int): Morphs per group :math:`L`. (default: :obj:`(0, 32)`)
        anchor_share (tuple of float): :math:`N_2` in shares of the largest, above 0 and up to 1.
            (default: :obj:`(0.25, 1.0)`)
        anchor_step (int): :math:`N_2` is rounded down to a multiple of this, unless it is the
            largest, so that trials share the parts of the real clouds. (default: :obj:`8`)
        uniformity_lambda (tuple of float): The sharpness :math:`\lambda` of the uniformity
            penalty, above 0, searched on a logarithmic scale. (default: :obj:`(10, 1e5)`)
        no_penalty (bool): Whether :math:`\lambda = 0`, no penalty, is a choice beside the range.
            (default: :obj:`False`)
        anchor_lr (tuple of float, optional): The learning rate of the anchors, on a logarithmic
            scale. (default: not searched)
        weight_lr (tuple of float, optional): Likewise that of the weights. (default: not searched)

    Raises:
        TypeError, ValueError: If a range is not one, or :obj:`no_penalty` not true or false.
    """

    num_anchors: tuple[int, int] = (2, 8)
    num_morphs: tuple[int, int] = (0, 32)
    anchor_share: tuple[float, float] = (0.25, 1.0)
    anchor_step: int = 8
    uniformity_lambda: tuple[float, float] = (10.0, 1e5)
    no_penalty: bool = False
    anchor_lr: tuple[float, float] | None = None
    weight_lr: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "anchor_step", check_int("anchor_step", self.anchor_step))
        check_flag("no_penalty", self.no_penalty)
        for name in (field.name for field in fields(self)):
            ends = getattr(self, name)
            if name in ("anchor_step", "no_penalty") or (ends is None and name in _RATES):
                continue
            ends = check_range(name, ends, {"num_anchors": 1, "num_morphs": 0}.get(name))
            object.__setattr__(self, name, ends)
        if self.anchor_share[1] > 1:
            raise ValueError(f"'anchor_share' must end at 1 at most, got {self.anchor_share}")

    def check(self, budget: StorageBudget) -> None:
        """Raises if nothing in the space fits a budget."""
        self._most_anchors(budget)

    def sample(self, trial: BaseTrial, budget: StorageBudget) -> Settings:
        """Draws settings that fit a budget, by the sampler of a trial.

        Args:
            trial (optuna.trial.BaseTrial): The trial.
            budget (StorageBudget): The budget.

        Returns:
            Arguments of :func:`~torch_geometric_ddp.methods.ddp`.
        """
        num_anchors = trial.suggest_int(
            "num_anchors", self.num_anchors[0], self._most_anchors(budget)
        )
        num_morphs = trial.suggest_int(
            "num_morphs", self.num_morphs[0], self._most_morphs(budget, num_anchors)
        )
        share = trial.suggest_float("anchor_share", *self.anchor_share)
        settings = {
            "num_anchors": num_anchors,
            "anchor_points": self._points(budget, num_anchors, num_morphs, share),
            "num_morphs": num_morphs,
            "uniformity_lambda": 0.0,
        }
        if not self.no_penalty or trial.suggest_categorical("penalty", [True, False]):
            settings["uniformity_lambda"] = trial.suggest_float(
                "uniformity_lambda", *self.uniformity_lambda, log=True
            )
        for name in _RATES:
            ends = getattr(self, name)
            if ends is not None:
                settings[name] = trial.suggest_float(name, *ends, log=True)
        return settings

    def published(self, budget: StorageBudget) -> dict[str, Any]:
        """The published settings, or what is nearest in the space, as parameters of a trial.

        M=4, L=16, λ=1000 and the largest N2 (DDP, ICLR 2026, experiments).
        """
        params: dict[str, Any] = {"anchor_share": self.anchor_share[1]}
        if self.no_penalty:
            params["penalty"] = True
        rates = {name: rate for name, rate in _RATES.items() if getattr(self, name) is not None}
        for name, value in {**_PUBLISHED, **rates}.items():
            low, high = getattr(self, name)
            params[name] = within(value, (low, high))
        params["num_anchors"] = min(params["num_anchors"], self._most_anchors(budget))
        most = self._most_morphs(budget, params["num_anchors"])
        params["num_morphs"] = min(params["num_morphs"], most)
        return params

    def published_settings(self, budget: StorageBudget) -> Settings:
        """The same as arguments of :func:`~torch_geometric_ddp.methods.ddp`."""
        return self.sample(FixedTrial(self.published(budget)), budget)

    def _most_anchors(self, budget: StorageBudget) -> int:
        (low, high), fewest = self.num_anchors, self.num_morphs[0]
        try:
            ShapeMorphing.largest_anchor_points(budget, low, fewest)
        except ValueError as error:
            raise ValueError(
                f"nothing in the search space fits the storage of ppc={budget.ppc} clouds of "
                f"{budget.num_points} points per class: even its smallest settings, M={low} and "
                f"L={fewest}, do not ({error})"
            ) from error
        return max(m for m in range(low, high + 1) if _fits(budget, m, fewest))

    def _most_morphs(self, budget: StorageBudget, num_anchors: int) -> int:
        most = ShapeMorphing.most_morphs(budget, num_anchors)
        return self.num_morphs[1] if most is None else min(self.num_morphs[1], most)

    def _points(self, budget: StorageBudget, anchors: int, morphs: int, share: float) -> int:
        largest = ShapeMorphing.largest_anchor_points(budget, anchors, morphs)
        points = max(1, int(share * largest))
        if share == 1 or points < self.anchor_step:
            return points
        return points - points % self.anchor_step


def check_range(name: str, ends: Any, minimum: int | None = None) -> tuple[float, float]:
    """Returns the two ends of a range, if these are such: integers from a minimum, or numbers."""
    if not isinstance(ends, tuple) or len(ends) != 2:
        raise TypeError(f"'{name}' must be a tuple of the two ends of a range, got {ends}")
    if minimum is None:
        first, last = (check_number(name, end, exclusive=True) for end in ends)
    else:
        first, last = (check_int(name, end, minimum=minimum) for end in ends)
    if first > last:
        raise ValueError(f"'{name}' must not end below its start, got {ends}")
    return first, last


def within(value: Any, ends: tuple[Any, Any]) -> Any:
    """What of a range is nearest to a value."""
    return min(max(value, ends[0]), ends[1])


def _fits(budget: StorageBudget, num_anchors: int, num_morphs: int) -> bool:
    try:
        return ShapeMorphing.largest_anchor_points(budget, num_anchors, num_morphs) > 0
    except ValueError:
        return False
