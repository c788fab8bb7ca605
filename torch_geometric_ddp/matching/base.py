"""What a matching loss is given, and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Batch

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.nn import Backbone


class Matching(nn.Module, ABC):
    r"""How far a synthetic set is from a real one, as a network sees them.

    A matching knows which views of the real clouds it needs (:meth:`prepare`, called once before
    the loop), and compares a draw of them with the synthetic clouds of the same classes
    (:meth:`forward`, called in every step). Classes never see each other, so that they may be
    computed in chunks or in several processes.
    """

    def prepare(
        self, bank: PointCloudBank, num_points: int, progress: bool = False
    ) -> dict[str, Tensor]:
        """Computes, once, what this matching compares of the real clouds.

        Args:
            bank (PointCloudBank): The real clouds, all of one size.
            num_points (int): The number of points of a synthetic cloud.
            progress (bool): Whether to show the progress. (default: :obj:`False`)

        Returns:
            Tensors with a first dimension of :obj:`n`, of which every step draws rows.
        """
        return {"pos": bank.dense()}

    def view_key(self, num_points: int) -> Hashable:
        """What :meth:`prepare` depends on beside the clouds, so that its work can be shared."""
        return "pos"

    @abstractmethod
    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        """The loss of every class, :obj:`[C]`.

        Args:
            network (Backbone): The network of the step.
            real (dict): The tensors of :meth:`prepare` for the drawn clouds, :obj:`[C, B, ...]`.
            synthetic (Batch): The synthetic clouds of the same classes, class by class, as many
                of each class, all of one size.
        """

    def config(self) -> dict[str, Any]:
        """What a reader of a distilled set needs to know to repeat it."""
        return {}
