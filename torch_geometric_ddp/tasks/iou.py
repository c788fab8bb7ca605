"""The intersection over union of part segmentation, as ShapeNetPart defines it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_geometric_ddp._checks import check_int, check_tensor
from torch_geometric_ddp.clouds.part_space import PartSpace

__all__ = ["PartIoU", "part_iou", "restrict"]


def part_iou(pred: Tensor, y: Tensor, batch: Tensor, category: Tensor, space: PartSpace) -> Tensor:
    r"""The intersection over union of every shape, the mean over the parts of its category.

    .. math::
        \mathrm{IoU}_b = \frac{1}{|\mathcal{P}_b|} \sum_{p \in \mathcal{P}_b}
        \frac{|\{n : \hat{y}_n = p\} \cap \{n : y_n = p\}|}
        {|\{n : \hat{y}_n = p\} \cup \{n : y_n = p\}|}

    for the points :math:`n` of shape :math:`b` and the parts :math:`\mathcal{P}_b` of its category;
    a part that is neither predicted nor there counts as 1. From `"A Scalable Active Framework for
    Region Annotation in 3D Shape Collections" <https://doi.org/10.1145/2980179.2980238>`_ and
    `"PointNet" <https://arxiv.org/abs/1612.00593>`_, Section 5.1.

    Args:
        pred (torch.Tensor): The predicted part of every point, :obj:`[ΣN]` (integers). A part of
            another category is wrong and adds no part to the mean.
        y (torch.Tensor): The part of every point, :obj:`[ΣN]`, one of its category.
        batch (torch.Tensor): The shape of every point, :obj:`[ΣN]`, or the :obj:`ptr [B + 1]` of a
            PyG batch.
        category (torch.Tensor): The category of every shape, :obj:`[B]`.
        space (PartSpace): The parts of the categories.

    Returns:
        The values :obj:`[B]` in the default floating point type, from 0 to 1.

    Raises:
        TypeError: If one of them is no tensor, or does not hold integers.
        ValueError: If shapes do not fit, a number is out of range, a shape has no points or a
            label that is no part of its category.
    """
    category, batch = _check_shapes(category, batch, len(check_tensor("y", y, "ΣN")), space)
    pred = _check_range("pred", pred, len(batch), space.num_parts)
    y = _check_range("y", y, len(batch), space.num_parts)
    mask = space.mask(y.device)[category]
    known = mask[batch, y]
    if not bool(known.all()):
        first = int((~known).int().argmax())
        raise ValueError(
            f"'y' must hold parts of the category of the shape, got part {int(y[first])} in shape "
            f"{int(batch[first])} of category {int(category[batch[first]])}"
        )

    def counts(index: Tensor) -> Tensor:
        return torch.bincount(index, minlength=mask.numel()).view_as(mask)

    start = batch * space.num_parts
    both = counts((start + y)[pred == y])
    union = counts(start + pred) + counts(start + y) - both
    value = torch.where(union > 0, both / union, 1.0)
    return (value * mask).sum(dim=1) / mask.sum(dim=1)


def restrict(logits: Tensor, category: Tensor, batch: Tensor, space: PartSpace) -> Tensor:
    """The most likely part of every point among those of the category of its shape.

    Args:
        logits (torch.Tensor): The logits :obj:`[ΣN, P]`.
        category (torch.Tensor): The category of every shape, :obj:`[B]`.
        batch (torch.Tensor): The shape of every point, :obj:`[ΣN]`, or the :obj:`ptr [B + 1]` of a
            PyG batch.
        space (PartSpace): The parts of the categories.

    Returns:
        The parts :obj:`[ΣN]` (:obj:`int64`).

    Raises:
        TypeError: If one of them is no tensor, :obj:`logits` are not floating point, or
            :obj:`category` or :obj:`batch` do not hold integers.
        ValueError: If shapes do not fit or a number is out of range.
    """
    if check_tensor("logits", logits, "ΣN P").dim() != 2 or logits.size(1) != space.num_parts:
        raise ValueError(
            f"'logits' must have shape [ΣN, {space.num_parts}], got {list(logits.shape)}"
        )
    if not logits.is_floating_point():
        raise TypeError(f"'logits' must have a floating point dtype, got {logits.dtype}")
    category, batch = _check_shapes(category, batch, len(logits), space)
    mask = space.mask(logits.device)[category]
    # A part of the shape whose logit is infinite as well comes before those of others.
    logits = logits.clamp_min(torch.finfo(logits.dtype).min)
    return logits.masked_fill(~mask[batch], -float("inf")).argmax(dim=1)


@dataclass(frozen=True)
class PartIoU:
    """The intersections over union of many shapes, and the means that papers report.

    Args:
        iou (torch.Tensor): That of every shape, :obj:`[B]`, from :meth:`part_iou`.
        category (torch.Tensor): The category of every shape, :obj:`[B]`.
        num_categories (int): The number of categories :obj:`C`.

    Raises:
        TypeError: If one of them is no tensor, or :obj:`category` does not hold integers.
        ValueError: If there is no shape, shapes do not fit, or a category is out of range.
    """

    iou: Tensor
    category: Tensor
    num_categories: int

    def __post_init__(self) -> None:
        check_int("num_categories", self.num_categories)
        if check_tensor("iou", self.iou, "B").dim() != 1 or len(self.iou) == 0:
            raise ValueError(f"'iou' must have shape [B] with B > 0, got {list(self.iou.shape)}")
        _check_range("category", self.category, len(self.iou), self.num_categories)

    @property
    def instance(self) -> float:
        """The mean over all shapes (instance mIoU)."""
        return float(self.iou.mean())

    @property
    def per_category(self) -> Tensor:
        """The mean over the shapes of every category, :obj:`[C]`; NaN where there is none."""
        one_hot = F.one_hot(self.category.long(), self.num_categories).to(self.iou.dtype)
        return self.iou @ one_hot / one_hot.sum(dim=0)

    @property
    def category_mean(self) -> float:
        """The mean over the categories that have shapes (class mIoU)."""
        return float(self.per_category.nanmean())


def _check_range(name: str, value: Tensor, size: int, num: int) -> Tensor:
    """Returns :obj:`value` as indices if it holds :obj:`size` integers below :obj:`num`."""
    check_tensor(name, value, str(size))
    if value.is_floating_point() or value.dtype == torch.bool:
        raise TypeError(f"'{name}' must hold integers, got {value.dtype}")
    if list(value.shape) != [size]:
        raise ValueError(f"'{name}' must have shape [{size}], got {list(value.shape)}")
    low, high = value.aminmax()
    if int(low) < 0 or int(high) >= num:
        raise ValueError(f"'{name}' must lie in 0..{num - 1}, got {int(low)}..{int(high)}")
    return value.long()


def _check_shapes(
    category: Tensor, batch: Tensor, num_points: int, space: PartSpace
) -> tuple[Tensor, Tensor]:
    """The category of every shape and the shape of every point, from either form of these."""
    size = check_tensor("category", category, "B").numel()
    check_tensor("batch", batch, "ΣN")
    if size == 0 or num_points == 0:
        raise ValueError(f"there must be shapes with points, got {size} with {num_points} points")
    category = _check_range("category", category, size, space.num_categories)
    # Every 'ptr' ends with the number of points, which is the number of no shape.
    if batch.numel() == size + 1 and int(batch[-1]) == num_points:
        sizes = _check_range("batch", batch, size + 1, num_points + 1).diff()
        if int(batch[0]) or int(sizes.min()) < 0:
            raise ValueError(f"'batch' given as 'ptr' must rise from 0, got {batch.tolist()}")
        shapes = torch.arange(size, device=batch.device)
        batch = shapes.repeat_interleave(sizes)
    else:
        batch = _check_range("batch", batch, num_points, size)
        sizes = torch.bincount(batch, minlength=size)
    if int(sizes.min()) == 0:
        raise ValueError(f"every shape must have points, shape {int(sizes.argmin())} has none")
    return category, batch
