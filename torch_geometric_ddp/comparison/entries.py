"""The rows that the package knows: coresets, distillation methods and the whole set."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.comparison.cells import Bench, Cell, Entry, Figures, foreign, named
from torch_geometric_ddp.coreset import (
    forgetting_coreset,
    herding_coreset,
    k_center_coreset,
    nearest_to_mean,
    point_mixup_coreset,
    random_coreset,
)
from torch_geometric_ddp.coreset.selection import counts_that_fit
from torch_geometric_ddp.memory import PeakMemory, memory_errors
from torch_geometric_ddp.methods import (
    AveragedSGD,
    Distillation,
    Method,
    dc,
    ddp,
    dm,
    pcc,
    pkr,
    sadm,
)
from torch_geometric_ddp.methods.networks import check_matched
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.methods.starts import tanh_noise
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.parameterization import FLOAT32
from torch_geometric_ddp.quotas import told_quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset

__all__ = [
    "COSTS",
    "ENTRIES",
    "ChosenStart",
    "Coreset",
    "Distilled",
    "DistilledFromMean",
    "Initial",
    "ObservedCoreset",
    "Whole",
]


#: What a run tells of the cost of its set and of how its optimisation ended.
COSTS = ("distill_seconds", "step_seconds", "step_bytes", "loss")
# Settings of methods that a row has elsewhere: in its name, and as the steps of a comparison.
_NOT_OF_A_ROW = ("name", "steps")
# Settings of DDP that the identity of a run did not tell, and what they were then: where they are
# that still, it does not tell them either, so that the run is found.
_UNTOLD = named({"align": True, "codec": FLOAT32, "weight_codec": FLOAT32, "fill": False})


@dataclass(frozen=True)
class Coreset(Entry):
    """Random real clouds, whole or packed as the settings of :func:`random_coreset` say.

    Args:
        draw (callable): Makes the set from the real set, a PPC, a seed and the :obj:`task`.
            (default: :func:`random_coreset`)
    """

    draw: Callable[..., SyntheticPointCloudDataset] = random_coreset
    uses_network: ClassVar[bool] = False

    def identity(self) -> Figures:
        """The settings, and what draws, if that is none of this package."""
        return super().identity() | foreign("draw", self.draw)

    def run(self, lab: Bench, cell: Cell) -> Figures:
        """Draws with the seed of the run."""
        given = {**self.settings, **told_quotas(self.quotas)}
        return lab.judge(
            cell, self.draw(lab.train_set, cell.ppc, cell.seed, task=lab.task, **given)
        )


@dataclass(frozen=True)
class ObservedCoreset(Entry):
    """Real clouds chosen by what a network learned on the whole set.

    Args:
        choose (callable): Makes the set from the real set, a PPC, an observation and the
            :obj:`task`. (default: :func:`herding_coreset`)
    """

    choose: Callable[..., SyntheticPointCloudDataset] = herding_coreset
    observes: ClassVar[bool] = True

    def identity(self) -> Figures:
        """The settings, and what chooses, if that is none of this package.

        That chance decides with the seed of the run is told, as it once did with another.
        """
        told = super().identity() | foreign("choose", self.choose)
        return {**told, "seed": "that of the run"} if self._takes_seed else told

    @property
    def _takes_seed(self) -> bool:
        return "seed" in inspect.signature(self.choose).parameters

    def run(self, lab: Bench, cell: Cell) -> Figures:
        """Chooses by the training of the whole set with the seed of the run."""
        stored = {k: v for k, v in self.settings.items() if k in ("num_points", "codec")}
        # Raises before a network is trained on the whole set.
        counts_that_fit(lab.bank, cell.ppc, quotas=self.quotas, **stored)
        seen = lab.observation(cell.backbone, cell.seed)
        given = {**self.settings, **told_quotas(self.quotas)}
        if self._takes_seed:
            given["seed"] = cell.seed
        return lab.judge(cell, self.choose(lab.train_set, cell.ppc, seen, task=lab.task, **given))


@dataclass(frozen=True)
class Distilled(Entry):
    """A distilled set.

    Args:
        build (callable): Makes the method from the settings. (default: :func:`ddp`)
        track (callable, optional): Makes of a run the context of a callback
            (:class:`~torch_geometric_ddp.tracking.Callback`), whose time does not count as that of
            the run. It changes no run and is no part of its identity. (default: none)
        classes_per_chunk (int, optional): How many classes are computed at a time, which changes
            the last bits. (default: as many as 4 GiB hold)
    """

    build: Callable[..., Method] = ddp
    track: Callable[[Cell], AbstractContextManager[Callable[[Distillation], object]]] | None = (
        field(default=None, compare=False)
    )
    classes_per_chunk: int | None = None

    def __post_init__(self) -> None:
        if self.classes_per_chunk is not None:
            chunk = check_int("classes_per_chunk", self.classes_per_chunk)
            object.__setattr__(self, "classes_per_chunk", chunk)  # As Python has it, for JSON.

    def at(self, lr: float) -> Distilled:
        """The same with another learning rate, as a row of its own."""
        # A method of several rates calls that of the points so.
        anchors = "anchor_lr" in inspect.signature(self.build).parameters
        settings = {**self.settings, "anchor_lr" if anchors else "lr": lr}
        row = replace(self, name=f"{self.name}, lr {lr:g}", settings=settings)
        row.usual()  # Makes the method, which raises where a rate is none.
        return row

    def at_rates(self, rates: Sequence[float]) -> list[Entry]:
        """The same with other learning rates, a row for each."""
        return [self.at(rate) for rate in rates]

    def all_settings(self) -> dict[str, Any]:
        """The settings, and the defaults of what is not set."""
        known = inspect.signature(self.build).parameters.values()
        defaults = {p.name: p.default for p in known if p.default is not p.empty}
        return {**defaults, **self.settings}

    def identity(self) -> Figures:
        """All settings, as the defaults may change, too, and what builds, if it is a user's."""
        told = named(self.all_settings()) | foreign("build", self.build)
        if self.classes_per_chunk is not None:
            told["classes_per_chunk"] = self.classes_per_chunk
        if self.uses_network and (revision := self.usual().revision) > 1:
            told["revision"] = revision
        if getattr(self.build, "func", self.build) is not ddp:
            return told
        usual = [key for key, value in _UNTOLD.items() if told[key] == value]
        return {key: told[key] for key in told if key in self.settings or key not in usual}

    def changed(self, settings: Mapping[str, Any]) -> Distilled:
        """The same with other settings, which its name says."""
        known = [key for key in self.all_settings() if key not in _NOT_OF_A_ROW]
        unknown = [key for key in settings if key not in known]
        if unknown:
            raise ValueError(
                f"settings of {self.name!r} must be among {', '.join(known)}, got {unknown[0]!r}"
            )
        # A number of NumPy is the same row as that of Python.
        settings = {k: v.item() if isinstance(v, np.generic) else v for k, v in settings.items()}
        words = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        row = replace(self, name=f"{self.name}({words})", settings={**self.settings, **settings})
        row.usual()  # Makes the method, which raises where a value is wrong.
        return row

    def method(self, lab: Bench, cell: Cell) -> Method:
        """The method of a run."""
        return self.usual()

    def usual(self) -> Method:
        """The method as far as it is known before a run."""
        return self.build(**self.settings)

    def check_network(self, make: Callable[..., Backbone], bank: PointCloudBank) -> None:
        """Raises if the matching cannot compare what such a network sees of these clouds."""
        check_matched(self.usual().matching(), make, bank)

    def steps(self, requested: int | None) -> int:
        """The published steps, unless others are asked for."""
        return self.usual().steps if requested is None else requested

    @property
    def streams(self) -> bool:
        """Whether its networks need not all real clouds where they are."""
        return self.usual().streams

    def run(self, lab: Bench, cell: Cell) -> Figures:
        """Distils, going on from a checkpoint if there is one, with the ranks that help."""
        ranks = Ranks.here()
        ranks.from_first(cell)
        try:
            with memory_errors():
                synthetic, figures = self.distil(lab, cell)
        except (MemoryError, torch.OutOfMemoryError) as error:
            if ranks.alone:
                raise
            raise RuntimeError(
                f"rank 0 of {ranks.size} stops, and so do the others: {error}"
            ) from error
        return {**lab.judge(cell, synthetic), **figures}

    def distil(self, lab: Bench, cell: Cell) -> tuple[SyntheticPointCloudDataset, Figures]:
        """The set of a run, and what it cost; all ranks call it together."""
        method = self.method(lab, cell)
        network = lab.backbones[cell.backbone]
        checkpoint = lab.checkpoint(cell)
        loop = method.begin(
            lab.bank,
            cell.ppc,
            cell.seed,
            network,
            lab.task,
            classes_per_chunk=self.classes_per_chunk,
            steps=cell.steps,
            checkpoint=checkpoint,
            quotas=self.quotas,
            device=lab.device,
        )
        if loop.num_steps < cell.steps:
            loop.prepare(progress=True)
        goes_on = loop.num_steps > 0
        watch = nullcontext() if self.track is None else self.track(cell)
        with PeakMemory(lab.device) as memory, watch as callback:
            ends, starts = [], [time.perf_counter()]

            def tick(loop: Distillation) -> None:
                ends.append(time.perf_counter())
                if callback is not None:
                    callback(loop)
                starts.append(time.perf_counter())

            loop.run(cell.steps, True, checkpoint, callback=tick)
        seconds = [end - start for start, end in zip(starts, ends, strict=False)]
        costs = (
            None if goes_on else sum(seconds),  # Nobody knows how long the steps before took.
            statistics.median(seconds) if seconds else None,
            memory.bytes if seconds else None,
            loop.losses[-1] if loop.losses else None,
        )
        figures = dict(zip(COSTS, costs, strict=True))
        told = told_quotas(self.quotas)
        return method.finish(loop, source=lab.source, normalize=True, **told), figures


@dataclass(frozen=True)
class DistilledFromMean(Distilled):
    """A distilled set that starts from the clouds nearest to their class mean, as PCC does."""

    observes: ClassVar[bool] = True

    def method(self, lab: Bench, cell: Cell) -> Method:
        """The method of a run, with the features of the training of the whole set."""
        features = lab.observation(cell.backbone, cell.seed).features
        return self.build(lambda bank, num: nearest_to_mean(bank, features, num), **self.settings)

    def usual(self) -> Method:
        """The method, with features that are known in a run only."""
        return self.build(lambda bank, num: None, **self.settings)


@dataclass(frozen=True)
class Initial(Distilled):
    """What a method starts from."""

    uses_network: ClassVar[bool] = False

    def at_rates(self, rates: Sequence[float]) -> list[Entry]:
        """Itself, as nothing is learned at any rate."""
        return [self]

    def steps(self, requested: int | None) -> int:
        """None."""
        return 0


@dataclass(frozen=True)
class ChosenStart(Initial):
    """What a method starts from where networks choose it."""

    uses_network: ClassVar[bool] = True


@dataclass(frozen=True)
class Whole(Entry):
    """The whole real set, the upper bound, without a budget."""

    uses_network: ClassVar[bool] = False
    has_budget: ClassVar[bool] = False

    def at(self, num_points: int) -> Whole:
        """The same with so many points of every cloud, as a row of its own, for slow backbones.

        The training clouds are reduced by farthest point sampling. The test clouds are not, so
        that all rows are tested alike; what separates this row from the whole set also holds that
        networks of few neighbours are trained on sparser clouds than they are tested on.
        """
        num_points = check_int("num_points", num_points)
        name = f"{self.name}, {num_points} points"
        return replace(self, name=name, settings={"num_points": num_points})

    def run(self, lab: Bench, cell: Cell) -> Figures:
        """Trains on it, and keeps what coresets need to know of that training."""
        return lab.judge_whole(cell, **self.settings)


#: Every row that the package knows, by name. DC, PCC and SADM (whose largest features are those of
#: no part) are for classification only, and so are PointMixup and the count of what a network
#: forgets. The rows ``anchors`` (real clouds at a quarter of their points, untouched),
#: ``point-mixup`` (these and mixtures of them) and ``DDP-initial`` show what more and smaller
#: clouds are worth alone.
ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Coreset("random"),
        ObservedCoreset("herding", choose=herding_coreset),
        ObservedCoreset("k-center", choose=k_center_coreset),
        ObservedCoreset("forgetting", one_label=True, choose=forgetting_coreset),
        Distilled("DM", build=dm),
        Distilled("DC", one_label=True, build=dc),
        DistilledFromMean("PCC", one_label=True, build=pcc),
        Distilled("SADM", one_label=True, build=sadm),
        Initial("anchors", {"num_morphs": 0}, build=ddp),
        Coreset("point-mixup", one_label=True, draw=point_mixup_coreset),
        Initial("DDP-initial", build=ddp),
        Distilled("DDP-static", {"adaptive": False}, build=ddp),
        Distilled("DDP-no-eta", {"uniformity_lambda": 0.0}, build=ddp),
        Distilled("DDP-no-align", {"align": False}, build=ddp),
        Distilled("DDP-noise", {"start": tanh_noise}, build=ddp),
        Distilled("DDP-averaged", {"optimizer": AveragedSGD}, build=ddp),
        Distilled("DDP", build=ddp),
        Distilled("PKR", one_label=True, build=pkr),
        Whole("whole"),
    )
}
