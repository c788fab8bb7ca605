"""What is learned from clouds: the class of each, or the part of every point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch_geometric.data import Data

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.nn import Backbone, PointNet, PointNetSegmentation
from torch_geometric_ddp.parameterization import PartLabels

__all__ = ["Task", "check_labels", "default_network", "read_bank"]

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


def check_labels(bank: PointCloudBank, labels: PartLabels | None, num_points: int) -> None:
    """Raises unless synthetic clouds have the parts of the real set, in its layout, or neither."""
    space = None if labels is None else labels.space
    if space != bank.space:
        raise ValueError(
            "synthetic clouds must be labelled with the parts of the real set if it has parts, "
            f"and else not, got {_parts(space)} for {_parts(bank.space)}"
        )
    if labels is None or not isinstance(bank, LabelledBank):
        return
    expected = PartLabels(bank.layout(num_points), bank.space)
    if not torch.equal(labels.part.cpu(), expected.part):
        raise ValueError(
            f"synthetic clouds must be labelled in the layout of the real set "
            f"('bank.layout({num_points})'), one for every category"
        )


def _parts(space: PartSpace | None) -> str:
    return "no parts" if space is None else f"parts {list(space.part_names)}"


def default_network(bank: PointCloudBank) -> Callable[..., Backbone]:
    """The network that sees these clouds unless another is asked for."""
    return PointNet if bank.space is None else PointNetSegmentation
