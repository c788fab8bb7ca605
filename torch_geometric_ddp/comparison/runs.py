"""The runs of a comparison, one after the other or side by side, and their log."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp._files import replacing, turn
from torch_geometric_ddp._version import versions
from torch_geometric_ddp.budget import BudgetError, TooFewPointsError
from torch_geometric_ddp.comparison.cells import Cell, Figures
from torch_geometric_ddp.comparison.side_by_side import check_sent, side_by_side
from torch_geometric_ddp.evaluation import Evaluation, Protocol
from torch_geometric_ddp.memory import memory_errors
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.tasks import Task

__all__ = [
    "FAILURES",
    "PartlyMadeError",
    "RunLog",
    "ToDo",
    "carry_out",
    "machine",
    "measured",
    "tried",
]

Made = TypeVar("Made")


# Why a run may fail and leave the others alone.
FAILURES = (BudgetError, FloatingPointError, MemoryError, TooFewPointsError, torch.OutOfMemoryError)


class PartlyMadeError(Exception):
    """A part of a run failed, and the others are there.

    Args:
        made (list): What is there.
        reason (str): What failed, and why.
    """

    def __init__(self, made: list[Any], reason: str) -> None:
        super().__init__(reason)
        self.made: Any = made


# What every run has, whatever it measures.
_KEYS = {"id", "method", "backbone", "ppc", "seed", "value", "metric", "budget_bits"}


@dataclass(frozen=True)
class ToDo:
    """What there is to do for runs, with all that they need.

    Args:
        num_runs (int): How many of them are not there yet.
        steps (list of int): The steps of every set that is distilled.
        networks (list of tuple): How many networks are trained, on what, and how.
    """

    num_runs: int
    steps: list[int]
    networks: list[tuple[int, str, Protocol]]


def machine(device: torch.device) -> Figures:
    """What every line tells of the machine that it was made by."""
    threads = torch.get_num_threads()
    return {"device": str(device), "threads": threads, "versions": versions()}


def measured(evaluation: Evaluation, task: Task, began: float) -> Figures:
    """What every line tells of the networks that were trained for it.

    Args:
        evaluation (Evaluation): What they reached.
        task (Task): What they learned.
        began (float): When that began, by :func:`time.perf_counter`.
    """
    scores = evaluation.scores
    return {
        "metric": task.metric,
        "value": evaluation.mean,
        "class_metric": task.class_metric,
        "class_mean": float(scores.class_means.mean()),
        "class_names": scores.class_names,
        "num_clouds": evaluation.num_clouds,
        "num_points": evaluation.num_points,
        "evaluate_seconds": time.perf_counter() - began,
    }


class RunLog:
    """One JSON line a run, with its :obj:`id`; several processes may write to one file.

    Args:
        path (path): The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, dict[str, Any]]:
        """The lines that are there, the last one of every run; torn lines are left out.

        Raises:
            ValueError: If a line is whole and yet no run.
        """
        known = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        texts = content.split(b"\n")
        for number, text in enumerate(texts, start=1):
            try:
                line = self._run(number, text.strip(b"\0\r "))  # A crash may leave zeros.
            except ValueError:
                if number == len(texts):  # A line without an end, whatever there is of it.
                    break
                raise
            if line is not None:
                known[line["id"]] = line
        return known

    def _run(self, number: int, text: bytes) -> dict[str, Any] | None:
        """A line as the run that it is, unless it was torn off."""
        if not text or (text.startswith(b"{") and not text.endswith(b"}")):
            return None
        try:
            line = json.loads(text)
            missing = sorted(_KEYS - line.keys())
        except (ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and error.pos == len(error.doc):
                return None
            raise self._damaged(number, str(error)) from error
        if missing:
            raise self._damaged(number, f"it has no {missing}")
        if not isinstance(line["id"], str) or not isinstance(line["value"], int | float):
            raise self._damaged(number, "its 'id' must be text and its 'value' a number")
        return dict(line)

    def _damaged(self, number: int, why: str) -> ValueError:
        return ValueError(
            f"line {number} of '{self.path}' is no run of a comparison ({why:.200}): remove that "
            "line, and its run is made again"
        )

    def append(self, line: dict[str, Any]) -> None:
        """Writes a line, and waits until the disk has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as file:
            # A line that was torn off ends here, so that it does not take this one with it.
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            newline = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(newline + json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def carry_out(
    cells: Iterable[Cell],
    make: Callable[[Cell], Made],
    failures: dict[str, str],
    folder: Path,
    name: str,
    workers: int = 1,
) -> list[Made]:
    """Makes runs, and goes on where one fails.

    Why runs failed is written into :obj:`failures.json` of the folder, beside what is noted of
    others, and the file is removed if none did.

    Args:
        cells (iterable of Cell): The runs.
        make (callable): Makes one.
        failures (dict): Receives the reasons, by what the runs are called; those of earlier tries
            of these runs are removed.
        folder (Path): The folder of the comparison.
        name (str): What the progress bar is called.
        workers (int): How many seeds are run side by side, each by a process with one thread,
            whose bars are in :obj:`workers/seed-N.txt` of the folder. (default: :obj:`1`, one run
            after the other in this process)

    Returns:
        What was made of the runs that did not fail, and of those that did in part.

    Raises:
        TypeError: If :obj:`workers` is no integer.
        ValueError: If :obj:`workers` is below one, or above one and :obj:`make` cannot be sent to a
            process or there are several ranks.
        ChildProcessError: If such a process dies.
    """
    cells, make_or_tell = list(cells), partial(tried, make)
    if check_int("workers", workers) > 1:
        if not Ranks.here().alone:
            raise ValueError(f"'workers' must be 1 where there are several ranks, got {workers}")
        check_sent((make_or_tell, cells))
    made: dict[int, list[Made]] = {}
    try:
        with tqdm(total=len(cells), desc=name, unit="run") as bar:
            if workers == 1:
                every = _in_turn(cells, make_or_tell, bar.set_postfix_str)
            else:
                every = side_by_side(cells, make_or_tell, folder, workers, bar.set_postfix_str)
            for place, (result, reason) in every:
                made[place] = result
                failures.pop(str(cells[place]), None)  # Of an earlier try.
                if reason is not None:
                    failures[str(cells[place])] = reason
                    bar.write(f"Failed: {cells[place]}: {reason}", file=sys.stderr)
                bar.update()
    finally:  # Also where something else ends the comparison.
        _keep_failures(folder / "failures.json", failures, {str(cells[place]) for place in made})
    return [one for place in sorted(made) for one in made[place]]


def _keep_failures(path: Path, failures: dict[str, str], tried: set[str]) -> None:
    """Notes why runs failed, in the place of what is noted of these and of all that were tried."""
    if not failures and not path.exists():
        return
    noted: dict[str, str] = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with turn(path.parent):  # Another process may note its own.
        with suppress(FileNotFoundError, ValueError, TypeError):  # Or it is none of ours.
            noted = dict(json.loads(path.read_text(encoding="utf-8")))
        noted = {run: reason for run, reason in noted.items() if run not in tried} | failures
        if noted:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(noted, indent=1), encoding="utf-8")
        else:
            path.unlink(missing_ok=True)


def _in_turn(
    cells: Sequence[Cell], make: Callable[[Cell], Made], say: Callable[[str], object]
) -> Iterator[tuple[int, Made]]:
    for place, cell in enumerate(cells):
        say(str(cell))
        yield place, make(cell)


def tried(make: Callable[[Cell], Made], cell: Cell) -> tuple[list[Made], str | None]:
    """What was made of a run, or nothing or a part of it and why the rest failed."""
    try:
        with memory_errors():
            return [make(cell)], None
    except PartlyMadeError as error:
        return [error.made] if error.made else [], str(error)
    except FAILURES as error:
        return [], f"{type(error).__name__}: {error}"
