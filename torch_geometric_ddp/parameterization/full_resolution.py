"""Point clouds stored as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from torch_geometric_ddp._checks import check_int, check_points
from torch_geometric_ddp.parameterization.base import Parameterization, stored_tensor


class FullResolution(Parameterization):
    r"""Stores every synthetic cloud at full resolution, as coresets, DM, PCC and SADM do.

    Args:
        pos (torch.Tensor): The clouds :obj:`[C * K, N, 3]`, class by class.
        num_classes (int): The number of classes :math:`C`.
        lr (float): The default learning rate. (default: :obj:`10.0`, SADM's)
    """

    def __init__(self, pos: Tensor, num_classes: int, lr: float = 10.0) -> None:
        pos = check_points("pos", pos)
        num_classes = check_int("num_classes", num_classes)
        if len(pos) == 0 or len(pos) % num_classes != 0:
            raise ValueError(
                f"'pos' must hold as many clouds for each of {num_classes} classes, got {len(pos)}"
            )
        super().__init__(num_classes, len(pos) // num_classes)
        self.pos = nn.Parameter(pos.detach().clone())
        self.lr = lr

    def clouds(self, groups: slice = slice(None)) -> Tensor:
        """The clouds :obj:`[G, N, 3]` of the groups."""
        return self.pos[groups]

    def storage(self) -> dict[str, Tensor]:
        """The clouds :obj:`pos [C * K, N, 3]`."""
        return {"pos": self.pos.detach()}

    def config(self) -> dict[str, Any]:
        """Nothing beside the tensors."""
        return {}

    @classmethod
    def from_storage(
        cls, storage: Mapping[str, Tensor], config: Mapping[str, Any], num_classes: int, ppc: int
    ) -> Self:
        """Restores what :meth:`storage` describes."""
        return cls(stored_tensor(storage, "pos", (num_classes * ppc, None, 3)), num_classes)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The clouds."""
        return [{"params": [self.pos], "lr": self.lr}]

    def describe(self) -> str:
        """What is stored, in a few words for a person."""
        return f"FullResolution(C={self.num_classes}, K={self.ppc}, N={self.pos.size(1)})"
