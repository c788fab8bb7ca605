"""What is compared: coresets, distillation methods and the whole set."""

from __future__ import annotations

import inspect
import itertools
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.coreset import (
    Observation,
    forgetting_coreset,
    herding_coreset,
    k_center_coreset,
    nearest_to_mean,
    random_coreset,
)
from torch_geometric_ddp.memory import PeakMemory
from torch_geometric_ddp.methods import Method, dc, ddp, dm, pcc, sadm
from torch_geometric_ddp.methods.starts import tanh_noise
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset

if TYPE_CHECKING:
    from torch_geometric_ddp.comparison.lab import Cell, Lab

__all__ = ["ENTRIES", "Coreset", "Distilled", "Entry", "Initial", "ObservedCoreset", "Whole"]

Figures = dict[str, Any]


def _names(settings: Mapping[str, Any]) -> Figures:
    return {key: describe(value) for key, value in settings.items()}


@dataclass(frozen=True)
class Entry(ABC):
    """A row of the table.

    Args:
        name (str): What the row is called.
        settings (dict): What it is made with; they are part of what identifies a run.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it uses what a network learned on the whole set.
    observes: ClassVar[bool] = False
    #: Whether its sets depend on the backbone that they are made with.
    uses_network: ClassVar[bool] = True

    def identity(self) -> Figures:
        """What it is made with, as JSON; a run is another run where this differs."""
        return _names(self.settings)

    def steps(self, requested: int | None) -> int:
        """The optimisation steps of a run, of which :obj:`requested` stands for as published."""
        return 0

    @abstractmethod
    def run(self, lab: Lab, cell: Cell) -> Figures:
        """Makes a training set, trains on it and gives the figures, as JSON."""


@dataclass(frozen=True)
class Coreset(Entry):
    """Random real clouds."""

    uses_network: ClassVar[bool] = False

    def run(self, lab: Lab, cell: Cell) -> Figures:
        """Draws with the seed of the run."""
        return lab.judge(cell, random_coreset(lab.train_set, cell.ppc, cell.seed))


@dataclass(frozen=True)
class ObservedCoreset(Entry):
    """Real clouds chosen by what a network learned on the whole set.

    Args:
        choose (callable): Makes the set from the real set, a PPC and an observation.
    """

    choose: Callable[[Any, int, Observation], SyntheticPointCloudDataset] = herding_coreset
    observes: ClassVar[bool] = True

    def run(self, lab: Lab, cell: Cell) -> Figures:
        """Chooses by the training of the whole set with the seed of the run."""
        seen = lab.observation(cell.backbone, cell.seed)
        return lab.judge(cell, self.choose(lab.train_set, cell.ppc, seen))


@dataclass(frozen=True)
class Distilled(Entry):
    """A distilled set.

    Args:
        build (callable): Makes the method from the settings.
    """

    build: Callable[..., Method] = ddp

    def at(self, lr: float) -> Distilled:
        """The same with another learning rate, as a row of its own."""
        # A method of several rates calls that of the points so.
        anchors = "anchor_lr" in inspect.signature(self.build).parameters
        settings = {**self.settings, "anchor_lr" if anchors else "lr": lr}
        return replace(self, name=f"{self.name}, lr {lr:g}", settings=settings)

    def identity(self) -> Figures:
        """The settings, and the defaults of what is not set: they may change, too."""
        known = inspect.signature(self.build).parameters.values()
        defaults = {p.name: p.default for p in known if p.default is not p.empty}
        return _names({**defaults, **self.settings})

    def method(self, lab: Lab, cell: Cell) -> Method:
        """The method of a run."""
        return self.build(**self.settings)

    def steps(self, requested: int | None) -> int:
        """The published steps, unless others are asked for."""
        return self.build(**self.settings).steps if requested is None else requested

    def run(self, lab: Lab, cell: Cell) -> Figures:
        """Distils, going on from a checkpoint if there is one."""
        method = self.method(lab, cell)
        loop = method.begin(lab.bank, cell.ppc, cell.seed, lab.backbones[cell.backbone])
        checkpoint = lab.checkpoint(cell)
        if checkpoint.exists():
            loop.load_checkpoint(checkpoint)
        loop.prepare(progress=True)
        ticks = [time.perf_counter()]
        with PeakMemory(lab.bank.device) as memory:
            loop.run(
                cell.steps, True, checkpoint, callback=lambda _: ticks.append(time.perf_counter())
            )
        seconds = [b - a for a, b in itertools.pairwise(ticks)]
        figures = {
            "distill_seconds": ticks[-1] - ticks[0],
            "step_seconds": statistics.median(seconds) if seconds else None,
            "step_bytes": memory.bytes if seconds else None,
            "loss": loop.losses[-1] if loop.losses else None,
        }
        synthetic = method.finish(loop, source=lab.source, normalize=True)
        return {**lab.judge(cell, synthetic), **figures}


@dataclass(frozen=True)
class DistilledFromMean(Distilled):
    """A distilled set that starts from the clouds nearest to their class mean, as PCC does."""

    observes: ClassVar[bool] = True

    def method(self, lab: Lab, cell: Cell) -> Method:
        """The method of a run, with the features of the training of the whole set."""
        features = lab.observation(cell.backbone, cell.seed).features
        return self.build(lambda bank, num: nearest_to_mean(bank, features, num), **self.settings)

    def steps(self, requested: int | None) -> int:
        """The published steps, unless others are asked for."""
        method = self.build(lambda bank, num: None, **self.settings)
        return method.steps if requested is None else requested


@dataclass(frozen=True)
class Initial(Distilled):
    """What a method starts from."""

    uses_network: ClassVar[bool] = False

    def steps(self, requested: int | None) -> int:
        """None."""
        return 0


@dataclass(frozen=True)
class Whole(Entry):
    """The whole real set, the upper bound, without a budget."""

    uses_network: ClassVar[bool] = False

    def at(self, num_points: int) -> Whole:
        """The same with so many points of every cloud, as a row of its own, for slow backbones.

        The training clouds are reduced by farthest point sampling. The test clouds are not, so
        that all rows are tested alike; what separates this row from the whole set also holds that
        networks of few neighbours are trained on sparser clouds than they are tested on.
        """
        num_points = check_int("num_points", num_points)
        name = f"{self.name}, {num_points} points"
        return replace(self, name=name, settings={"num_points": num_points})

    def run(self, lab: Lab, cell: Cell) -> Figures:
        """Trains on it, and keeps what coresets need to know of that training."""
        return lab.judge_whole(cell, **self.settings)


#: Every row that the package knows, by name. The rows ``anchors`` (real clouds at a quarter of
#: their points, untouched) and ``DDP-initial`` show what more and smaller clouds are worth alone.
ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Coreset("random"),
        ObservedCoreset("herding", choose=herding_coreset),
        ObservedCoreset("k-center", choose=k_center_coreset),
        ObservedCoreset("forgetting", choose=forgetting_coreset),
        Distilled("DM", build=dm),
        Distilled("DC", build=dc),
        DistilledFromMean("PCC", build=pcc),
        Distilled("SADM", build=sadm),
        Initial("anchors", {"num_morphs": 0}, build=ddp),
        Initial("DDP-initial", build=ddp),
        Distilled("DDP-static", {"adaptive": False}, build=ddp),
        Distilled("DDP-no-eta", {"uniformity_lambda": 0.0}, build=ddp),
        Distilled("DDP-noise", {"start": tanh_noise}, build=ddp),
        Distilled("DDP", build=ddp),
        Whole("whole"),
    )
}
