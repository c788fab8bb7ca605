"""The rows of a comparison, its runs, and what a row is given to make them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch_geometric.data import Data

from torch_geometric_ddp._identity import describe, is_ours
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.coreset import Observation
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.quotas import Quotas, told_quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task

__all__ = [
    "Bench",
    "Cell",
    "Entry",
    "Figures",
    "check_rows",
    "digest",
    "foreign",
    "named",
    "ppc_of",
]

#: The figures of a run, as JSON.
Figures = dict[str, Any]


def named(settings: Mapping[str, Any]) -> Figures:
    """Settings as JSON."""
    return {key: describe(value) for key, value in settings.items()}


def ppc_of(run: Mapping[str, Any]) -> float | None:
    """The PPC of a run; none where it has no budget."""
    return None if run["budget_bits"] is None else run["ppc"]


def digest(key: Mapping[str, Any]) -> str:
    """A short name for what makes a run the same run."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


class Bench(Protocol):
    """Where a row makes its runs; :class:`Lab` is one."""

    @property
    def task(self) -> Task:
        """What networks learn."""

    @property
    def train_set(self) -> Iterable[Data]:
        """The real set."""

    @property
    def bank(self) -> PointCloudBank:
        """Its clouds, of the unit ball."""

    @property
    def device(self) -> torch.device:
        """Where everything is computed; the clouds may lie elsewhere."""

    @property
    def source(self) -> str:
        """What the real set is called."""

    @property
    def backbones(self) -> Mapping[str, Callable[..., Backbone]]:
        """Makes a backbone, by name."""

    def observation(self, backbone: str, seed: int) -> Observation:
        """What a network learned on the whole set."""

    def checkpoint(self, cell: Cell) -> Path:
        """Where the state of a run is kept until it is finished."""

    def judge(self, cell: Cell, synthetic: SyntheticPointCloudDataset) -> Figures:
        """Checks what a set stores, keeps it, and trains a network on it."""

    def judge_whole(self, cell: Cell, num_points: int | None = None) -> Figures:
        """Trains a network on the whole set."""


def foreign(key: str, made_by: Callable[..., Any]) -> Figures:
    """What a callable of a user is, under this key; a function of this package needs no telling."""
    return {} if is_ours(made_by) else {key: describe(made_by)}


@dataclass(frozen=True)
class Entry(ABC):
    """A row of the table.

    Args:
        name (str): What the row is called.
        settings (dict): What it is made with; they are part of what identifies a run.
            (default: nothing)
        one_label (bool): Whether it can be made only where a cloud has one label, and not for
            segmentation. (default: :obj:`False`)
        quotas (str or sequence of float): How the storage is divided among the classes, see
            :func:`~torch_geometric_ddp.distill`; part of what identifies a run, where they are not
            uniform. (default: :obj:`"uniform"`)
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    one_label: bool = False
    quotas: Quotas = field(default="uniform", kw_only=True)
    #: Whether it uses what a network learned on the whole set.
    observes: ClassVar[bool] = False
    #: Whether its sets depend on the backbone that they are made with.
    uses_network: ClassVar[bool] = True
    #: Whether it has a budget; the whole set has none.
    has_budget: ClassVar[bool] = True

    def identity(self) -> Figures:
        """What it is made with, as JSON; a run is another run where this differs."""
        return named(self.settings)

    def serves(self, task: Task) -> bool:
        """Whether it can be made for a task."""
        return task.one_label or not self.one_label

    def check_network(self, make: Callable[..., Backbone], bank: PointCloudBank) -> None:
        """Raises if it cannot be made of these clouds with such a network; most rows can."""
        return

    @property
    def streams(self) -> bool:
        """Whether the real clouds may lie elsewhere than where it is made."""
        return True

    def at_rates(self, rates: Sequence[float]) -> list[Entry]:
        """The same with other learning rates, a row for each; itself where it has none."""
        return [self]

    def at_quotas(self, every: Sequence[Quotas]) -> list[Entry]:
        """The same with the storage divided otherwise, a row for each; itself without a budget.

        Args:
            every (sequence): How the storage is divided among the classes, once for each row. What
                is not uniform is part of the name.
        """
        if not self.has_budget:
            return [self]
        return [self._at_quotas(quotas) for quotas in every]

    def _at_quotas(self, quotas: Quotas) -> Entry:
        told = told_quotas(quotas).get("quotas")
        if told is None:
            return self
        words = told if isinstance(told, str) else " ".join(f"{weight:g}" for weight in told)
        return replace(self, name=f"{self.name}, quotas {words}", quotas=quotas)

    def changed(self, settings: Mapping[str, Any]) -> Entry:
        """The same with other settings, as a row of its own that is called :obj:`NAME(KEY=VALUE)`.

        Args:
            settings (dict): The settings, by their names.

        Raises:
            TypeError, ValueError: If the row has none of such a name, or not of such a value.
        """
        raise ValueError(f"the row {self.name!r} has no settings that can be changed")

    def steps(self, requested: int | None) -> int:
        """The optimisation steps of a run, of which :obj:`requested` stands for as published."""
        return 0

    @abstractmethod
    def run(self, lab: Bench, cell: Cell) -> Figures:
        """Makes a training set, trains on it and gives the figures, as JSON."""


@dataclass(frozen=True)
class Cell:
    """One run: a row of the table under one seed.

    Args:
        entry (Entry): The row.
        backbone (str): The backbone that is trained.
        ppc (float): The budget.
        seed (int): The seed.
        steps (int): The optimisation steps.
        distilled_with (str, optional): The backbone that the set is made with, where it is another
            one: the set is that of :attr:`source`. (default: the one that is trained)
    """

    entry: Entry
    backbone: str
    ppc: float
    seed: int
    steps: int
    distilled_with: str | None = None

    @property
    def source(self) -> Cell:
        """The run that makes the set; this one, unless it takes that of another backbone."""
        if self.distilled_with is None:
            return self
        return replace(self, backbone=self.distilled_with, distilled_with=None)

    def __str__(self) -> str:
        made = "" if self.distilled_with is None else f" from {self.distilled_with}"
        return f"{self.entry.name}{made}, PPC {self.ppc}, {self.backbone}, seed {self.seed}"


def check_rows(
    entries: Sequence[Entry], ppcs: Sequence[float], task: Task, bank: PointCloudBank
) -> None:
    """Raises unless rows can be made for a task of these clouds within these budgets.

    Args:
        entries (sequence of Entry): The rows.
        ppcs (sequence of float): The budgets.
        task (Task): What networks learn.
        bank (PointCloudBank): The real clouds.

    Raises:
        TypeError, ValueError: If rows that are made otherwise share a name, one does not serve the
            task, its quotas are not those of the classes, or a PPC is no number above 0 or more
            than the whole set.
    """
    known: dict[str, Entry] = {}
    for entry in entries:
        if known.setdefault(entry.name, entry) != entry:
            raise ValueError(
                f"'entries' must have a name each, got two rows '{entry.name}' that are made "
                "otherwise"
            )
        if not entry.serves(task):
            raise ValueError(
                f"the row '{entry.name}' needs clouds with one label each, which the task "
                f"'{task.name}' has not: leave it out"
            )
    for ppc in ppcs:
        bank.check_budget(bank.budget(ppc))
        for entry in entries:
            bank.budget(ppc, entry.quotas)  # Raises.
