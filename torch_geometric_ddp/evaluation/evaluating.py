"""Training networks from scratch on one set and testing them on another, with several seeds."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_ddp._checks import (
    check_callable,
    check_dataset,
    check_device,
    check_flag,
    check_int,
    check_maker,
    check_seed,
    check_text,
    shown,
)
from torch_geometric_ddp._gradients import with_gradients
from torch_geometric_ddp.evaluation.learning import Learning, learned
from torch_geometric_ddp.evaluation.protocol import PAPER, Protocol, check_protocol
from torch_geometric_ddp.evaluation.training import Trainer, fit
from torch_geometric_ddp.tasks import Scores, Task, find_task

__all__ = ["Evaluation", "evaluate", "percent", "seed_list"]

# More seeds than that are a mistake.
_MOST_SEEDS = 10**6


@dataclass(frozen=True, eq=False)  # It holds tensors, which have no one truth.
class Evaluation:
    """What networks learned from a training set, one network per seed.

    Args:
        scores (Scores): What they reached on the test set after the last epoch, with the figures
            of their task: :class:`~torch_geometric_ddp.tasks.Accuracy` or
            :class:`~torch_geometric_ddp.tasks.MeanIoU`.
        metric (str): What the figure that they are compared by is called.
        seeds (list of int): The seeds.
        protocol (Protocol): The protocol.
        num_clouds (int): The number of training clouds.
        num_points (int): The number of all their points.
    """

    scores: Scores
    metric: str
    seeds: list[int]
    protocol: Protocol
    num_clouds: int
    num_points: int

    @property
    def values(self) -> Tensor:
        """The figure that networks are compared by, :obj:`[S]`, in 0..1."""
        return self.scores.values

    @property
    def mean(self) -> float:
        """The mean of :attr:`values` over the seeds, in 0..1."""
        return float(self.values.mean())

    @property
    def std(self) -> float:
        """The sample standard deviation over the seeds, in 0..1; NaN for a single seed."""
        return float(self.values.std()) if len(self.values) > 1 else float("nan")

    @classmethod
    def join(cls, evaluations: Sequence[Evaluation]) -> Evaluation:
        """One evaluation of several sets made alike, such as draws with different seeds.

        Its :attr:`num_clouds` and :attr:`num_points` are those of the first.

        Raises:
            ValueError: If there is none, or they differ in protocol, metric or classes.
        """
        if not evaluations:
            raise ValueError("'evaluations' must hold at least one, got none")
        first = evaluations[0]
        for other in evaluations:
            for what, own, its in (
                ("protocol", first.protocol, other.protocol),
                ("metric", first.metric, other.metric),
                ("class_names", first.scores.class_names, other.scores.class_names),
            ):
                if own != its:
                    raise ValueError(
                        f"'evaluations' must have the same {what}, got {own} and {its}"
                    )
        scores = type(first.scores).join([evaluation.scores for evaluation in evaluations])
        seeds = [seed for evaluation in evaluations for seed in evaluation.seeds]
        return replace(first, scores=scores, seeds=seeds)

    def to_dict(self) -> dict[str, Any]:
        """The figures and what they were made with, for JSON."""
        return {
            **self.scores.to_dict(),
            "metric": self.metric,
            "mean": self.mean,
            "std": self.std if len(self.values) > 1 else None,
            "class_names": self.scores.class_names,
            "seeds": self.seeds,
            "protocol": self.protocol.to_dict(),
            "num_clouds": self.num_clouds,
            "num_points": self.num_points,
        }

    def __str__(self) -> str:
        seeds = f"{len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
        return f"{percent(self.values)} ({self.metric}, {self.protocol.name} protocol, {seeds})"


def percent(values: Tensor) -> str:
    """The mean and, of several values, the sample standard deviation, in percent."""
    spread = f" ± {100 * float(values.std()):.1f}" if len(values) > 1 else ""
    return f"{100 * float(values.mean()):.1f}{spread} %"


@with_gradients
def evaluate(
    train_set: Iterable[Data],
    test_set: Iterable[Data],
    network: Callable[..., nn.Module] | None = None,
    protocol: Protocol = PAPER,
    seeds: int | Sequence[int] = 10,
    device: torch.device | str | None = None,
    progress: bool = True,
    name: str | None = None,
    trainer: Trainer = fit,
    task: Task | str = "classification",
    workers: int = 1,
    together: int = 1,
) -> Evaluation:
    r"""Trains networks from scratch on one set and tests them on another.

    The protocol of the papers (DDP, ICLR 2026, experiments): no augmentation, the figures after
    the last epoch, several seeds. Every data set is read once, so that a random :obj:`transform`
    draws every cloud once. Of a cloud only :obj:`pos` and the labels are read: networks see no
    features, normals or colours.

    Args:
        train_set (Dataset): Labelled clouds, such as a :obj:`SyntheticPointCloudDataset`. For
            segmentation their items have parts :obj:`y [N]` and a :obj:`category`.
        test_set (Dataset): Labelled clouds of the same classes, never seen in training. Of clouds
            with one label each, either set may lack the last classes; a network has all of both.
        network (callable, optional): Makes a network from the number of classes, or from the
            numbers of parts and categories; the network takes a PyG batch and gives logits
            :obj:`[B, C]`, or :obj:`[ΣN, P]`. (default: that of the task, :obj:`PointNet` or
            :obj:`PointNetSegmentation`)
        protocol (Protocol): How it is trained. (default: :obj:`PAPER`, 500 epochs)
        seeds (int or sequence of int): The seeds, or how many of them, counted from 0. A seed
            fixes the initial network, the order of the clouds and the dropout on one device and
            number of threads. (default: :obj:`10`)
        device (torch.device, optional): Where to train. (default: where the training set lies)
        progress (bool): Whether to say on the error output what is going to be done, and to show a
            bar, which says after the first epoch how long it takes. (default: :obj:`True`)
        name (str, optional): What to call it in the bar, which then stands alone, as of one
            evaluation of many. (default: :obj:`"Evaluate"`)
        trainer (callable): Trains a network in place, such as
            :func:`~torch_geometric_ddp.coreset.watch`, which keeps what it sees of the training.
            What only wraps :func:`fit` says so by :obj:`functools.wraps`, and gets the points in
            the order that the network takes. (default: :func:`fit`)
        task (Task or str): :obj:`"classification"` or :obj:`"segmentation"`.
            (default: :obj:`"classification"`)
        workers (int): How many seeds are trained side by side, each by a process with one thread:
            on a CPU faster than one after the other with all threads. The figures are those of one
            thread. Every process imports the script that asks for it, which needs
            :obj:`if __name__ == "__main__":` around what it does. (default: :obj:`1`, no other
            process)
        together (int): How many seeds are trained in the operations of one, which saves a GPU
            most of the operations that it is asked for. Training clouds must have one size, and
            the network must be made of operations that :obj:`torch.func.vmap` supports: of those
            of this package only :class:`~torch_geometric_ddp.nn.PointNet` is. A seed is as it is
            alone but for rounding, and for dropout, which draws otherwise.
            (default: :obj:`1`)

    Returns:
        The :class:`Evaluation`.

    Raises:
        TypeError: If an item or an argument is of another type than said above, or :obj:`together`
            is above one and :obj:`network` has operations that cannot be taken for several.
        ValueError: If a set is empty, the classes of the two sets differ, a cloud or a label does
            not fit the task, no seed is given or one twice, or :obj:`workers` is below one, or
            above one and :obj:`network`, :obj:`trainer` or :obj:`protocol` cannot be sent to
            another process; if :obj:`together` is below one, or above one and :obj:`workers` is,
            too, :obj:`trainer` is not :func:`fit`, or training clouds have different sizes; or if
            the network gives a cloud another number of logits than there are classes.
        ChildProcessError: If another process dies.
        FloatingPointError: If a network diverges, so that its guesses would mean nothing: a loss is
            not finite, or the network makes NaN of a test cloud.
    """
    task, seeds = find_task(task), seed_list(seeds)
    check_dataset("train_set", train_set)
    check_dataset("test_set", test_set)
    check_protocol(protocol)
    check_maker("network", network)
    check_device("device", device)
    check_flag("progress", progress)
    check_text("name", name, optional=True)
    check_callable("trainer", trainer, optional=False)
    check_int("workers", workers)
    if check_int("together", together) > 1 and workers > 1:
        raise ValueError(f"'together' must be 1 where 'workers' is above 1, got {together}")
    if together > 1 and trainer is not fit:
        raise ValueError(f"'together' must be 1 with a 'trainer' of one's own, got {together}")
    train = task.read(train_set, device)
    test = task.read(test_set, train.device)
    sizes = task.network_sizes(train, test)
    make = task.network if network is None else network
    count, points = len(train), int(train.sizes.sum())
    train, test = (
        bank.normalize() if protocol.normalize else bank.unscaled() for bank in (train, test)
    )
    learning = Learning(task, make, sizes, train, test, protocol, trainer)
    scores = []
    if progress and name is None:
        tqdm.write(_plan(learning, len(seeds)), file=sys.stderr)
    total, title = len(seeds) * protocol.epochs_for(count), name or "Evaluate"
    with tqdm(total=total, desc=title, unit="epoch", disable=not progress) as bar:
        for one in learned(learning, seeds, bar, workers, together):
            scores.append(one)
            bar.set_postfix_str(percent(one.values))
    joined = type(scores[0]).join(scores)
    return Evaluation(joined, task.metric, seeds, protocol, count, points)


def _plan(learning: Learning, count: int) -> str:
    """What is going to be done for so many seeds, in a line."""
    protocol, clouds = learning.protocol, len(learning.train)
    epochs = protocol.epochs_for(clouds)
    steps = epochs * protocol.steps_per_epoch(clouds)
    networks = f"{count:,} network{'s' * (count > 1)} ({name_of(learning.make)})"
    return (
        f"To do: {networks} to train, protocol {protocol.name}: "
        f"{epochs:,} epoch{'s' * (epochs > 1)} of {clouds:,} clouds, "
        f"{steps:,} steps each; tested on {len(learning.test):,} clouds."
    )


def name_of(network: Callable[..., nn.Module]) -> str:
    """What makes a network, in a word."""
    make = getattr(network, "func", network)  # Of a partial.
    return str(getattr(make, "__name__", type(make).__name__))


def seed_list(seeds: int | Sequence[int]) -> list[int]:
    """The seeds, or as many as are asked for, from 0."""
    if isinstance(seeds, Tensor | np.ndarray) and seeds.ndim:  # Else a list of one seed counts.
        seeds = seeds.tolist()
    try:
        operator.index(seeds)  # type: ignore[arg-type]
    except TypeError:
        pass
    else:
        return list(range(check_int("seeds", seeds, maximum=_MOST_SEEDS)))
    if isinstance(seeds, str | bytes) or not isinstance(seeds, Iterable):
        raise TypeError(f"'seeds' must be a number or a sequence of integers, got {shown(seeds)}")
    seeds = [check_seed("seeds", seed) for seed in seeds]
    if not seeds:
        raise ValueError("'seeds' must hold at least one seed, got none")
    if len({*seeds}) < len(seeds):  # The same network twice says nothing of the spread.
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise ValueError(f"'seeds' must differ, got {twice} twice")
    return seeds
