"""The uniformity-aware matching loss of DDP."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch
from tqdm import tqdm

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_float, check_int
from torch_geometric_ddp.clouds.bank import BLOCK, PointCloudBank
from torch_geometric_ddp.matching.sadm import SADM
from torch_geometric_ddp.nn import Backbone


class UniformityAwareSADM(SADM):
    r"""Matches low-resolution synthetic clouds with low-resolution parts of the real ones.

    Every real cloud is split into :math:`P` disjoint parts as small as a synthetic cloud
    (:meth:`~torch_geometric_ddp.ops.farthest_point_partition`), and parts which are spread less
    like the original count less:

    .. math::
        \mathcal{L}_c = \sum_{m=1}^{P} \frac{\eta_m}{\sum_j \eta_j}
        \operatorname{SADM}(C_m, D_s), \qquad
        \eta_m = \exp\!\left(-\lambda \left(\nu(D_o) - \nu(C_m)\right)^2\right)

    with :math:`\nu` the :meth:`~torch_geometric_ddp.ops.uniformity_score`, averaged over the
    drawn clouds of the class (DDP, ICLR 2026, uniformity-aware matching loss).

    Args:
        uniformity_lambda (float): The sharpness :math:`\lambda` of the penalty; 0 weighs all
            parts alike. (default: :obj:`1000.0`, as in the published code)
        num_parts (int, optional): The number of parts :math:`P`. (default: as many as fit,
            :math:`\lfloor N_1 / N_2 \rfloor`)
        k (int): The number of neighbours of the uniformity score. (default: :obj:`16`)
        **kwargs: Further arguments of :class:`SADM`.
    """

    def __init__(
        self,
        uniformity_lambda: float = 1000.0,
        num_parts: int | None = None,
        k: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.uniformity_lambda = check_float("uniformity_lambda", uniformity_lambda)
        self.num_parts = None if num_parts is None else check_int("num_parts", num_parts)
        self.k = check_int("k", k, minimum=2)

    def config(self) -> dict[str, Any]:
        """What a reader of a distilled set needs to know to repeat it."""
        own = {"uniformity_lambda": self.uniformity_lambda, "num_parts": self.num_parts}
        return {**super().config(), **own, "k": self.k}

    def prepare(
        self, bank: PointCloudBank, num_points: int, progress: bool = False
    ) -> dict[str, Tensor]:
        r"""The parts of every cloud and the uniformity of both.

        Args:
            bank (PointCloudBank): The real clouds, all of one size :math:`N_1`.
            num_points (int): The number of points :math:`N_2` of a synthetic cloud.
            progress (bool): Whether to show the progress. (default: :obj:`False`)

        Returns:
            :obj:`part_pos [n, P, N2, 3]` and, unless :math:`\lambda = 0`, :obj:`uniformity [n]`
            and :obj:`part_uniformity [n, P]`.
        """
        self.sorts_within_parts(bank.space is not None)
        size = bank.dense().size(1)
        num_parts = self.num_parts or size // num_points
        if num_parts < 1:
            raise ValueError(
                f"synthetic clouds of {num_points} points cannot be matched with real clouds of "
                f"{size} points: a part would have more points than the cloud"
            )
        parts = bank.pos[bank.partition(num_parts, num_points, progress)]
        if self.uniformity_lambda == 0:  # All parts count alike, unseen.
            return {"part_pos": parts}
        pairs = zip(bank.dense().split(BLOCK), parts.split(BLOCK), strict=True)
        total = -(-len(parts) // BLOCK)
        scores = [
            (ops.uniformity_score(whole, self.k), ops.uniformity_score(part.flatten(0, 1), self.k))
            for whole, part in tqdm(pairs, "Uniformity", total, disable=not progress)
        ]
        whole, part = (torch.cat(values) for values in zip(*scores, strict=True))
        return {
            "part_pos": parts,
            "uniformity": whole,
            "part_uniformity": part.view(-1, num_parts),
        }

    def view_key(self, num_points: int) -> Hashable:
        """What :meth:`prepare` depends on beside the clouds."""
        k = self.k if self.uniformity_lambda > 0 else None
        return "parts", self.num_parts, num_points, k

    def log_penalty(self, real: Mapping[str, Tensor]) -> Tensor:
        r"""The logarithm of the coefficients :math:`\eta` of the drawn clouds, :obj:`[C, P]`."""
        if self.uniformity_lambda == 0:
            parts = real["part_pos"]
            return parts.new_zeros(parts.size(0), parts.size(2))
        gap = real["uniformity"].mean(dim=1, keepdim=True) - real["part_uniformity"].mean(dim=1)
        return -self.uniformity_lambda * gap.square()

    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        """The loss of every class, :obj:`[C]`."""
        x, y = self.rows(network, real["part_pos"].transpose(1, 2), synthetic)
        # The softmax normalises the penalty, also where every coefficient underflows.
        penalty = self.log_penalty(real).softmax(dim=1)
        return (penalty * self.discrepancy(x, y, network.point_channels)).sum(dim=1)
