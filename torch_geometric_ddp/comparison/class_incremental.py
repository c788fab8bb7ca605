"""Class-incremental learning: classes come in increments, and only exemplars of them are kept."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_ddp._checks import (
    check_dataset,
    check_device,
    check_int,
    check_maker,
    check_ppc,
    check_text,
)
from torch_geometric_ddp._files import check_folder
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.views import of_classes
from torch_geometric_ddp.comparison.cells import Cell, Entry, Figures, check_rows, digest
from torch_geometric_ddp.comparison.presets import PRESETS, Preset
from torch_geometric_ddp.comparison.runs import RunLog, ToDo, carry_out, machine, measured
from torch_geometric_ddp.coreset import Observation, observe
from torch_geometric_ddp.evaluation import Protocol, evaluate
from torch_geometric_ddp.nn import Backbone, PointNet
from torch_geometric_ddp.quotas import told_quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Accuracy, Task, find_task

__all__ = ["ClassIncremental"]


@dataclass(frozen=True)
class _Increment:
    """The classes of an increment: a :class:`Bench` on which rows make their exemplars.

    Args:
        start (int): The first class.
        train_set (PointCloudBank): Their real clouds, labelled from 0 on.
        owner (ClassIncremental): Whose increment it is.
    """

    start: int
    train_set: PointCloudBank
    owner: ClassIncremental

    @property
    def task(self) -> Task:
        return self.owner.task

    @property
    def bank(self) -> PointCloudBank:
        return self.train_set

    @property
    def device(self) -> torch.device:
        return self.train_set.device

    @property
    def source(self) -> str:
        return self.owner.source

    @property
    def backbones(self) -> Mapping[str, Callable[..., Backbone]]:
        return {self.owner.backbone: self.owner.network}

    def observation(self, backbone: str, seed: int) -> Observation:
        """What a network learned on the real clouds of these classes, and no others."""
        path = self.observation_path(seed)
        if not path.exists():
            network, whole = self.owner.network, self.owner.preset.whole
            observe(self.train_set, network, whole, seed, progress=False).save(path)
        return Observation.load(path)

    def observation_path(self, seed: int) -> Path:
        """Where that is kept."""
        key = {**self.owner.key(), "seed": seed, "whole": self.owner.preset.whole.to_dict()}
        return self._path("observations", key)

    def checkpoint(self, cell: Cell) -> Path:
        return self._path("checkpoints", self.owner.key(cell))

    def set_path(self, cell: Cell) -> Path:
        """Where the exemplars of a row are kept."""
        return self._path("sets", self.owner.key(cell))

    def judge(self, cell: Cell, synthetic: SyntheticPointCloudDataset) -> Figures:
        """Keeps the set; what it is worth shows together with those of other increments."""
        synthetic.parameterization.check_budget(self.bank.budget(cell.ppc))
        synthetic.provenance |= self.owner.told
        synthetic.save(self.set_path(cell))
        return {}

    def judge_whole(self, cell: Cell, num_points: int | None = None) -> Figures:
        raise ValueError("the whole set has no exemplars")

    def exemplars(self, cell: Cell) -> SyntheticPointCloudDataset:
        """The exemplars of a row; makes them if they are not there yet."""
        path = self.set_path(cell)
        if not path.exists():
            cell.entry.run(self, cell)
            self.checkpoint(cell).unlink(missing_ok=True)
        return SyntheticPointCloudDataset(path)

    def _path(self, folder: str, key: Mapping[str, Any]) -> Path:
        name = digest({**key, "classes": self.train_set.class_names})
        return self.owner.out / folder / f"{name}.safetensors"


class ClassIncremental:
    """Makes the runs of class-incremental learning and remembers them.

    The classes come in increments, in their order. Of an increment's real clouds a row keeps
    exemplars within the storage, and sees neither real clouds nor exemplars of others. After every
    increment a network is trained from scratch on the exemplars of all classes seen and tested on
    all test clouds of these classes: the protocol of `GDumb
    <https://doi.org/10.1007/978-3-030-58536-5_31>`_ (ECCV 2020), with which "Dataset Condensation
    with Distribution Matching" (WACV 2023) compares distilled exemplars with chosen ones. What rows
    differ in is thus their exemplars and nothing else. The row of the whole set keeps all real
    clouds, the upper bound.

    The folder receives one JSON line an increment in :obj:`runs.jsonl`, the exemplars, and
    checkpoints; what is there is never made again.

    Args:
        train_set (Dataset): The real set, clouds of one size. They are normalised to the unit ball.
        test_set (Dataset): What networks are tested on, and nothing else. It may lack the last
            classes, but not all of an increment.
        out (path): The folder of the results.
        num_increments (int): In how many increments classes come; the classes of two differ in
            number by at most one. (default: :obj:`5`)
        preset (Preset): How much work to take. (default: that of the name :obj:`"cpu"`)
        network (callable): Makes a backbone from the number of classes. (default: :obj:`PointNet`)
        backbone (str, optional): What it is called. (default: its name)
        device (torch.device, optional): Where to compute. (default: where the clouds lie)
        source (str): What the real set is called. (default: :obj:`"data"`)

    Raises:
        TypeError, ValueError: If an argument is of another type, classes of the sets have different
            names, there are more increments than classes, no test clouds of one of them, or test
            clouds of a class that no increment has.
    """

    def __init__(
        self,
        train_set: Iterable[Data],
        test_set: Iterable[Data],
        out: str | os.PathLike[str],
        num_increments: int = 5,
        preset: Preset = PRESETS["cpu"],
        network: Callable[..., Backbone] = PointNet,
        backbone: str | None = None,
        device: torch.device | str | None = None,
        source: str = "data",
    ) -> None:
        check_dataset("train_set", train_set)
        check_dataset("test_set", test_set)
        check_text("source", source)
        if not isinstance(preset, Preset):
            raise TypeError(f"'preset' must be a Preset, got {type(preset).__name__}")
        num_increments = check_int("num_increments", num_increments)
        check_maker("network", network, optional=False)
        check_text("backbone", backbone, optional=True)
        check_device("device", device)
        self.task, self.out = find_task("classification"), check_folder("out", out)
        self.preset, self.source, self.network = preset, source, network
        self.backbone = str(backbone or getattr(network, "__name__", "network"))
        self.train = self.task.read(train_set, device).normalize()
        self.train.check_every_class()
        self.test = self.task.read(test_set, self.train.device)
        self.task.network_sizes(self.train, self.test)  # Raises if the classes differ.
        if (most := int(self.test.y.max())) >= self.train.num_classes:
            raise ValueError(
                f"'test_set' must hold clouds of the {self.train.num_classes} classes of "
                f"'train_set' only, got one of class {most}, which no increment has"
            )
        self.num_increments = check_int(
            "num_increments", num_increments, maximum=self.train.num_classes
        )
        self._data = {"train": self.train.sha256(), "test": self.test.sha256()}
        self._runs = RunLog(self.out / "runs.jsonl")
        self._runs.read()  # Raises if it is none, before the first run.
        #: What the files of new sets tell of how they were made beside all else; no part of a run.
        self.told: Figures = {}
        #: Why runs failed, by what they are called.
        self.failures: dict[str, str] = {}
        sizes = [
            len(part) for part in np.array_split(range(self.train.num_classes), num_increments)
        ]
        #: The number of classes seen after every increment.
        self.classes_seen: list[int] = np.cumsum(sizes).tolist()
        bounds = [*itertools.pairwise([0, *self.classes_seen])]
        for number, (start, stop) in enumerate(bounds, start=1):
            if not len(of_classes(self.test, start, stop)):
                raise ValueError(
                    f"'test_set' must hold clouds of every increment, got none of increment "
                    f"{number}: {', '.join(self.train.class_names[start:stop])}"
                )
        self._increments = [
            _Increment(start, self._classes(start, stop), self) for start, stop in bounds
        ]

    def cells(self, entries: Sequence[Entry], ppc: float, seeds: Sequence[int]) -> Iterator[Cell]:
        """The runs of a table, seed by seed, each of all increments.

        Args:
            entries (sequence of Entry): The rows.
            ppc (float): The budget of every class.
            seeds (sequence of int): The seeds.

        Raises:
            TypeError, ValueError: If the budget or a seed is none, or a row cannot be made for the
                task or within the budget of an increment.
        """
        ppc = check_ppc(ppc)
        for one in self._increments:
            check_rows(entries, [ppc], self.task, one.bank)
        for entry in entries:
            entry.check_network(self.network, self.train)
        seeds = self.preset.check_seeds(seeds)

        def cell(entry: Entry, seed: int) -> Cell:
            steps = entry.steps(self.preset.steps) if entry.has_budget else 0
            return Cell(entry, self.backbone, ppc if entry.has_budget else 1, seed, steps)

        return (cell(entry, seed) for seed in seeds for entry in entries)

    def run(self, cells: Iterable[Cell], workers: int = 1) -> list[Figures]:
        """Makes the increments that are not there yet and returns the figures of all of them.

        A run that does not fit its storage, or fails for want of memory or of a finite loss, is
        noted in :attr:`failures` and :obj:`failures.json` and left out.

        Args:
            cells (iterable of Cell): The runs.
            workers (int): How many seeds are run side by side, as
                :meth:`~torch_geometric_ddp.comparison.Lab.run` does. (default: :obj:`1`)

        Raises:
            TypeError, ValueError, ChildProcessError: As
                :meth:`~torch_geometric_ddp.comparison.Lab.run` does of :obj:`workers`.
        """
        cells = list(cells)
        some = workers if self.to_do(cells).num_runs else 1  # No process only reads what is there.
        carry_out(cells, self._learn_all, self.failures, self.out, "Learn classes", some)
        # Of a run that failed the increments before that are there, too.
        known, every = self._runs.read(), range(self.num_increments)
        asked = (digest(self._line_key(cell, number)) for cell in cells for number in every)
        return [known[identity] for identity in dict.fromkeys(asked) if identity in known]

    def to_do(self, cells: Iterable[Cell]) -> ToDo:
        """What there is to do for runs, with the exemplars and the networks that they need."""
        known, num_runs = self._runs.read(), 0
        small: set[str] = set()
        whole: set[str] = set()
        exemplars: dict[Path, int] = {}
        observed: set[Path] = set()
        for cell in cells:
            keys = [digest(self._line_key(cell, i)) for i in range(self.num_increments)]
            lacking = [number for number, key in enumerate(keys) if key not in known]
            num_runs += bool(lacking)
            (small if cell.entry.has_budget else whole).update(keys[i] for i in lacking)
            if not lacking or not cell.entry.has_budget:
                continue
            for one in self._increments[: lacking[-1] + 1]:
                if not one.set_path(cell).exists():
                    exemplars[one.set_path(cell)] = cell.steps
                    if cell.entry.observes:
                        observed.add(one.observation_path(cell.seed))
        preset, unseen = self.preset, sum(not path.exists() for path in observed)
        networks = [
            (
                len(small) * preset.num_networks,
                "the exemplars of all classes seen",
                preset.protocol,
            ),
            (len(whole) * preset.num_networks, "all clouds of all classes seen", preset.whole),
            (unseen, "all clouds of an increment", preset.whole),
        ]
        return ToDo(num_runs, [steps for steps in exemplars.values() if steps], networks)

    def key(self, cell: Cell | None = None) -> Figures:
        """What makes exemplars the same exemplars, or without a run what all have in common."""
        common = {
            "source": self.source,
            "task": self.task.name,
            "data": self._data,
            "backbone": self.backbone,
            "network": describe(self.network),
        }
        if cell is None:
            return common
        return common | {
            "method": cell.entry.name,
            "settings": cell.entry.identity(),
            "ppc": cell.ppc,
            "seed": cell.seed,
            "steps": cell.steps,
            "whole": self.preset.whole.to_dict() if cell.entry.observes else None,
            **told_quotas(cell.entry.quotas),
        }

    def _classes(self, start: int, stop: int) -> PointCloudBank:
        """The real clouds of some classes, labelled from 0 on."""
        bank = self.train.select(of_classes(self.train, start, stop))
        return PointCloudBank(bank.pos, bank.sizes, bank.y - start, bank.class_names[start:stop])

    def _learn_all(self, cell: Cell) -> None:
        for number in range(self.num_increments):
            self._result(cell, number)

    def _protocol(self, cell: Cell) -> Protocol:
        return self.preset.protocol if cell.entry.has_budget else self.preset.whole

    def _line_key(self, cell: Cell, number: int) -> Figures:
        """What makes an increment of a run the same; it is written into its line."""
        return {
            **self.key(cell),
            "protocol": self._protocol(cell).to_dict(),
            "num_networks": self.preset.num_networks,
            "classes_seen": self.classes_seen[: number + 1],
        }

    def _result(self, cell: Cell, number: int) -> None:
        key = self._line_key(cell, number)
        identity = digest(key)
        if identity not in self._runs.read():
            figures = self._learn(cell, number)
            self._runs.append({"id": identity, **key, **figures, **machine(self.train.device)})

    def _learn(self, cell: Cell, number: int) -> Figures:
        """Trains on the exemplars of all classes seen, and tests on these classes."""
        seen = self.classes_seen[number]
        budget = self.train.budget(cell.ppc)
        if cell.entry.has_budget:
            train, bits = self._joined(
                [one.exemplars(cell) for one in self._increments[: number + 1]]
            )
        else:
            train = self.train.select(of_classes(self.train, 0, seen))
            if (num_points := cell.entry.settings.get("num_points")) is not None:
                train = train.farthest_points(num_points)
            bits = train.whole_bits()
        began = time.perf_counter()
        result = evaluate(
            train,
            self.test.select(of_classes(self.test, 0, seen)),
            self.network,
            self._protocol(cell),
            self.preset.network_seeds(cell.seed),
            progress=False,
        )
        assert isinstance(result.scores, Accuracy)
        tables = result.scores.confusion.double()
        starts = [0, *self.classes_seen[:number]]
        each = [
            float(tables.diagonal()[i:j].sum() / tables[i:j].sum())
            for i, j in zip(starts, self.classes_seen, strict=False)
        ]
        return {
            **measured(result, self.task, began),
            "class_names": self.train.class_names,
            "increment_accuracies": each,
            "bits": bits,
            "budget_bits": budget.bits if cell.entry.has_budget else None,
        }

    def _joined(self, sets: Sequence[SyntheticPointCloudDataset]) -> tuple[PointCloudBank, int]:
        """The exemplars of several increments together, and the bits that they store."""
        banks = [self.task.read(one, self.train.device) for one in sets]
        labels = [bank.y + one.start for bank, one in zip(banks, self._increments, strict=False)]
        joined = PointCloudBank(
            torch.cat([bank.pos for bank in banks]),
            torch.cat([bank.sizes for bank in banks]),
            torch.cat(labels),
            self.train.class_names,
        )
        return joined, sum(one.storage_bits for one in sets)
