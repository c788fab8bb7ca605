"""The objective of a search: a trial distils, is looked at, and trains networks on the result."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import optuna

from torch_geometric_ddp._checks import check_int, check_seed
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.splits import check_share
from torch_geometric_ddp.evaluation import Protocol, evaluate
from torch_geometric_ddp.methods import Method
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task
from torch_geometric_ddp.tuning.space import Settings

__all__ = ["DIRECTIONS", "Objective", "check_objective"]

#: What can be optimised, and whether more or less of it is better.
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "score": "maximize",
    "bits": "minimize",
    "seconds": "minimize",
}
# A look before the end trains for this share of the epochs.
_LOOK = 0.25


@dataclass(frozen=True)
class Objective:
    """Distils with the settings of a trial and tests the result on clouds that are held out.

    One object serves all trials of a process: they share the clouds on the device and what the
    matching computes of them (:meth:`~torch_geometric_ddp.clouds.bank.PointCloudBank.cached`).

    Args:
        real (PointCloudBank): The clouds that are distilled.
        held (PointCloudBank): The clouds that are tested on.
        ppc (float): The storage, in full-resolution clouds per class.
        steps (int): Optimisation steps.
        seeds (sequence of int): The seeds; each stands for a draw, a distillation and a network.
        protocol (Protocol): How the networks are trained.
        looks (sequence of float): Shares of the steps at which the first seed is trained on for a
            quarter of the epochs (and the least steps of the protocol), for the pruner.
        objectives (sequence of str): What is returned, of :obj:`score` (the mean over the seeds
            of the accuracy or the mIoU), :obj:`bits` (what is stored) and :obj:`seconds` (of a
            distillation).
        method (callable): Makes the method from the settings.
        network (callable, optional): Makes a backbone. (default: that of the task)
        task (Task): What networks learn.
        seed_by_seed (bool): Whether the pruner sees the score of every seed, in their order, and
            no looks. (default: :obj:`False`)
    """

    real: PointCloudBank
    held: PointCloudBank
    ppc: float
    steps: int
    seeds: Sequence[int]
    protocol: Protocol
    looks: Sequence[float]
    objectives: Sequence[str]
    method: Callable[..., Method]
    network: Callable[..., Backbone] | None
    task: Task
    seed_by_seed: bool = False

    def identity(self) -> dict[str, Any]:
        """What all processes of a study must share, as JSON."""
        network = self.task.network if self.network is None else self.network
        return {
            "ppc": self.ppc,
            "steps": self.steps,
            "seeds": list(self.seeds),
            "protocol": self.protocol.to_dict(),
            "looks": list(self.looks),
            "objectives": list(self.objectives),
            "method": describe(self.method),
            "network": describe(network),
            "task": self.task.name,
            # Only where it is so, that older studies go on.
            **({"seed_by_seed": True} if self.seed_by_seed else {}),
        }

    def __call__(self, trial: optuna.Trial, settings: Settings) -> list[float]:
        """The values of the objectives, in their order.

        The trial keeps the score of every seed, the bits and where the time went as user
        attributes, the last also where it fails.

        Raises:
            optuna.TrialPruned: If the pruner gives the trial up after a look.
            FloatingPointError: If a loss is not finite.
        """
        seconds = defaultdict[str, float](float)
        method = self.method(**settings)
        scores: list[float] = []
        try:
            for number, seed in enumerate(self.seeds):
                with _timed(seconds, "prepare"):
                    loop = method.begin(
                        self.real,
                        self.ppc,
                        seed,
                        self.network,
                        self.task,
                        steps=self.steps,
                        progress=False,
                    )
                    loop.prepare()
                for stop in self._stops() if seed == self.seeds[0] else []:
                    with _timed(seconds, "distill"):
                        loop.run(stop, progress=False)
                    with _timed(seconds, "look"):
                        trial.report(self._score(method.finish(loop), seed, _LOOK), stop)
                    if trial.should_prune():
                        raise optuna.TrialPruned(f"after {stop} of {self.steps} steps")
                with _timed(seconds, "distill"):
                    loop.run(self.steps, progress=False)
                synthetic = method.finish(loop)
                with _timed(seconds, "evaluate"):
                    scores.append(self._score(synthetic, seed))
                if self.seed_by_seed and len(self.objectives) == 1:
                    trial.report(scores[-1], number)
                    if number + 1 < len(self.seeds) and trial.should_prune():
                        raise optuna.TrialPruned(f"after {number + 1} of {len(self.seeds)} seeds")
        finally:
            trial.set_user_attr("seconds", dict(seconds))
        trial.set_user_attr("scores", scores)
        trial.set_user_attr("bits", synthetic.storage_bits)
        values = {
            "score": sum(scores) / len(scores),
            "bits": float(synthetic.storage_bits),
            "seconds": seconds["distill"] / len(scores),
        }
        return [values[name] for name in self.objectives]

    def _stops(self) -> list[int]:
        if self.seed_by_seed or len(self.objectives) > 1:  # Optuna prunes by one objective only.
            return []
        stops = {round(look * self.steps) for look in self.looks}
        return sorted(stop for stop in stops if 0 < stop < self.steps)

    def _score(self, synthetic: SyntheticPointCloudDataset, seed: int, share: float = 1.0) -> float:
        # The least steps stay: a network that is still at chance says nothing of a trial.
        epochs = max(1, round(share * self.protocol.epochs))
        protocol = replace(self.protocol, epochs=epochs)
        device = self.real.device
        return evaluate(
            synthetic,
            self.held,
            self.network,
            protocol,
            [seed],
            device,
            progress=False,
            task=self.task,
        ).mean


def check_objective(
    steps: int,
    seeds: Sequence[int],
    looks: Iterable[float],
    objectives: Iterable[str],
    seed_by_seed: bool = False,
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Holds the arguments of an :class:`Objective` against what they may be.

    Returns:
        The looks and the objectives, each of which is iterated once.

    Raises:
        TypeError: If a number is none.
        ValueError: If :obj:`steps` or a seed is too small, one of :obj:`looks` does not lie between
            0 and 1, :obj:`objectives` are not the score, alone or followed by others, or there are
            several with :obj:`seed_by_seed`.
    """
    check_int("steps", steps)
    for seed in seeds:
        check_seed("seeds", seed)
    if isinstance(looks, str | bytes) or not isinstance(looks, Iterable):
        raise TypeError(f"'looks' must be a sequence of numbers, got {looks!r:.80}")
    if isinstance(objectives, str | bytes) or not isinstance(objectives, Iterable):
        raise TypeError(f"'objectives' must be a sequence of names, got {objectives!r:.80}")
    looks = tuple(check_share("looks", look) for look in looks)
    names = tuple(objectives)
    unknown = [name for name in names if not isinstance(name, str) or name not in DIRECTIONS]
    if unknown or names[:1] != ("score",) or len(set(names)) < len(names):
        raise ValueError(
            f"'objectives' must be 'score', alone or followed by others of "
            f"{sorted(DIRECTIONS)}, got {list(names)}"
        )
    if seed_by_seed and len(names) > 1:
        raise ValueError(
            f"'seed_by_seed' must be False for several 'objectives', by which no trial is given "
            f"up, got {list(names)}"
        )
    return looks, names


@contextmanager
def _timed(seconds: defaultdict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] += time.perf_counter() - began
