"""Point clouds stored as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from torch_geometric_ddp._checks import check_float, check_int, check_points
from torch_geometric_ddp.parameterization.base import Parameterization, stored_tensor
from torch_geometric_ddp.parameterization.part_labels import PartLabels
from torch_geometric_ddp.parameterization.rotation import Rotation


class FullResolution(Parameterization):
    r"""Stores every synthetic cloud at full resolution, as coresets, DM, PCC and SADM do.

    Args:
        pos (torch.Tensor): The clouds :obj:`[C * K, N, 3]`, class by class.
        num_classes (int): The number of classes :math:`C`.
        lr (float): The default learning rate. (default: :obj:`1.0`)
        rotation_lr (float, optional): The default learning rate of a turn of every cloud about the
            up axis (:class:`Rotation`). (default: no turns)
        labels (PartLabels, optional): The parts of the points, a row for each cloud or one for
            each class. (default: none)
    """

    def __init__(
        self,
        pos: Tensor,
        num_classes: int,
        lr: float = 1.0,
        rotation_lr: float | None = None,
        labels: PartLabels | None = None,
    ) -> None:
        pos = check_points("pos", pos)
        num_classes = check_int("num_classes", num_classes)
        if len(pos) == 0 or len(pos) % num_classes != 0:
            raise ValueError(
                f"'pos' must hold as many clouds for each of {num_classes} classes, got {len(pos)}"
            )
        super().__init__(num_classes, len(pos) // num_classes)
        self.pos = nn.Parameter(pos.detach().clone())
        self.lr = check_float("lr", lr)
        if rotation_lr is not None:
            self.rotation = Rotation(self.pos, rotation_lr)
        self.label_with(labels, pos.size(1), (1, self.ppc))

    def clouds(self, groups: slice = slice(None)) -> Tensor:
        """The clouds :obj:`[G, N, 3]` of the groups."""
        return self.turned(self.pos[groups], groups)

    def storage(self) -> dict[str, Tensor]:
        """The clouds :obj:`pos [C * K, N, 3]`, and their part labels if they have any."""
        return {"pos": self.turned(self.pos).detach(), **self._label_storage()}

    def config(self) -> dict[str, Any]:
        """Nothing beside the tensors, unless points are labelled."""
        return self._label_config()

    @classmethod
    def from_storage(
        cls, storage: Mapping[str, Tensor], config: Mapping[str, Any], num_classes: int, ppc: int
    ) -> Self:
        """Restores what :meth:`storage` describes."""
        pos = stored_tensor(storage, "pos", (num_classes * ppc, None, 3))
        return cls(pos, num_classes, labels=PartLabels.from_storage(storage, config))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The clouds, and their turns if they have any."""
        groups = [{"params": [self.pos], "lr": self.lr}]
        return groups + (self.rotation.parameter_groups() if self.rotation is not None else [])

    def describe(self) -> str:
        """What is stored, in a few words for a person."""
        return f"FullResolution(C={self.num_classes}, K={self.ppc}, N={self.pos.size(1)})"
