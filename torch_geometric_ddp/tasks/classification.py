"""Classification: the class of every cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.class_names import agree, joined_names
from torch_geometric_ddp.nn import BACKBONES, Backbone, PointNet
from torch_geometric_ddp.parameterization import PartLabels
from torch_geometric_ddp.tasks.base import Scores, Task, json_numbers, logits_of

__all__ = ["Accuracy", "Classification"]


@dataclass(frozen=True)
class Accuracy(Scores):
    """The shares of test clouds that networks classified rightly.

    Args:
        class_names (list of str): The names of the classes.
        confusions (torch.Tensor): How often true class (row) was taken for class (column),
            :obj:`[S, C, C]` (:obj:`int64`), a table for every network.
    """

    confusions: Tensor

    @property
    def values(self) -> Tensor:
        """The overall accuracy of every network, :obj:`[S]` (:obj:`float64`), in 0..1."""
        rightly = self.confusions.diagonal(dim1=1, dim2=2).sum(dim=1)
        return rightly.double() / self.confusions.sum(dim=(1, 2))

    @property
    def per_class(self) -> Tensor:
        """The accuracy of every class, :obj:`[S, C]` (:obj:`float64`); NaN without test clouds."""
        return self.confusions.diagonal(dim1=1, dim2=2).double() / self.confusions.sum(dim=2)

    @property
    def confusion(self) -> Tensor:
        """The tables of all networks together, :obj:`[C, C]`."""
        return self.confusions.sum(dim=0)

    @classmethod
    def join(cls, scores: Iterable[Self]) -> Self:
        """The scores of several networks as one object."""
        scores = list(scores)
        return cls(scores[0].class_names, torch.cat([one.confusions for one in scores]))

    def to_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {
            "accuracy": self.values.tolist(),
            "class_accuracy": json_numbers(self.class_means),
            "confusion": self.confusion.tolist(),
        }


class Classification(Task):
    """The class of every cloud: items with :obj:`pos [N, 3]` and one label :obj:`y`."""

    name = "classification"
    metric = "accuracy"
    class_metric = "class accuracy"
    one_label = True
    backbones = BACKBONES

    @property
    def network(self) -> Callable[..., Backbone]:
        """:class:`~torch_geometric_ddp.nn.PointNet`."""
        return PointNet

    def arrange(
        self, bank: PointCloudBank, num_points: int
    ) -> tuple[PointCloudBank, PartLabels | None]:
        """The clouds as they are; their points have no labels."""
        return bank, None

    def stored(self, bank: PointCloudBank) -> tuple[Tensor, PartLabels | None]:
        """The clouds as they are."""
        return bank.dense(), None

    def check(self, bank: PointCloudBank, labels: PartLabels | None, num_points: int) -> None:
        """Refuses clouds whose points are labelled with parts."""
        if labels is not None or bank.space is not None:
            whose = "synthetic" if labels is not None else "real"
            raise ValueError(
                f"the points of the {whose} clouds are labelled with parts, which the task "
                f"'{self.name}' does not learn: use task='segmentation', or clouds without"
            )

    def bank_of(self, batch: Batch, real: PointCloudBank) -> PointCloudBank:
        """The clouds of a batch as a bank with the classes of a real one."""
        return PointCloudBank(batch.pos, batch.ptr.diff(), batch.y, real.class_names)

    def network_sizes(self, train: PointCloudBank, test: PointCloudBank) -> tuple[int, ...]:
        """The number of classes of both sets together; one of them may lack the last ones."""
        if not agree(train.class_names, test.class_names):
            raise ValueError(
                f"'train_set' and 'test_set' must have the same classes, got {train.class_names} "
                f"and {test.class_names}"
            )
        return (max(train.num_classes, test.num_classes),)

    def check_logits(self, logits: Any, sizes: tuple[int, ...]) -> None:
        """Refuses others than a number for every class."""
        (num,) = sizes
        if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.size(1) != num:
            what = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"'network' must give logits of shape [B, {num}], got {what}")

    def score(self, model: nn.Module, train: PointCloudBank, test: PointCloudBank) -> Accuracy:
        """The :class:`Accuracy` of a trained network."""
        (num,) = sizes = self.network_sizes(train, test)
        guesses = []
        for batch in test.batches():
            logits = logits_of(model, batch)
            self.check_logits(logits, sizes)
            guesses.append(logits.argmax(dim=1))
        guess = torch.cat(guesses)
        pairs = torch.bincount(test.y * num + guess, minlength=num**2)
        names = joined_names(train.class_names, test.class_names)
        return Accuracy(names, pairs.view(1, num, num).cpu())
