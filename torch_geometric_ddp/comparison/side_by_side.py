"""Runs of several seeds side by side, each seed by a process with one thread."""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torch.multiprocessing
from torch import Tensor

from torch_geometric_ddp._worker import WHY_DIED, begin_worker
from torch_geometric_ddp.comparison.cells import Cell

__all__ = ["check_sent", "side_by_side"]

Made = TypeVar("Made")


def check_sent(value: object) -> None:
    """Raises unless other processes can be sent something.

    Raises:
        ValueError: If it holds what they would not find.
    """
    try:
        _WithoutTensors(io.BytesIO()).dump(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            "rows and networks must be functions or classes of a module where 'workers' is above "
            f"1, so that another process finds them: {error}"
        ) from error


def side_by_side(
    cells: Sequence[Cell],
    make: Callable[[Cell], Made],
    folder: Path,
    workers: int,
    say: Callable[[str], object],
) -> Iterator[tuple[int, Made]]:
    """Makes runs by several processes, those of a seed by the same one and in their order.

    A run may need another of its seed, such as the set that it takes or the network that it
    observes; runs of several seeds need nothing of each other. What the processes show is written
    to :obj:`workers/seed-N.txt` of the folder.

    Args:
        cells (sequence of Cell): The runs.
        make (callable): Makes one; it is sent to the processes.
        folder (Path): The folder of the comparison.
        workers (int): How many seeds are run at the same time.
        say (callable): Is told which runs are being made.

    Returns:
        Where a run stands in :obj:`cells`, and what was made, in the order in which they end.

    Raises:
        ChildProcessError: If a process dies.
        Exception: What making a run raises; the other processes end the run that they make.
    """
    logs = folder / "workers"
    logs.mkdir(parents=True, exist_ok=True)
    of_seed: dict[int, deque[int]] = {}
    for place, cell in enumerate(cells):
        of_seed.setdefault(cell.seed, deque()).append(place)
    seeds = deque(of_seed.values())
    context = torch.multiprocessing.get_context("spawn")
    with _seldom(), ExitStack() as stack:
        every: list[_Worker[Made]] = []
        for _ in range(min(workers, len(seeds))):
            pool = ProcessPoolExecutor(1, context, _begin, (make, logs))
            every.append(_Worker(stack.enter_context(pool)))  # Its end waits for its run.
        while True:
            for worker in every:
                if worker.run is None and (worker.places or seeds):
                    worker.places = worker.places or seeds.popleft()
                    worker.place = worker.places.popleft()
                    worker.run = worker.pool.submit(_make, cells[worker.place])
            at_work = {worker.run: worker for worker in every if worker.run is not None}
            if not at_work:
                return
            say("; ".join(str(cells[worker.place]) for worker in at_work.values()))
            for run in wait(at_work, return_when=FIRST_COMPLETED).done:
                at_work[run].run = None
                place = at_work[run].place
                try:
                    result = run.result()
                except BrokenProcessPool as error:
                    raise ChildProcessError(
                        f"the process of '{cells[place]}' died: what it said stands in '{logs}'. "
                        f"{WHY_DIED}"
                    ) from error
                yield place, result


class _WithoutTensors(pickle.Pickler):
    """Tries what can be sent, but for the clouds, which are many and are shared."""

    def persistent_id(self, value: object) -> str | None:
        return "tensor" if isinstance(value, Tensor) else None


@dataclass(eq=False)
class _Worker(Generic[Made]):
    """A process, the run that it makes, and where those stand that it makes next."""

    pool: ProcessPoolExecutor
    places: deque[int] = field(default_factory=deque)
    place: int = 0
    run: Future[Made] | None = None


@contextmanager
def _seldom() -> Iterator[None]:
    """Lets bars of the processes that begin here write every ten seconds: files keep it all."""
    name = "TQDM_MININTERVAL"
    before = os.environ.get(name)
    os.environ[name] = before or "10"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


# What a process makes runs with, set once when it starts.
_own: tuple[Callable[[Cell], Any], Path]


def _begin(make: Callable[[Cell], Any], logs: Path) -> None:
    global _own
    begin_worker()
    _own = make, logs


def _make(cell: Cell) -> Any:
    make, logs = _own
    with open(logs / f"seed-{cell.seed}.txt", "ab") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    return make(cell)
