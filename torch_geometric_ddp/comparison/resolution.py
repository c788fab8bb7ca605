"""Training at one resolution and testing at others: the cross-resolution matrix."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import torch
from torch import nn

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.budget import TooFewPointsError
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.comparison.cells import Cell, Figures, digest
from torch_geometric_ddp.comparison.lab import Lab
from torch_geometric_ddp.comparison.report import labelled, summarize
from torch_geometric_ddp.comparison.runs import (
    PartlyMadeError,
    RunLog,
    ToDo,
    carry_out,
    machine,
    measured,
    tried,
)
from torch_geometric_ddp.comparison.transfer import TransferRow, matrix_markdown, with_numbers
from torch_geometric_ddp.comparison.wholes import as_compared
from torch_geometric_ddp.evaluation import Protocol, evaluate, fit
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset

__all__ = ["CrossResolution", "resolution_markdown", "resolution_matrix", "spread_resolutions"]


class CrossResolution:
    """Trains on sets at several resolutions, and tests every network at several others.

    Clouds of both sides are reduced by farthest point sampling. A set whose clouds have fewer
    points than a resolution, such as the whole set at fewer points, has no runs of it. The sets are
    those of a harness, and made by it where they are not there yet; the folder receives a JSON line
    in :obj:`resolutions.jsonl` for every set and resolution of training, and what is there is never
    made again.

    Args:
        lab (Lab): The harness.
        train_points (sequence of int): The points of training clouds.
        test_points (sequence of int): The points of test clouds.
        own_points (bool): Whether every set is trained on at the points of its own smallest cloud,
            too. (default: :obj:`False`)

    Raises:
        TypeError, ValueError: If there are no numbers, or one is none, or clouds have fewer points:
            all real ones than one of :obj:`train_points`, or a test cloud than one of
            :obj:`test_points`.
    """

    def __init__(
        self,
        lab: Lab,
        train_points: Sequence[int],
        test_points: Sequence[int],
        own_points: bool = False,
    ) -> None:
        for name, given in {"train_points": train_points, "test_points": test_points}.items():
            if not given:
                raise ValueError(f"'{name}' must hold at least one number, got none")
        self.lab, self.own_points = lab, own_points
        largest = int(lab.bank.sizes.max())
        numbers = [check_int("train_points", num, maximum=largest) for num in train_points]
        self.train_points = [*dict.fromkeys(numbers)]
        test = lab.task.read(lab.test_set, lab.device).normalize()
        most = int(test.sizes.min())
        points = [check_int("test_points", num, maximum=most) for num in test_points]
        #: The test clouds by their points, the fewest first.
        self.tests = {num: test.farthest_points(num) for num in sorted({*points})}
        self._runs = RunLog(lab.out / "resolutions.jsonl")
        self._runs.read()  # Raises if it is none, before the first run.

    def run(self, cells: Iterable[Cell], workers: int = 1) -> list[Figures]:
        """Makes the runs that are not there yet and returns the figures of all of them.

        What fails is noted in :attr:`Lab.failures` and left out, and so is a set that has fewer
        points than every resolution. Where training on some points fails, runs on others are made.

        Args:
            cells (iterable of Cell): The runs.
            workers (int): How many seeds are run side by side, as
                :meth:`~torch_geometric_ddp.comparison.Lab.run` does. (default: :obj:`1`)

        Raises:
            TypeError, ValueError, ChildProcessError: As
                :meth:`~torch_geometric_ddp.comparison.Lab.run` does of :obj:`workers`.
        """
        lab = self.lab
        lab.try_again()
        cells = list(cells)
        some = workers if self.to_do(cells).num_runs else 1  # No process only reads what is there.
        made = carry_out(cells, self._results, lab.failures, lab.out, "Cross resolutions", some)
        return [*{one["id"]: one for rows in made for one in rows}.values()]

    def to_do(self, cells: Iterable[Cell]) -> ToDo:
        """What there is to do for runs, with the sets and the networks that they need.

        A set that is not there yet counts as one that has points for every resolution.
        """
        lab, cells, num_runs = self.lab, list(cells), 0
        known = self._runs.read().keys()
        # A set of another network needs the run that made it, and none of this one on it.
        sources = [cell.source for cell in cells if cell.entry.has_budget]
        unmade = lab._without_sets({str(source): source for source in sources}.values())
        small: set[str] = set()
        whole: set[str] = set()
        for cell in cells:
            new = cell.source in unmade
            every = self.train_points if new else self._resolutions(self._points(cell))
            keys = {self._identity(cell, num) for num in every} - known
            if self.own_points and new:
                keys.add(str(cell))  # Of how many points shows when it is made.
            (small if cell.entry.has_budget else whole).update(keys)
            num_runs += bool(keys) or new
        making, each = lab._to_make(unmade), lab.preset.num_networks
        some = ", if they have so many" if unmade else ""
        networks = [
            *making.networks,
            (each * len(small), f"small sets at the points of a row{some}", lab.preset.protocol),
            (each * len(whole), "the whole set at the points of a row", lab.preset.whole),
        ]
        return ToDo(num_runs, making.steps, networks)

    def _resolutions(self, most: int) -> list[int]:
        """The points at which a set is trained on whose smallest cloud has :obj:`most`."""
        found = [num for num in self.train_points if num <= most]
        return [*found, most] if self.own_points and most not in found else found

    def _points(self, cell: Cell) -> int:
        """The points of the smallest cloud of a set that is there."""
        lab = self.lab
        if cell.entry.has_budget:
            return int(lab.task.read(SyntheticPointCloudDataset(lab.set_path(cell))).sizes.min())
        return int(cell.entry.settings.get("num_points", lab.bank.sizes.min()))

    def _identity(self, cell: Cell, num: int) -> str:
        # The name of a set stands for all that it was made with, and for the protocol.
        key = {"set": self.lab.set_path(cell).stem, "of": cell.backbone}
        if cell.distilled_with is not None:  # It tells of another network.
            key["network"] = describe(self.lab.backbones[cell.backbone])
        return digest({**key, "train_points": num, "test_points": [*self.tests]})

    def _results(self, cell: Cell) -> list[Figures]:
        lab, known = self.lab, self._runs.read()
        found: list[Figures] = []
        failed: list[str] = []
        if cell.entry.has_budget:
            synthetic = lab.synthetic(cell.source)
            train, protocol = lab.task.read(synthetic, lab.device).normalize(), lab.preset.protocol
            bits, budget = synthetic.storage_bits, lab.bank.budget(cell.ppc).bits
        else:
            train, protocol = lab.bank.normalize(), lab.preset.whole
            if most := cell.entry.settings.get("num_points"):
                train = train.farthest_points(most)
            bits, budget = train.whole_bits(), None
        made = {**lab._key(cell), "protocol": protocol.to_dict()}
        for num in self._resolutions(int(train.sizes.min())):
            sizes = {"train_points": num, "test_points": [*self.tests]}
            identity = self._identity(cell, num)
            if identity not in known:
                one = partial(self._cross, train=train, num_points=num, protocol=protocol)
                figures, reason = tried(one, cell)
                if reason is not None:  # Others may take less memory.
                    failed.append(f"at {num} points {reason}")
                    continue
                stored = {"bits": bits, "budget_bits": budget}
                line = {
                    "id": identity,
                    **made,
                    **stored,
                    **sizes,
                    **figures[0],
                    **machine(lab.device),
                }
                self._runs.append(line)
                known[identity] = line
            # Lines did not always tell all of it.
            found.append({**made, **known[identity]})
        if failed:
            raise PartlyMadeError(found, "; ".join(failed))
        if not found:
            least = min(self.train_points)
            most = int(train.sizes.min())
            raise TooFewPointsError(f"its clouds have {most} points, fewer than {least}")
        return found

    def _cross(
        self, cell: Cell, train: PointCloudBank, num_points: int, protocol: Protocol
    ) -> Figures:
        """Trains once, at a number of points, and tests at every resolution."""
        train = train.farthest_points(num_points)
        lab, models, (first, *others) = self.lab, [], self.tests

        @wraps(fit)
        def trainer(model: nn.Module, *args: Any) -> None:
            fit(model, *args)
            models.append(model)

        began = time.perf_counter()
        result = evaluate(
            train,
            self.tests[first],
            lab.backbones[cell.backbone],
            protocol,
            lab.preset.network_seeds(cell.seed),
            lab.device,
            progress=False,
            trainer=trainer,
            task=lab.task,
        )
        each = [result.scores]
        with torch.no_grad():
            for num in others:
                test = self.tests[num]
                test = test.normalize() if protocol.normalize else test
                scores = [lab.task.score(model, train, test) for model in models]
                each.append(type(result.scores).join(scores))
        return {
            **measured(result, lab.task, began),
            "at_points": [float(scores.values.mean()) for scores in each],
            "class_means_at_points": [float(scores.class_means.mean()) for scores in each],
        }


def spread_resolutions(runs: Iterable[Figures]) -> list[Figures]:
    """One run for every number of points that is tested, which tells what those of a table tell.

    They are of one network, whose time each of them tells.

    Args:
        runs (iterable of dict): The figures of :meth:`CrossResolution.run`.

    Raises:
        ValueError: If a line tells less, as those of earlier versions do.
    """
    found = []
    for run in map(as_compared, runs):
        if "class_means_at_points" not in run:
            raise ValueError(
                f"'runs' must tell what they store and the means over classes, which the line "
                f"{run['id']} does not: remove that line, and its run is made again"
            )
        for points, value, mean in zip(
            run["test_points"], run["at_points"], run["class_means_at_points"], strict=True
        ):
            found.append({**run, "test_points": points, "value": value, "class_mean": mean})
    return found


def resolution_matrix(runs: Iterable[Figures]) -> list[TransferRow]:
    """Gathers the runs of :class:`CrossResolution` by method, budget and points of training.

    Runs that were not made alike, or tested on other points, are rows of their own, whose names say
    in what they differ. A set that was made with another network than the one that is trained on it
    says so: "PKR 32 from PointNet".

    Args:
        runs (iterable of dict): The figures of :meth:`CrossResolution.run`.

    Returns:
        The rows, with a column for every number of points that is tested, by its text; what
        :func:`plot_transfer` draws.
    """
    found = summarize(runs, "train_points", "test_points")
    several = len({row.backbone for row in found}) > 1
    rows = []
    for row, named in zip(found, labelled(found), strict=True):
        name = f"{named.method}, {row.backbone}" if several else named.method
        first = row.runs[0]
        cells = {
            str(points): replace(
                row, runs=[{**run, "value": run["at_points"][i]} for run in row.runs]
            )
            for i, points in enumerate(first["test_points"])
        }
        name = f"{name}, {first['train_points']} points"
        rows.append(TransferRow(name, None, row.ppc, cells))
    return with_numbers(rows)


def resolution_markdown(rows: Sequence[TransferRow]) -> str:
    """A table of the means in percent, a column for every number of points of test clouds.

    What stands in brackets and under the table is as :func:`transfer_markdown` has it.

    Args:
        rows (sequence of TransferRow): The rows of :func:`resolution_matrix`.
    """
    if not rows:
        return "No runs.\n"
    columns = {
        "trained on": [row.method for row in rows],
        "PPC": ["-" if row.ppc is None else str(row.ppc) for row in rows],
    }
    heads = dict.fromkeys(points for row in rows for points in row.cells)
    trained = {cell.backbone for row in rows for cell in row.cells.values()}
    # The rows of several networks name theirs.
    common = [f"All rows: {name}." for name in trained] if len(trained) == 1 else []
    return matrix_markdown(columns, rows, list(heads), common)
