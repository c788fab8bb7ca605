"""What is learned from clouds: the class of each, or the part of every point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch_geometric.data import Data

from torch_geometric_ddp.bank import PointCloudBank
from torch_geometric_ddp.labelled_bank import LabelledBank
from torch_geometric_ddp.nn import Backbone, PointNet, PointNetSegmentation

__all__ = ["Task", "default_network", "read_bank"]

Task = Literal["classification", "segmentation"]

_BANKS: dict[str, type[PointCloudBank]] = {
    "classification": PointCloudBank,
    "segmentation": LabelledBank,
}


def read_bank(dataset: Iterable[Data], task: Task, *args: Any, **kwargs: Any) -> PointCloudBank:
    """Reads a data set for a task.

    Args:
        dataset (Dataset): The data set.
        task (str): :obj:`"classification"` or :obj:`"segmentation"`.
        *args: Further arguments of :meth:`PointCloudBank.from_dataset`.
        **kwargs: The same by name.

    Raises:
        TypeError, ValueError: If the data or the task do not fit.
    """
    if task not in _BANKS:
        raise ValueError(f"'task' must be one of {list(_BANKS)}, got {task!r}")
    return _BANKS[task].from_dataset(dataset, *args, **kwargs)


def default_network(bank: PointCloudBank) -> Callable[..., Backbone]:
    """The network that sees these clouds unless another is asked for."""
    return PointNet if bank.space is None else PointNetSegmentation
