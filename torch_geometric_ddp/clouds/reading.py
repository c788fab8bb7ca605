"""Reading: the points and labels of the items of a data set, checked one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_ddp._checks import is_blurred

__all__ = ["items", "label_of", "read_clouds"]

T = TypeVar("T")


def read_clouds(
    dataset: Iterable[Data],
    label_of: Callable[[Data, int], T],
    device: torch.device | str | None,
    dtype: torch.dtype,
    progress: bool,
) -> tuple[Tensor, Tensor | None, Tensor, list[T]]:
    """Reads every cloud of a data set once.

    Args:
        dataset (Dataset or sequence): The items.
        label_of (callable): Gives the labels of an item and its number, checked.
        device (torch.device, optional): Where the clouds shall lie; :obj:`None` where they are.
        dtype (torch.dtype): The type of the points.
        progress (bool): Whether to show the progress.

    Returns:
        The points :obj:`[ΣN, 3]`, the same as they came if the type blurs a cloud, the sizes
        :obj:`[n]` and the labels of all clouds.
    """
    clouds, labels = [], []
    total = length_hint(dataset) or None  # A length may be asked for in vain.
    bar = tqdm(items(dataset), "Read", total, unit="cloud", disable=not progress)
    for i, data in enumerate(bar):
        clouds.append(_points_of(data, i))
        labels.append(label_of(data, i))
    if not clouds:
        raise ValueError("the data set must hold at least one cloud, got none")
    joined = torch.cat(clouds)
    pos = joined.to(device=device, dtype=dtype)
    blurred = any(is_blurred(cloud, dtype) for cloud in clouds)
    sizes = torch.tensor([len(cloud) for cloud in clouds], device=pos.device)
    return pos, joined.to(device) if blurred else None, sizes, labels


def items(dataset: Any) -> Iterator[Any]:
    """The items of a data set: where it only numbers them, as many as it says that it has.

    A loop over such a one ends where an item raises :class:`IndexError`, which it need not.
    """
    if hasattr(dataset, "__iter__") or not hasattr(dataset, "__len__"):
        return iter(dataset)
    return (dataset[i] for i in range(len(dataset)))


def _points_of(data: Data, i: int) -> Tensor:
    pos = getattr(data, "pos", None)
    if not isinstance(pos, Tensor) or pos.dim() != 2 or pos.size(-1) != 3:
        shape = list(pos.shape) if isinstance(pos, Tensor) else type(pos).__name__
        raise ValueError(f"'pos' of cloud {i} must be a tensor of shape [N, 3], got {shape}")
    if not pos.is_floating_point():
        raise TypeError(f"'pos' of cloud {i} must have a floating point type, got {pos.dtype}")
    return pos.detach()


def label_of(data: Data, i: int, name: str = "y") -> int:
    """The one label that item :obj:`i` of a data set has under a name, checked."""
    y: Any = getattr(data, name, None)
    has_type = isinstance(y, Tensor | np.ndarray | np.generic)
    value = y.item() if has_type and len(y.reshape(-1)) == 1 else y
    if isinstance(value, bool) or not isinstance(value, int):
        what = f"{y.dtype} of shape {list(y.shape)}" if has_type else repr(y)
        raise ValueError(f"'{name}' of cloud {i} must be one integer label, got {what}")
    return value
