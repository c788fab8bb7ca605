r"""Accuracy against steps of DDP under other schedules, optimisers, batches, networks and averages.

    OMP_NUM_THREADS=1 python benchmarks/steps_to_accuracy.py --data modelnet10_1024.npz --out runs
    OMP_NUM_THREADS=1 python benchmarks/steps_to_accuracy.py --data modelnet10_1024.npz --out runs \
        --recipes adam kept trained batch4 batch16 --steps 100 --seeds 0

Sets of one cloud a class are distilled from the training clouds and judged by PointNet on a fifth
of them that is held out, or with --test on the test clouds, distilled from all training clouds. A
run that is the same whatever its length (--recipes constant) is looked at on its way, where it
stands and in means over its steps; one whose learning rates fall towards its end is made for every
number of steps. Every figure goes to runs.jsonl in --out as it comes, and one
that is there is not made again.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_geometric_ddp import Distillation, PointCloudArrays, Protocol, evaluate
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp._version import versions
from torch_geometric_ddp.clouds import hold_out
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.comparison.presets import PRESETS
from torch_geometric_ddp.comparison.runs import RunLog
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.methods import Method, NetworkSource, TrainedNetworks, cosine, ddp
from torch_geometric_ddp.methods.optimizers import late_share
from torch_geometric_ddp.nn import Backbone, PointNet
from torch_geometric_ddp.programs.option_types import natural, positive

HELD_OUT = 0.2
#: The last parameters; the mean of those of the last half of the steps; and that of all, weighed by
#: about the third power of the step (Shamir and Zhang, ICML 2013).
MEANS = ("last", "half", "late")


class KeptNetworks(NetworkSource):
    """Hands out every network several times, one step after the other."""

    def __init__(self, *args: Any, times: int = 4) -> None:
        super().__init__(*args)
        self.times, self.taken = times, 0

    def fresh(self) -> Backbone:
        if self.taken % self.times == 0:
            self.network = super().fresh()
        self.taken += 1
        return self.network


def step_decay(num_steps: int, steps: int) -> float:
    """A tenth of the learning rates in the last quarter."""
    return 1.0 if num_steps < 0.75 * steps else 0.1


YOUNG = partial(TrainedNetworks, sizes=(252,), ages=(0, 25, 50, 100))

#: What a method is made of, and whether its steps depend on how many there are.
RECIPES: dict[str, tuple[Callable[[], Method], bool]] = {
    "constant": (ddp, False),
    "cosine": (lambda: replace(ddp(), schedule=cosine), True),
    "cosine5": (lambda: replace(ddp(anchor_lr=5.0), schedule=cosine), True),
    "decay": (lambda: replace(ddp(), schedule=step_decay), True),
    "adam": (lambda: ddp(anchor_lr=0.003, weight_lr=0.03, optimizer=torch.optim.Adam), False),
    "kept": (lambda: replace(ddp(), networks=KeptNetworks), False),
    "trained": (lambda: replace(ddp(), networks=YOUNG), False),
    "batch4": (lambda: ddp(batch_size=4), False),
    "batch16": (lambda: ddp(batch_size=16), False),
}


class Averages:
    """Means of the parameters over the steps of a run, as they are after some of these."""

    def __init__(self, loop: Distillation, marks: list[int]) -> None:
        self.parameters = [*loop.parameterization.parameters()]
        self.marks = {mark for steps in marks for mark in (steps // 2, steps)}
        self.sum = [torch.zeros_like(p) for p in self.parameters]
        self.late = [torch.zeros_like(p) for p in self.parameters]
        self.sums = {0: [s.clone() for s in self.sum]}
        self.lates: dict[int, list[Tensor]] = {}

    @torch.no_grad()
    def add(self, loop: Distillation) -> None:
        """The parameters of another step."""
        steps = loop.num_steps
        for total, late, parameter in zip(self.sum, self.late, self.parameters, strict=True):
            total += parameter
            late.lerp_(parameter, late_share(steps))
        if steps in self.marks:
            self.sums[steps] = [s.clone() for s in self.sum]
            self.lates[steps] = [s.clone() for s in self.late]

    @contextmanager
    def put(self, kind: str, steps: int) -> Iterator[None]:
        """One of :obj:`MEANS` after so many steps in the place of the parameters, for a while."""
        kept = [p.detach().clone() for p in self.parameters]
        if kind == "half":
            sums = zip(self.sums[steps // 2], self.sums[steps], strict=True)
            self._set([(after - before) / (steps - steps // 2) for before, after in sums])
        elif kind == "late":
            self._set(self.lates[steps])
        yield
        self._set(kept)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help=".npz as for examples/distill.py")
    parser.add_argument("--out", type=Path, required=True, help="where figures are appended")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=["constant", "cosine"])
    parser.add_argument("--steps", nargs="+", type=positive, default=[100, 400])
    parser.add_argument("--seeds", nargs="+", type=natural, default=[0, 1, 2])
    parser.add_argument("--means", nargs="+", choices=MEANS, default=MEANS)
    parser.add_argument(
        "--num-points", type=positive, help="of a cloud, by farthest point sampling"
    )
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="how networks are trained")
    parser.add_argument("--test", action="store_true", help="on the test clouds")
    args = parser.parse_args()
    keep_freed_memory()  # As in examples/distill.py.
    sampled: Any = {"num_points": args.num_points, "sampling": "fps"} if args.num_points else {}
    real: Any = PointCloudArrays.from_npz(args.data, **sampled)
    held: Any = PointCloudArrays.from_npz(args.data, "test", **sampled)
    if not args.test:
        real, held = hold_out(real, HELD_OUT)
    protocol = PRESETS[args.preset].protocol
    study = Study(real, held, protocol, RunLog(args.out / "runs.jsonl"))
    for seed in args.seeds:
        for name in args.recipes:
            make, to_end = RECIPES[name]
            lengths = [[steps] for steps in args.steps] if to_end else [sorted(args.steps)]
            for marks in lengths:
                study.follow(name, make(), seed, marks, MEANS[:1] if to_end else args.means)


class Study:
    """Runs on the same clouds, and their figures."""

    def __init__(self, real: Any, held: Any, protocol: Protocol, log: RunLog) -> None:
        self.bank = PointCloudBank.from_dataset(real).normalize()
        self.held, self.protocol, self.log = held, protocol, log
        held_bank = PointCloudBank.from_dataset(held)
        self.data = {"train": self.bank.sha256(), "test": held_bank.sha256()}

    def follow(
        self, name: str, method: Method, seed: int, marks: list[int], means: Sequence[str]
    ) -> None:
        """Makes a run and tests what stands after the marked steps, and its means."""
        known = self.log.read()
        wanted = {
            (steps, mean): identity
            for steps in marks
            for mean in means
            if (identity := self.identity(_named(name, mean), steps, seed)) not in known
        }
        if not wanted:
            return
        loop = method.begin(self.bank, 1, seed, steps=marks[-1])
        averages = Averages(loop, marks)
        took = 0.0
        for steps in marks:
            began = time.perf_counter()
            loop.run(steps, callback=averages.add)
            took += time.perf_counter() - began
            for mean in means:
                if (steps, mean) not in wanted:
                    continue
                with averages.put(mean, steps):
                    synthetic = method.finish(loop)
                made = {
                    "id": wanted[steps, mean],
                    "method": _named(name, mean),
                    "settings": {"recipe": _named(name, mean)},
                    "seed": seed,
                    "steps": steps,
                    "distill_seconds": took,
                    "step_seconds": took / steps,
                    "bits": synthetic.storage_bits,
                    "budget_bits": loop.budget.bits,
                }
                self.log.append({**made, **self.judge(synthetic, seed)})

    def identity(self, name: str, steps: int, seed: int) -> str:
        """What tells a figure from all others in the file."""
        clouds = f"{self.data['train'][:8]} {self.data['test'][:8]}"
        return f"{name} {steps} {seed} {clouds} {self.protocol.name}"

    def judge(self, synthetic: Any, seed: int) -> dict[str, Any]:
        """What a network learns from a set."""
        began = time.perf_counter()
        result = evaluate(synthetic, self.held, PointNet, self.protocol, [seed])
        return {
            "metric": "accuracy",
            "value": result.mean,
            "class_metric": "mean class accuracy",
            "class_mean": float(result.scores.class_means.mean()),
            "evaluate_seconds": time.perf_counter() - began,
            "num_clouds": result.num_clouds,
            "num_points": result.num_points,
            "backbone": "PointNet",
            "network": describe(PointNet),
            "ppc": 1,
            "protocol": self.protocol.to_dict(),
            "whole": None,
            "data": self.data,
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }


def _named(recipe: str, mean: str) -> str:
    return recipe if mean == "last" else f"{recipe}, {mean}"


if __name__ == "__main__":
    main()
