"""What every way of storing a synthetic set has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.budget import tensor_bits
from torch_geometric_ddp.parameterization.part_labels import PartLabels
from torch_geometric_ddp.parameterization.rotation import Rotation


class Parameterization(nn.Module, ABC):
    r"""How a synthetic set is stored, and how it unfolds into point clouds.

    Three things are kept apart: the *parameters* that are optimised, the *storage* that is
    written to disk and that the budget counts (:meth:`storage`), and the *clouds* that are
    trained on (:meth:`clouds`, or :meth:`forward` for a PyG batch).

    The clouds are ordered class by class, each class with :obj:`ppc` groups of
    :obj:`clouds_per_group` clouds, so that labels need no storage.

    Args:
        num_classes (int): The number of classes :math:`C`.
        ppc (int): The number of groups per class :math:`K`.
    """

    #: The number of clouds that one group unfolds to.
    clouds_per_group: int = 1

    def __init__(self, num_classes: int, ppc: int) -> None:
        super().__init__()
        self.num_classes = check_int("num_classes", num_classes)
        self.ppc = check_int("ppc", ppc)
        #: Learnable turns of the stored clouds, where a method has them. They cost no storage, for
        #: what is stored are the turned clouds.
        self.rotation: Rotation | None = None
        #: The parts of the points, where they are labelled.
        self.labels: PartLabels | None = None

    @abstractmethod
    def clouds(self, groups: slice = slice(None)) -> Tensor:
        """Unfolds groups to clouds, :obj:`[G * clouds_per_group, N, 3]`."""

    @abstractmethod
    def storage(self) -> dict[str, Tensor]:
        """The tensors that are written to disk, in the precision in which they are."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The few numbers beside the tensors that :meth:`from_storage` needs, as JSON."""

    @classmethod
    @abstractmethod
    def from_storage(
        cls, storage: Mapping[str, Tensor], config: Mapping[str, Any], num_classes: int, ppc: int
    ) -> Self:
        """Restores what :meth:`storage` and :meth:`config` describe.

        Raises:
            ValueError: If a tensor is missing or a shape or a value does not fit.
        """

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """The groups of parameters for an optimiser, with their default learning rates."""

    @abstractmethod
    def describe(self) -> str:
        """What is stored, in a few words for a person."""

    def forward(self, classes: slice = slice(None)) -> Batch:
        """Unfolds the clouds of some classes to a batch with :obj:`pos` and :obj:`y`.

        Labelled points have their part as :obj:`y [ΣN]`, and the clouds a :obj:`category [B]`.
        """
        start, stop, _ = classes.indices(self.num_classes)
        clouds = self.clouds(slice(start * self.ppc, stop * self.ppc))
        each = self.ppc * self.clouds_per_group
        y = torch.arange(start, stop, device=clouds.device).repeat_interleave(each)
        if self.labels is None:
            return from_dense(clouds, y=y)
        return from_dense(clouds, y=self.labels(start, stop, each).flatten(), category=y)

    def turned(self, pos: Tensor, groups: slice = slice(None)) -> Tensor:
        """Stored clouds of some groups, turned by :attr:`rotation` if there is one."""
        return pos if self.rotation is None else self.rotation(pos, groups)

    def label_with(
        self, labels: PartLabels | None, num_points: int, rows: tuple[int, ...] = (1,)
    ) -> None:
        """Labels the points of all clouds; see :attr:`labels`.

        Args:
            labels (PartLabels, optional): Their parts, or :obj:`None` for points without.
            num_points (int): The number of points of a cloud.
            rows (tuple of int): How many rows a category may have. (default: one)
        """
        if labels is not None:
            mine = (self.num_classes, num_points)
            theirs = (labels.space.num_categories, labels.num_points)
            if mine != theirs or labels.rows_per_class not in rows:
                raise ValueError(
                    f"'labels' must be {' or '.join(map(str, rows))} rows of {num_points} points "
                    f"for each of {self.num_classes} categories, got {labels.rows_per_class} of "
                    f"{labels.num_points} for {labels.space.num_categories}"
                )
        self.labels = labels

    def _label_storage(self) -> dict[str, Tensor]:
        return {} if self.labels is None else self.labels.storage()

    def _label_config(self) -> dict[str, Any]:
        return {} if self.labels is None else self.labels.config()

    def is_morph(self) -> Tensor:
        """Which clouds are computed from others rather than stored, a mask :obj:`[B]`."""
        return torch.zeros(self.num_clouds, dtype=torch.bool)

    @property
    def num_clouds(self) -> int:
        """The number of clouds of all classes."""
        return self.num_classes * self.ppc * self.clouds_per_group

    def storage_bits(self) -> int:
        """The bits of everything in :meth:`storage`."""
        return tensor_bits(self.storage())


def stored_tensor(
    storage: Mapping[str, Tensor], name: str, shape: tuple[int | None, ...]
) -> Tensor:
    """A tensor of a file, with its shape (:obj:`None` for any size) and its values checked."""
    if name not in storage:
        raise ValueError(f"the tensor '{name}' is missing, there is {sorted(storage)}")
    tensor = storage[name]
    fits = tensor.dim() == len(shape) and all(
        want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits or not tensor.is_floating_point():
        want = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(
            f"the tensor '{name}' must be floating point of shape [{want}], got {tensor.dtype} of "
            f"shape {list(tensor.shape)}"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"the tensor '{name}' must be finite, but holds NaN or infinite values")
    return tensor
