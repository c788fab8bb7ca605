"""The evaluation of part segmentation: train from scratch on one set, test on another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.evaluation.classification import made_by, percent
from torch_geometric_ddp.evaluation.iou import PartIoU, part_iou, restrict
from torch_geometric_ddp.evaluation.protocol import PAPER, Protocol
from torch_geometric_ddp.evaluation.training import fit, seed_list, train_and_score
from torch_geometric_ddp.nn import PointNetSegmentation

__all__ = ["PartEvaluation", "evaluate_parts"]


@dataclass(frozen=True)
class PartEvaluation:
    """The mean intersections over union of several networks, one per seed.

    Args:
        instance (torch.Tensor): The mean over all test shapes (instance mIoU), :obj:`[S]`, in 0..1.
        per_category (torch.Tensor): The mean over those of every category, :obj:`[S, C]`; NaN
            without test shapes.
        class_names (list of str): The names of the categories.
        seeds (list of int): The seeds.
        protocol (Protocol): The protocol.
        num_clouds (int): The number of training clouds.
        num_points (int): The number of all their points.
    """

    instance: Tensor
    per_category: Tensor
    class_names: list[str]
    seeds: list[int]
    protocol: Protocol
    num_clouds: int
    num_points: int

    @property
    def category(self) -> Tensor:
        """The mean over the categories (class mIoU), :obj:`[S]`."""
        return self.per_category.nanmean(dim=1)

    @property
    def mean(self) -> float:
        """The mean instance mIoU over the seeds, in 0..1."""
        return float(self.instance.mean())

    @property
    def std(self) -> float:
        """The sample standard deviation of it over the seeds; NaN for a single seed."""
        return float(self.instance.std()) if len(self.instance) > 1 else float("nan")

    @classmethod
    def join(cls, evaluations: Sequence[PartEvaluation]) -> PartEvaluation:
        """One evaluation of several sets made alike, such as draws with different seeds."""
        return replace(
            evaluations[0],
            instance=torch.cat([evaluation.instance for evaluation in evaluations]),
            per_category=torch.cat([evaluation.per_category for evaluation in evaluations]),
            seeds=[seed for evaluation in evaluations for seed in evaluation.seeds],
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures and what they were made with, for JSON."""
        return {
            "instance": self.instance.tolist(),
            "category": self.category.tolist(),
            "per_category": [
                [None if value != value else value for value in row]
                for row in self.per_category.tolist()
            ],
            "class_names": self.class_names,
            "seeds": self.seeds,
            "protocol": self.protocol.to_dict(),
            "num_clouds": self.num_clouds,
            "num_points": self.num_points,
        }

    def __str__(self) -> str:
        means = f"{percent(self.instance)} instance, {percent(self.category)} class mIoU"
        return f"{means} ({made_by(self.protocol, self.seeds)})"


def evaluate_parts(
    train_set: Iterable[Data],
    test_set: Iterable[Data],
    network: Callable[[int, int], nn.Module] = PointNetSegmentation,
    protocol: Protocol = PAPER,
    seeds: int | Sequence[int] = 10,
    device: torch.device | str | None = None,
    progress: bool = True,
    name: str = "Evaluate",
) -> PartEvaluation:
    """Trains networks from scratch to segment the shapes of one set and tests them on another.

    As :func:`~torch_geometric_ddp.evaluation.evaluate`, with the cross-entropy of every point. A
    point is given the likeliest of the parts of its category, and a shape its
    :func:`~torch_geometric_ddp.evaluation.part_iou`.

    Args:
        train_set (Dataset): Clouds with :obj:`pos [N, 3]`, the parts :obj:`y [N]` and a
            :obj:`category`, such as a :obj:`SyntheticPointCloudDataset` distilled with
            :obj:`task="segmentation"`.
        test_set (Dataset): Clouds of the same categories and parts, never seen in training.
        network (callable): Makes a network from the numbers of parts and categories; the network
            takes a PyG batch and gives logits :obj:`[ΣN, P]`. (default:
            :obj:`PointNetSegmentation`)
        protocol (Protocol): How it is trained. (default: :obj:`PAPER`)
        seeds (int or sequence of int): The seeds, or how many of them, counted from 0.
            (default: :obj:`10`)
        device (torch.device, optional): Where to train. (default: where the training set lies)
        progress (bool): Whether to show the progress. (default: :obj:`True`)
        name (str): What to call it in the progress bar. (default: :obj:`"Evaluate"`)

    Returns:
        The :class:`PartEvaluation`.

    Raises:
        TypeError, ValueError: If a set is empty, the parts differ or a cloud or a label does not
            fit.
    """
    seeds = seed_list(seeds)
    train = LabelledBank.from_dataset(train_set, device)
    test = LabelledBank.from_dataset(test_set, train.device)
    if (train.class_names, train.space) != (test.class_names, test.space):
        raise ValueError(
            f"'train_set' and 'test_set' must have the same categories and parts, got "
            f"{train.class_names} with {train.space.part_names} and {test.class_names} with "
            f"{test.space.part_names}"
        )
    results: list[PartIoU] = []

    def score(model: nn.Module, test: PointCloudBank) -> str:
        results.append(PartIoU(_iou(model, test, train.space), test.y, test.num_classes))
        return f"{100 * results[-1].instance:.1f} % mIoU"

    train_and_score(
        train,
        test,
        lambda: network(*train.network_sizes),
        protocol,
        seeds,
        progress,
        name,
        fit,
        score,
    )
    return PartEvaluation(
        torch.tensor([result.instance for result in results]),
        torch.stack([result.per_category.cpu() for result in results]),
        train.class_names,
        seeds,
        protocol,
        len(train),
        int(train.sizes.sum()),
    )


def _iou(model: nn.Module, test: PointCloudBank, space: PartSpace) -> Tensor:
    """The intersection over union of every test shape, :obj:`[n]`."""
    values = []
    for batch in test.batches():
        guess = restrict(model(batch), batch.category, batch.ptr, space)
        values.append(part_iou(guess, batch.y, batch.ptr, batch.category, space))
    return torch.cat(values)
