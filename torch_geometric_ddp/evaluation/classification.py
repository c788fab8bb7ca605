"""The evaluation of classification: train from scratch on one set, test on another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.evaluation.protocol import PAPER, Protocol
from torch_geometric_ddp.evaluation.training import Trainer, fit, seed_list, train_and_score
from torch_geometric_ddp.nn import PointNet

__all__ = ["Evaluation", "evaluate", "made_by", "percent"]


@dataclass(frozen=True)
class Evaluation:
    """The accuracies of several networks, one per seed.

    Args:
        accuracy (torch.Tensor): The share of test clouds classified rightly after the last
            epoch, :obj:`[S]`, in 0..1.
        confusion (torch.Tensor): How often true class (row) is taken for class (column), summed
            over the seeds, :obj:`[C, C]` (:obj:`int64`).
        class_names (list of str): The names of the classes.
        seeds (list of int): The seeds.
        protocol (Protocol): The protocol.
        num_clouds (int): The number of training clouds.
        num_points (int): The number of all their points.
    """

    accuracy: Tensor
    confusion: Tensor
    class_names: list[str]
    seeds: list[int]
    protocol: Protocol
    num_clouds: int
    num_points: int

    @property
    def mean(self) -> float:
        """The mean accuracy over the seeds, in 0..1."""
        return float(self.accuracy.mean())

    @property
    def std(self) -> float:
        """The sample standard deviation over the seeds, in 0..1; NaN for a single seed."""
        return float(self.accuracy.std()) if len(self.accuracy) > 1 else float("nan")

    @property
    def class_accuracy(self) -> Tensor:
        """The accuracy of every class over all seeds, :obj:`[C]`; NaN without test clouds."""
        return self.confusion.diagonal() / self.confusion.sum(dim=1)

    @classmethod
    def join(cls, evaluations: Sequence[Evaluation]) -> Evaluation:
        """One evaluation of several sets made alike, such as draws with different seeds."""
        first = evaluations[0]
        return replace(
            first,
            accuracy=torch.cat([evaluation.accuracy for evaluation in evaluations]),
            confusion=torch.stack([evaluation.confusion for evaluation in evaluations]).sum(dim=0),
            seeds=[seed for evaluation in evaluations for seed in evaluation.seeds],
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures and what they were made with, for JSON."""
        return {
            "accuracy": self.accuracy.tolist(),
            "mean": self.mean,
            "std": self.std if len(self.accuracy) > 1 else None,
            "confusion": self.confusion.tolist(),
            "class_names": self.class_names,
            "seeds": self.seeds,
            "protocol": self.protocol.to_dict(),
            "num_clouds": self.num_clouds,
            "num_points": self.num_points,
        }

    def __str__(self) -> str:
        return f"{percent(self.accuracy)} ({made_by(self.protocol, self.seeds)})"


def percent(values: Tensor) -> str:
    """The mean and, of several values, the sample standard deviation, in percent."""
    spread = f" ± {100 * float(values.std()):.1f}" if len(values) > 1 else ""
    return f"{100 * float(values.mean()):.1f}{spread} %"


def made_by(protocol: Protocol, seeds: Sequence[int]) -> str:
    """The protocol and the number of seeds, which every figure is read with."""
    return f"{protocol.name} protocol, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def evaluate(
    train_set: Iterable[Data],
    test_set: Iterable[Data],
    network: Callable[[int], nn.Module] = PointNet,
    protocol: Protocol = PAPER,
    seeds: int | Sequence[int] = 10,
    device: torch.device | str | None = None,
    progress: bool = True,
    name: str = "Evaluate",
    trainer: Trainer = fit,
) -> Evaluation:
    r"""Trains networks from scratch on one set and tests them on another.

    The protocol of the papers (DDP, ICLR 2026, experiments): no augmentation, the accuracy after
    the last epoch, several seeds. Every data set is read once, so that a random :obj:`transform`
    draws every cloud once.

    Args:
        train_set (Dataset): Labelled clouds, such as a :obj:`SyntheticPointCloudDataset`.
        test_set (Dataset): Labelled clouds of the same classes, never seen in training.
        network (callable): Makes a network from the number of classes; the network takes a PyG
            batch and gives logits :obj:`[B, C]`. (default: :obj:`PointNet`)
        protocol (Protocol): How it is trained. (default: :obj:`PAPER`)
        seeds (int or sequence of int): The seeds, or how many of them, counted from 0. A seed
            fixes the initial network, the order of the clouds and the dropout on one device and
            number of threads. (default: :obj:`10`)
        device (torch.device, optional): Where to train. (default: where the training set lies)
        progress (bool): Whether to show the progress. (default: :obj:`True`)
        name (str): What to call it in the progress bar. (default: :obj:`"Evaluate"`)
        trainer (callable): Trains a network in place, such as
            :meth:`~torch_geometric_ddp.coreset.watch`, which keeps what it sees of the training.
            (default: :meth:`fit`)

    Returns:
        The :class:`Evaluation`.

    Raises:
        TypeError, ValueError: If a set is empty, the classes differ or a cloud or a label does not
            fit.
    """
    seeds = seed_list(seeds)
    train = PointCloudBank.from_dataset(train_set, device)
    test = PointCloudBank.from_dataset(test_set, train.device)
    pairs = zip(train.class_names, test.class_names, strict=False)
    # Classes without names are called by their numbers.
    if any(a != b and str(i) not in (a, b) for i, (a, b) in enumerate(pairs)):
        raise ValueError(
            f"'train_set' and 'test_set' must have the same classes, got {train.class_names} and "
            f"{test.class_names}"
        )
    num_classes = max(train.num_classes, test.num_classes)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.long)
    accuracy: list[float] = []

    def score(model: nn.Module, test: PointCloudBank) -> str:
        table = _confusion(model, test, num_classes)
        confusion.add_(table)
        accuracy.append(int(table.diagonal().sum()) / int(table.sum()))
        return f"{100 * accuracy[-1]:.1f} %"

    train_and_score(
        train, test, lambda: network(num_classes), protocol, seeds, progress, name, trainer, score
    )
    class_names = max(train.class_names, test.class_names, key=len)
    points = int(train.sizes.sum())
    scores = torch.tensor(accuracy, dtype=torch.float64)
    return Evaluation(scores, confusion, class_names, seeds, protocol, len(train), points)


def _confusion(model: nn.Module, test: PointCloudBank, num_classes: int) -> Tensor:
    guess = torch.cat([model(batch).argmax(dim=1) for batch in test.batches()])
    pairs = torch.bincount(test.y * num_classes + guess, minlength=num_classes**2)
    return pairs.view(num_classes, num_classes).cpu()
