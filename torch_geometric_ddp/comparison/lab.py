"""The harness: every run of a comparison once, under the same conditions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_ddp._checks import (
    check_dataset,
    check_device,
    check_flag,
    check_maker,
    check_ppc,
    check_text,
)
from torch_geometric_ddp._files import check_folder
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.comparison.cells import Cell, Entry, Figures, check_rows, digest
from torch_geometric_ddp.comparison.entries import COSTS, Whole
from torch_geometric_ddp.comparison.presets import PRESETS, Preset
from torch_geometric_ddp.comparison.runs import (
    FAILURES,
    RunLog,
    ToDo,
    carry_out,
    machine,
    measured,
)
from torch_geometric_ddp.coreset import Observation, watch
from torch_geometric_ddp.evaluation import Protocol, evaluate, fit
from torch_geometric_ddp.memory import memory_errors
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.quotas import told_quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task
from torch_geometric_ddp.tasks.base import json_numbers

__all__ = ["Lab"]

# What of a run makes its set.
_MAKING = (
    *("source", "task", "method", "settings", "backbone", "network", "ppc", "seed", "steps"),
    *("whole", "quotas"),
)


class Lab:
    """Makes the runs of a comparison and remembers them.

    Every run has the same real and test clouds, storage, backbone, protocol and seeds as those
    that it is compared with. A set that exceeds the storage is refused. The folder receives one
    JSON line a run in :obj:`runs.jsonl`, the distilled sets, and checkpoints; a run whose line is
    there is never made again, and one that was interrupted goes on from its checkpoint. A set that
    was made is judged again, and not made again, where only how it is judged is another.

    Args:
        train_set (Dataset): The real set. It is read once and normalised to the unit ball.
        test_set (Dataset): What the networks are tested on, and nothing else. It is read once, so
            that every run is tested on the same clouds, whatever a transform draws.
        out (path): The folder of the results.
        preset (Preset): How much work to take. (default: that of the name :obj:`"cpu"`; the
            programs take :obj:`"quick"`)
        backbones (dict, optional): Makes a backbone, by name. (default: that of the task)
        device (torch.device, optional): Where to compute. (default: where the clouds lie)
        source (str): What the real set is called. (default: :obj:`"data"`)
        task (Task or str): What networks learn. (default: :obj:`"classification"`)
        stream (bool): Whether the real clouds stay where they lie while sets are distilled, and
            only those of a step go to :obj:`device`. (default: :obj:`False`)
        cache (path, optional): A folder for what is computed of the real clouds before the first
            step, where a later run finds it. (default: it is computed in every process)

    Raises:
        TypeError, ValueError: If an argument is of another type, the clouds of a set do not fit the
            task or those of the other, a class has no clouds, :obj:`out` or :obj:`cache` cannot be
            written to, or :obj:`runs.jsonl` holds a line that is no run.
    """

    def __init__(
        self,
        train_set: Iterable[Data],
        test_set: Iterable[Data],
        out: str | os.PathLike[str],
        preset: Preset = PRESETS["cpu"],
        backbones: Mapping[str, Callable[..., Backbone]] | None = None,
        device: torch.device | str | None = None,
        source: str = "data",
        task: Task | str = "classification",
        stream: bool = False,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        check_dataset("train_set", train_set)
        check_dataset("test_set", test_set)
        if not isinstance(preset, Preset):
            raise TypeError(f"'preset' must be a Preset, got {type(preset).__name__}")
        check_device("device", device)
        check_text("source", source)  # It goes into every line.
        check_flag("stream", stream)
        self.out = check_folder("out", out)
        folder = None if cache is None else check_folder("cache", cache)
        if backbones is not None and not isinstance(backbones, Mapping):
            raise TypeError(f"'backbones' must be a mapping, got {type(backbones).__name__}")
        for name, make in (backbones or {}).items():
            if not isinstance(name, str) or not callable(make):
                raise TypeError(f"'backbones' must map names to networks, got {name!r}: {make!r}")
            check_maker("backbones", make)
        self.preset, self.source = preset, source
        self.task = find_task(task)
        default = self.task.network
        self.backbones = dict(backbones or {default.__name__: default})
        #: The real set as it was read, where it lay.
        self.train_set = self.task.read(train_set)
        self.bank = self.task.read(self.train_set, None if stream else device).normalize()
        self.bank.check_every_class()
        if folder is not None:
            self.bank.keep_in(folder)
        place = self.bank.device if device is None else device
        #: Where everything is computed.
        self.device = torch.empty(0, device=place).device
        #: What the networks are tested on, as it was read, where it lay.
        self.test_set = self.task.read(test_set)
        self.task.network_sizes(self.bank, self.test_set)  # Raises if the classes differ.
        self._data = {"train": self.bank.sha256(), "test": self.test_set.sha256()}
        self._runs = RunLog(self.out / "runs.jsonl")
        self._runs.read()  # Raises if it is none, before the first run.
        #: What the files of new sets tell of how they were made beside all else; no part of a run.
        self.told: Figures = {}
        #: Why runs failed, by what they are called.
        self.failures: dict[str, str] = {}
        self._failed: dict[str, Exception] = {}

    def cells(
        self,
        entries: Sequence[Entry],
        ppcs: Sequence[float],
        seeds: Sequence[int],
        backbones: Sequence[str] | None = None,
        distill_with: Sequence[str] | None = None,
    ) -> Iterator[Cell]:
        """The runs of a table, seed by seed, so that a first column is there soon.

        Args:
            entries (sequence of Entry): The rows.
            ppcs (sequence of float): The budgets.
            seeds (sequence of int): The seeds.
            backbones (sequence of str, optional): The backbones that are trained. (default: all)
            distill_with (sequence of str, optional): The backbones that sets are made with, each
                set for all that are trained; a row that uses no network comes once. (default: the
                one that is trained)

        Raises:
            TypeError: If a PPC is no number or a seed no integer.
            ValueError: If a backbone is unknown, a row cannot be made for the task, with a backbone
                or of clouds that stay where they lie, its quotas are not those of the classes, a
                PPC is not above 0 or more than the whole set, or a seed below zero.
        """
        check_rows(entries, ppcs, self.task, self.bank)
        ppcs = [check_ppc(ppc) for ppc in ppcs]  # One whole number is one budget.
        seeds = self.preset.check_seeds(seeds)
        for entry in entries:
            if self.device != self.bank.device and not entry.streams:
                raise ValueError(
                    f"'stream' must be False for the row '{entry.name}', whose networks are "
                    "trained on all clouds"
                )
        for name in (*(backbones or ()), *(distill_with or ())):
            if name not in self.backbones:
                known = ", ".join(self.backbones)
                raise ValueError(f"a backbone must be one of {known}, got {name!r}")
        for name in distill_with or backbones or self.backbones:
            for entry in entries:
                entry.check_network(self.backbones[name], self.bank)
        return self._cells(entries, ppcs, seeds, backbones or [*self.backbones], distill_with)

    def _cells(
        self,
        entries: Sequence[Entry],
        ppcs: Sequence[float],
        seeds: Sequence[int],
        backbones: Sequence[str],
        distill_with: Sequence[str] | None,
    ) -> Iterator[Cell]:
        for seed in seeds:
            for backbone in backbones:
                for ppc in ppcs:
                    for entry in entries:
                        if not entry.has_budget:
                            if ppc == ppcs[0]:  # It has no budget, and comes once.
                                yield Cell(entry, backbone, 1, seed, 0)
                            continue
                        steps = entry.steps(self.preset.steps)
                        names = distill_with if distill_with and entry.uses_network else [backbone]
                        for name in names:
                            other = None if name == backbone else name
                            yield Cell(entry, backbone, ppc, seed, steps, other)

    def run(self, cells: Iterable[Cell], workers: int = 1) -> list[Figures]:
        """Makes the runs that are not there yet and returns the figures of all of them.

        A run that does not fit its storage, or fails for want of memory or of a finite loss, is
        noted in :attr:`failures` and :obj:`failures.json` and left out, and so is what needs its
        set; it is tried again the next time.

        Args:
            cells (iterable of Cell): The runs.
            workers (int): How many seeds are run side by side, each by a process with one thread,
                whose bars are in :obj:`workers/seed-N.txt` of the folder. The figures are those of
                one thread, and times are those beside other runs. A script that asks for it needs
                :obj:`if __name__ == "__main__":` around what it does. (default: :obj:`1`, one run
                after the other in this process)

        Raises:
            TypeError: If :obj:`workers` is no integer.
            ValueError: If :obj:`workers` is below one, or above one and a row or a network cannot
                be sent to another process, or there are several ranks.
            ChildProcessError: If such a process dies.
        """
        cells = list(cells)
        self.try_again()
        missing = self.missing(cells)
        carry_out(missing, self._result, self.failures, self.out, "Compare", workers)
        known, identities = self._runs.read(), dict.fromkeys(map(self._identity, cells))
        return [known[identity] for identity in identities if identity in known]

    def try_again(self) -> None:
        """Forgets which runs failed, so that they are made anew when they are next asked for."""
        self._failed.clear()

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """The runs that are not there yet."""
        known = self._runs.read()
        return [cell for cell in cells if self._identity(cell) not in known]

    def _without_sets(self, cells: Iterable[Cell]) -> list[Cell]:
        """The runs that are not there yet, or whose sets are not."""
        known = self._runs.read()
        return [
            cell
            for cell in cells
            if self._identity(cell) not in known or not self.set_path(cell).exists()
        ]

    def to_do(self, cells: Iterable[Cell]) -> ToDo:
        """What there is to do for runs, with the sets and the networks that they need."""
        return self._to_make(self.missing(cells))

    def _to_make(self, cells: Sequence[Cell]) -> ToDo:
        """What making runs takes, whether they are there or not."""
        every = self._with_needed(cells)
        steps = [
            cell.steps
            for cell in every
            if cell.steps and cell.distilled_with is None and self._line_of_set(cell) is None
        ]
        small = sum(cell.entry.has_budget for cell in every)
        counts = [self.preset.num_networks * count for count in (small, len(every) - small)]
        networks = [
            (counts[0], "a small set each", self.preset.protocol),
            (counts[1], "the whole set", self.preset.whole),
        ]
        return ToDo(len(cells), steps, networks)

    def _with_needed(self, cells: Sequence[Cell]) -> list[Cell]:
        """Runs, those whose sets they take, and those on the whole set that they observe.

        A run that is needed and there already is left out.
        """
        sources = [cell.source for cell in cells if cell.distilled_with is not None]
        found = {str(cell): cell for cell in (*cells, *self._without_sets(sources))}
        own = [cell for cell in found.values() if cell.distilled_with is None]
        observed = [_observed(cell.backbone, cell.seed) for cell in own if cell.entry.observes]
        found |= {str(cell): cell for cell in self.missing(observed)}
        return list(found.values())

    def observation(self, backbone: str, seed: int) -> Observation:
        """What a network learned on the whole set; trains it if the run is not there yet."""
        path = self._observation_path(backbone, seed)
        # Without the line of its run it may be of another of several networks.
        self._result(_observed(backbone, seed), again=not path.exists())
        return Observation.load(path)

    def checkpoint(self, cell: Cell) -> Path:
        """Where the state of a run is kept until it is finished."""
        made = digest(_making(self._key(cell), cell.entry.observes))
        return self.out / "checkpoints" / f"{made}.safetensors"

    def synthetic(self, cell: Cell) -> SyntheticPointCloudDataset:
        """The set of a run as it is kept; makes the run if either is not there yet."""
        path = self.set_path(cell)
        self._result(cell, again=not path.exists())
        return _kept_set(path)

    def judge(self, cell: Cell, synthetic: SyntheticPointCloudDataset) -> Figures:
        """Checks what a set stores, keeps it if it is new, and trains a network on it.

        The file of the set tells the figure and what it was made with, so that it can be repeated.

        Raises:
            BudgetError: If it stores more than the budget.
        """
        budget = self.bank.budget(cell.ppc)
        bits = synthetic.parameterization.check_budget(budget)
        path = self.set_path(cell)
        if cell.distilled_with is None:
            synthetic.provenance |= self.told
            synthetic.save(path)
        figures = self._evaluate(cell, synthetic, self.preset.protocol)
        # Which clouds were chosen is in the file, and so is what a source's figure was.
        left_out = ("chosen", "evaluated")
        provenance = {k: v for k, v in synthetic.provenance.items() if k not in left_out}
        if cell.distilled_with is None:
            synthetic.provenance["evaluated"] = self._told(cell, figures)
            synthetic.save(path)
        own = {"bits": bits, "budget_bits": budget.bits, "set": f"sets/{path.name}"}
        return {**figures, **own, "provenance": provenance}

    def _told(self, cell: Cell, figures: Figures) -> Figures:
        """What the file of a set tells of its figure."""
        told = ("metric", "value", "values", "class_metric", "class_mean")
        return {
            **{key: figures[key] for key in told if key in figures},
            "backbone": cell.backbone,
            "network": describe(self.backbones[cell.backbone]),
            "seeds": self.preset.network_seeds(cell.seed),
            "protocol": self.preset.protocol.to_dict(),
            "source": self.source,
            "test_sha256": self._data["test"],
            **machine(self.device),
        }

    def judge_whole(self, cell: Cell, num_points: int | None = None) -> Figures:
        """Trains a network on the whole set and keeps what it learned of every cloud.

        Of several networks it is the last one that is observed. With :obj:`num_points` it trains
        on so many points of every cloud, and keeps nothing.
        """
        if num_points is not None:
            sampled = self.bank.farthest_points(num_points)
            figures = self._evaluate(cell, sampled, self.preset.whole)
            return {**figures, "bits": sampled.whole_bits(), "budget_bits": None}
        path = self._observation_path(cell.backbone, cell.seed)
        observed = self.preset.network_seeds(cell.seed)[-1]

        @wraps(fit)
        def trainer(
            model: nn.Module, train: PointCloudBank, protocol: Protocol, seed: int, bar: tqdm[Any]
        ) -> None:
            if seed == observed:
                watch(model, train, protocol, seed, bar, self.task).save(path)
            else:
                fit(model, train, protocol, seed, bar)

        figures = self._evaluate(cell, self.train_set, self.preset.whole, trainer)
        return {**figures, "bits": self.bank.whole_bits(), "budget_bits": None}

    def _evaluate(
        self,
        cell: Cell,
        train_set: Iterable[Data],
        protocol: Protocol,
        trainer: Callable[..., object] = fit,
    ) -> Figures:
        began = time.perf_counter()
        result = evaluate(
            train_set,
            self.test_set,
            self.backbones[cell.backbone],
            protocol,
            self.preset.network_seeds(cell.seed),
            self.device,
            name=cell.entry.name,
            trainer=trainer,
            task=self.task,
        )
        several = {"values": json_numbers(result.values)} if len(result.seeds) > 1 else {}
        return {
            **measured(result, self.task, began),
            **several,
            "per_class": json_numbers(result.scores.per_class.mean(dim=0)),
            "epochs": protocol.epochs_for(result.num_clouds),
        }

    def _result(self, cell: Cell, again: bool = False) -> None:
        identity = self._identity(cell)
        if identity in self._runs.read() and not again:
            return
        if identity in self._failed:  # Another run wants its set.
            raise self._failed[identity]
        try:
            with memory_errors():
                if cell.distilled_with is None:
                    before = self._made_before(cell)
                    figures = cell.entry.run(self, cell) if before is None else before
                else:
                    figures = self.judge(cell, self.synthetic(cell.source))
        except FAILURES as error:
            self._failed[identity] = type(error)(str(error))  # Without the frames of its trace.
            raise
        line = {"id": identity, **self._key(cell), **figures, **machine(self.device)}
        self._runs.append(line)
        if cell.distilled_with is None:  # Else it may be that of the network's own set.
            self.checkpoint(cell).unlink(missing_ok=True)

    def _made_before(self, cell: Cell) -> Figures | None:
        """The figures of a run whose set another run has made and judged otherwise."""
        line = self._line_of_set(cell)
        if line is None:
            return None
        synthetic = _kept_set(self.out / line["set"])
        return {key: line[key] for key in COSTS if key in line} | self.judge(cell, synthetic)

    def _line_of_set(self, cell: Cell) -> Figures | None:
        """The line of a run that made the very set of another one, if both are there."""
        observes = cell.entry.observes
        making = digest(_making(self._key(cell), observes))
        for line in self._runs.read().values():
            # What is quickly seen first, as there may be thousands of lines.
            alike = (line["method"], line["seed"]) == (cell.entry.name, cell.seed)
            own = alike and "set" in line and "distilled_with" not in line
            same = own and digest(_making(line, observes)) == making
            if same and (self.out / line["set"]).exists():
                return line
        return None

    def _key(self, cell: Cell) -> dict[str, Any]:
        """What makes a run the same run; it is written into its line."""
        whole = not cell.entry.has_budget
        # Only where it is not the usual, so that the runs of any comparison are found again.
        made: dict[str, Any] = {}
        if cell.distilled_with is not None:
            maker = describe(self.backbones[cell.distilled_with])
            made = {"distilled_with": cell.distilled_with, "distilling_network": maker}
        if self.preset.num_networks > 1:
            made["num_networks"] = self.preset.num_networks
        made |= told_quotas(cell.entry.quotas)
        return {
            "source": self.source,
            "task": self.task.name,
            "data": self._data,
            "method": cell.entry.name,
            "settings": cell.entry.identity(),
            "backbone": cell.backbone,
            "network": describe(self.backbones[cell.backbone]),
            "ppc": cell.ppc,
            "seed": cell.seed,
            "steps": cell.steps,
            "protocol": None if whole else self.preset.protocol.to_dict(),
            "whole": self.preset.whole.to_dict() if whole or cell.entry.observes else None,
            **made,
        }

    def _identity(self, cell: Cell) -> str:
        return digest(self._key(cell))

    def set_path(self, cell: Cell) -> Path:
        """Where the set of a run is kept."""
        return self.out / "sets" / f"{self._identity(cell.source)}.safetensors"

    def _observation_path(self, backbone: str, seed: int) -> Path:
        name = self._identity(_observed(backbone, seed))
        return self.out / "observations" / f"{name}.safetensors"


def _kept_set(path: Path) -> SyntheticPointCloudDataset:
    """A set of the folder, as it is kept."""
    try:
        return SyntheticPointCloudDataset(path)
    except ValueError as error:
        raise ValueError(f"{error}; remove it, and it is made again") from error


def _making(key: Mapping[str, Any], observes: bool) -> dict[str, Any]:
    """What makes a set the same set, of what makes a run the same run or of its line.

    How it is judged is no part of it, but for what rows know that observe the judging networks.
    """
    told = {name: key.get(name) for name in (*_MAKING, *(("num_networks",) if observes else ()))}
    return {**told, "train": key["data"]["train"]}


def _observed(backbone: str, seed: int) -> Cell:
    """The run on the whole set in which a network is observed."""
    return Cell(Whole("whole"), backbone, 1, seed, 0)
