"""Splits of a data set by class, with a fixed seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, Subset
from torch_geometric.data import Data, Dataset

from torch_geometric_ddp._checks import (
    check_dataset,
    check_float,
    check_seed,
    check_tensor,
    shown,
)
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.class_names import MOST_UNNAMED, names_of
from torch_geometric_ddp.clouds.reading import items, label_of

__all__ = ["check_share", "class_key", "hold_out", "redrawn", "stratified"]


def check_share(name: str, share: float) -> float:
    """Returns a share that can be held out, if this is one."""
    number = check_float(name, share, exclusive=True)
    if number >= 1:
        raise ValueError(f"'{name}' must lie between 0 and 1, got {share}")
    return number


def stratified(y: Tensor, share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Splits clouds in two, the second with about the same share of every class.

    Args:
        y (torch.Tensor): The labels :obj:`[n]`.
        share (float): The share that is held out, above 0 and below 1. Of a class of :obj:`k`
            clouds :obj:`share * k` are held out, rounded, and at most :obj:`k - 1`.
        seed (int): Fixes the choice. (default: :obj:`0`)

    Returns:
        The indices of the clouds that are kept and of those that are held out, each class by
        class, shuffled within.

    Raises:
        TypeError: If :obj:`y` is no tensor, :obj:`share` no number, or :obj:`seed` no integer.
        ValueError: If :obj:`y` has another shape or is no integers from 0, :obj:`share` does not
            lie between 0 and 1 or holds no cloud out, or :obj:`seed` is out of range.
    """
    share, y = check_share("share", share), _one_row(y)
    if y.is_floating_point() or y.dtype == torch.bool or (len(y) and int(y.min()) < 0):
        low = f" from {float(y.min()):g}" if len(y) else ""
        raise ValueError(f"'y' must be integers from 0, got {y.dtype}{low}")
    order = _shuffled(y, seed)
    y = y.unique(return_inverse=True)[1]  # Counting takes room for the largest label.
    counts = torch.bincount(y)
    rank = torch.arange(len(y)) - (counts.cumsum(0) - counts)[y[order]]
    quota = (share * counts).round().minimum((counts - 1).clamp_min(0))
    held = rank < quota[y[order]]
    if not bool(held.any()):
        raise ValueError(
            f"'share'={share} holds no cloud out of {len(y)} in {len(counts)} classes: choose a "
            "larger share"
        )
    return order[~held], order[held]


def redrawn(y: Tensor, seed: int = 0) -> Tensor:
    """Draws which cloud takes the place of which other one of its class.

    What splits hold of every class stays so when :obj:`split` becomes :obj:`split[redrawn(y)]`.

    Args:
        y (torch.Tensor): The labels :obj:`[n]`.
        seed (int): Fixes the choice. (default: :obj:`0`)

    Returns:
        A permutation :obj:`[n]` of the clouds, uniform among those that keep the labels.

    Raises:
        TypeError: If :obj:`y` is no tensor, or :obj:`seed` no integer.
        ValueError: If :obj:`y` has another shape, or :obj:`seed` is out of range.
    """
    y = _one_row(y)
    index = torch.empty(len(y), dtype=torch.long)
    index[_shuffled(y, seed)] = y.argsort(stable=True)
    return index


def hold_out(dataset: Any, share: float, seed: int = 0) -> tuple[Any, Any]:
    """Splits a data set in two by :meth:`stratified`, for the choice of settings.

    Args:
        dataset (Dataset, PointCloudBank or sequence): Items with one label :obj:`y`, or with one
            :obj:`category` and a part :obj:`y` for every point.
        share (float): The share that is held out.
        seed (int): Fixes the choice. (default: :obj:`0`)

    Returns:
        What is kept and what is held out, subsets of a PyG data set, banks of a bank, otherwise
        :class:`torch.utils.data.Subset`.

    Raises:
        TypeError: If :obj:`dataset` is no data set, :obj:`share` no number, or :obj:`seed` no
            integer.
        ValueError: If :obj:`dataset` holds no cloud or one without a label of its classes,
            :obj:`share` does not lie between 0 and 1 or holds no cloud out, or :obj:`seed` is out
            of range.
    """
    check_dataset("dataset", dataset)
    share = check_share("share", share)  # Before all is read.
    if isinstance(dataset, PointCloudBank):
        kept, held = stratified(dataset.y, share, seed)
        return dataset.select(kept), dataset.select(held)
    # What can only be gone through is used up once its labels are read.
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise TypeError(
            f"'dataset' must be a data set or a sequence whose items are numbered, got "
            f"{shown(dataset)}"
        )
    kept, held = stratified(_labels_of(dataset), share, seed)
    if isinstance(dataset, Dataset):
        return dataset[kept], dataset[held]
    return Subset(dataset, kept.tolist()), Subset(dataset, held.tolist())


def _labels_of(dataset: Any) -> Tensor:
    """The labels or categories of all items of a data set, checked as a bank would."""
    labels = [label_of(data, i, class_key(data)) for i, data in enumerate(items(dataset))]
    if not labels:
        raise ValueError("'dataset' must hold at least one cloud, got none")
    names = names_of(dataset)
    low, high = min(labels), max(labels)
    bound = MOST_UNNAMED if names is None else len(names)
    if low < 0 or high >= bound:
        raise ValueError(f"'dataset' must have labels in 0..{bound - 1}, got {low}..{high}")
    return torch.tensor(labels)


def class_key(data: Data) -> str:
    """Under which name an item has its class: its category, unless it has one label for itself."""
    y: Any = getattr(data, "y", None)
    pos = getattr(data, "pos", None)
    size = y.numel() if isinstance(y, Tensor) else np.size(y)
    one = y is not None and size == 1 and (pos is None or len(pos) != 1)
    return "category" if "category" in data and not one else "y"


def _one_row(y: Tensor) -> Tensor:
    if check_tensor("y", y, "n").dim() != 1:
        raise ValueError(f"'y' must have shape [n], got {list(y.shape)}")
    return y.cpu()


def _shuffled(y: Tensor, seed: int) -> Tensor:
    """The indices of the clouds class by class, shuffled within."""
    generator = torch.Generator().manual_seed(check_seed("seed", seed))
    order = torch.randperm(len(y), generator=generator)
    return order[y[order].argsort(stable=True)]
