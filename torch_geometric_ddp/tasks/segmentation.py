"""Part segmentation: the part of every point of a shape whose category is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from torch_geometric_ddp import ops
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.nn import SEGMENTERS, Backbone, PointNetSegmentation
from torch_geometric_ddp.parameterization import PartLabels
from torch_geometric_ddp.tasks.base import Scores, Task, json_numbers, logits_of
from torch_geometric_ddp.tasks.iou import PartIoU, part_iou, restrict

__all__ = ["MeanIoU", "Segmentation"]


@dataclass(frozen=True)
class MeanIoU(Scores):
    """The mean intersections over union that networks reached, as ShapeNetPart defines them.

    Args:
        class_names (list of str): The names of the categories.
        instance (torch.Tensor): The mean over all test shapes (instance mIoU), :obj:`[S]`, in 0..1.
        per_category (torch.Tensor): The mean over those of every category, :obj:`[S, C]`; NaN
            without test shapes.
    """

    instance: Tensor
    per_category: Tensor

    @property
    def values(self) -> Tensor:
        """The instance mIoU of every network, :obj:`[S]`."""
        return self.instance

    @property
    def per_class(self) -> Tensor:
        """The mIoU of every category, :obj:`[S, C]`; its mean is the class mIoU."""
        return self.per_category

    @classmethod
    def join(cls, scores: Iterable[Self]) -> Self:
        """The scores of several networks as one object."""
        scores = list(scores)
        return cls(
            scores[0].class_names,
            torch.cat([one.instance for one in scores]),
            torch.cat([one.per_category for one in scores]),
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {
            "instance": self.values.tolist(),
            "category": json_numbers(self.class_means),
            "per_category": json_numbers(self.per_category),
        }


class Segmentation(Task):
    """The part of every point: items with :obj:`pos [N, 3]`, parts :obj:`y [N]` and a category.

    The classes are the categories. A point is given the likeliest of the parts of its category.
    """

    name = "segmentation"
    metric = "instance mIoU"
    class_metric = "class mIoU"
    one_label = False
    bank_type = LabelledBank
    backbones = SEGMENTERS

    @property
    def network(self) -> Callable[..., Backbone]:
        """:class:`~torch_geometric_ddp.nn.PointNetSegmentation`."""
        return PointNetSegmentation

    def arrange(
        self, bank: PointCloudBank, num_points: int
    ) -> tuple[PointCloudBank, PartLabels | None]:
        """Clouds of :obj:`num_points` points as their category arranges them, and their parts."""
        bank = _labelled(bank)
        labels = PartLabels(bank.arrangement(num_points), bank.space).to(bank.device)
        return bank.arranged(num_points), labels

    def stored(self, bank: PointCloudBank) -> tuple[Tensor, PartLabels | None]:
        """The clouds with their points part by part, so that the lengths of the runs say all."""
        bank, pos = _labelled(bank), bank.dense()
        order = bank.part.view(len(bank), -1).argsort(dim=1, stable=True)
        return ops.gather_points(pos, order), PartLabels(bank.part_sizes(), bank.space)

    def check(self, bank: PointCloudBank, labels: PartLabels | None, num_points: int) -> None:
        """Refuses clouds without the parts of the real ones, or in another arrangement."""
        bank = _labelled(bank)
        if labels is None or labels.space != bank.space:
            theirs = "no parts" if labels is None else f"parts {list(labels.space.part_names)}"
            raise ValueError(
                "the points of synthetic clouds must be labelled with the parts of the real ones, "
                f"{list(bank.space.part_names)}, got {theirs}"
            )
        expected = PartLabels(bank.arrangement(num_points), bank.space)
        if not torch.equal(labels.part.cpu(), expected.part):
            raise ValueError(
                "synthetic clouds must be labelled in the arrangement of the real set "
                f"('bank.arrangement({num_points})'), one for every category"
            )

    def bank_of(self, batch: Batch, real: PointCloudBank) -> LabelledBank:
        """The clouds of a batch as a bank with the categories and parts of a real one."""
        real = _labelled(real)
        sizes = batch.ptr.diff()
        return LabelledBank(batch.pos, sizes, batch.category, real.class_names, batch.y, real.space)

    def network_sizes(self, train: PointCloudBank, test: PointCloudBank) -> tuple[int, ...]:
        """The numbers of parts and categories, which both sets must share."""
        if (train.class_names, train.space) != (test.class_names, test.space):
            raise ValueError(
                "'train_set' and 'test_set' must have the same categories and parts, got "
                f"{train.class_names} with {_names(train.space)} and {test.class_names} with "
                f"{_names(test.space)}"
            )
        return train.network_sizes

    def check_logits(self, logits: Any, sizes: tuple[int, ...]) -> None:
        """Refuses others than a number for every part at every point."""
        num, _ = sizes
        if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.size(1) != num:
            what = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"'network' must give logits of shape [ΣN, {num}], got {what}")

    def score(self, model: nn.Module, train: PointCloudBank, test: PointCloudBank) -> MeanIoU:
        """The :class:`MeanIoU` of a trained network."""
        space, values = _labelled(test).space, []
        sizes = self.network_sizes(train, test)
        for batch in test.batches():
            logits = logits_of(model, batch)
            self.check_logits(logits, sizes)
            guess = restrict(logits, batch.category, batch.ptr, space)
            values.append(part_iou(guess, batch.y, batch.ptr, batch.category, space))
        found = PartIoU(torch.cat(values), test.y, test.num_classes)
        instance = torch.tensor([found.instance])
        return MeanIoU(test.class_names, instance, found.per_category.cpu()[None])


def _labelled(bank: PointCloudBank) -> LabelledBank:
    """The bank, whose points must be labelled."""
    if not isinstance(bank, LabelledBank):
        raise ValueError("the points of the real clouds must be labelled with parts, got none")
    return bank


def _names(space: PartSpace | None) -> list[str]:
    return [] if space is None else list(space.part_names)
