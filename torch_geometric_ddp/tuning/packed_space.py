"""The search space of packed clouds: points and bits of which as many clouds as fit are stored."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from optuna.trial import BaseTrial, FixedTrial

from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.methods import packed_count, packed_size, pkr
from torch_geometric_ddp.parameterization import PointSet
from torch_geometric_ddp.tuning.space import Settings, check_range, within

__all__ = ["PackedSpace"]


@dataclass(frozen=True)
class PackedSpace:
    r"""The ranges of what :func:`~torch_geometric_ddp.methods.pkr` stores and how it learns.

    Points a cloud, bits a coordinate and mirroring say what a cloud costs, and so how many of them
    a budget holds: the three are searched against each other, and the count follows. A range whose
    ends are equal fixes its value.

    Args:
        num_points (tuple of int): The points of a cloud, in even numbers and on a logarithmic
            scale; it ends at the points of a real cloud, or what fits. (default: :obj:`(16, 256)`)
        depth (tuple of int): The bits of a coordinate. (default: :obj:`(4, 8)`)
        mirror (tuple of bool): Whether halves are stored, of which both may be a choice.
            (default: :obj:`(True, False)`)
        lr (tuple of float, optional): The learning rate of the points, on a logarithmic scale.
            (default: not searched)
        ridge (tuple of float, optional): Likewise that of the regression. (default: not searched)

    Raises:
        TypeError, ValueError: If a range is not one.
    """

    num_points: tuple[int, int] = (16, 256)
    depth: tuple[int, int] = (4, 8)
    mirror: tuple[bool, ...] = (True, False)
    lr: tuple[float, float] | None = None
    ridge: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        mirror = self.mirror
        flags = isinstance(mirror, tuple) and all(isinstance(value, bool) for value in mirror)
        if not flags or not 0 < len(mirror) == len({*mirror}):
            raise TypeError(f"'mirror' must be a tuple of different truth values, got {mirror!r}")
        for name in ("num_points", "depth", "lr", "ridge"):
            ends = getattr(self, name)
            if ends is None and name in ("lr", "ridge"):
                continue
            ends = check_range(name, ends, {"num_points": 2, "depth": 1}.get(name))
            object.__setattr__(self, name, ends)
        if any(end % 2 for end in self.num_points):
            raise ValueError(f"'num_points' must be even, got {self.num_points}")
        PointSet(self.depth[1])  # Raises if it is too deep.

    def check(self, budget: StorageBudget) -> None:
        """Raises if nothing in the space fits a budget."""
        self._most_points(budget)

    def sample(self, trial: BaseTrial, budget: StorageBudget) -> Settings:
        """Draws settings that fit a budget, by the sampler of a trial.

        Args:
            trial (optuna.trial.BaseTrial): The trial.
            budget (StorageBudget): The budget.

        Returns:
            Arguments of :func:`~torch_geometric_ddp.methods.pkr`.
        """
        first, last = self.num_points[0], self._most_points(budget)
        settings: Settings = {
            "num_points": 2 * trial.suggest_int("halves", first // 2, last // 2, log=True),
            "depth": trial.suggest_int("depth", *self.depth),
            "mirror": trial.suggest_categorical("mirror", self.mirror),
        }
        for name in ("lr", "ridge"):
            ends = getattr(self, name)
            if ends is not None:
                settings[name] = trial.suggest_float(name, *ends, log=True)
        return settings

    def published(self, budget: StorageBudget) -> dict[str, Any]:
        """The defaults of the method, or what is nearest in the space, as parameters of a trial."""
        usual = {p.name: p.default for p in inspect.signature(pkr).parameters.values()}
        mirror = usual["mirror"] if usual["mirror"] in self.mirror else self.mirror[0]
        points, depth = packed_size(budget, mirror=mirror)
        points = within(points, (self.num_points[0], self._most_points(budget)))
        params: dict[str, Any] = {
            "halves": points // 2,
            "depth": within(depth, self.depth),
            "mirror": mirror,
        }
        for name in ("lr", "ridge"):
            ends = getattr(self, name)
            if ends is not None:
                params[name] = within(usual[name], ends)
        return params

    def published_settings(self, budget: StorageBudget) -> Settings:
        """The same as arguments of :func:`~torch_geometric_ddp.methods.pkr`."""
        return self.sample(FixedTrial(self.published(budget)), budget)

    def _most_points(self, budget: StorageBudget) -> int:
        """The most points of which a cloud fits at any bits, mirrored or not."""
        first, last = self.num_points[0], min(self.num_points[1], budget.num_points)
        depth, mirror = self.depth[1], all(self.mirror)
        for points in range(last - last % 2, first - 1, -2):
            if packed_count(budget, points, depth, mirror):
                return points
        raise ValueError(
            f"nothing in the search space fits the storage of ppc={budget.ppc} clouds of "
            f"{budget.num_points} points per class: 'num_points' begins at {first}, of which no "
            f"cloud with a depth of {depth} bits fits"
        )
