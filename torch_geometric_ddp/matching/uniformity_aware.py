"""The uniformity-aware matching loss of DDP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch_geometric.data import Batch

from torch_geometric_ddp._checks import check_float, check_int
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.views import subset_uniformity, subsets_of, uniformity_of
from torch_geometric_ddp.matching.sadm import SADM
from torch_geometric_ddp.nn import Backbone


class UniformityAwareSADM(SADM):
    r"""Matches low-resolution synthetic clouds with low-resolution subsets of the real ones.

    Every real cloud is split into :math:`P` disjoint subsets as small as a synthetic cloud
    (:meth:`~torch_geometric_ddp.ops.farthest_point_partition`), and subsets which are spread less
    like the original count less:

    .. math::
        \mathcal{L}_c = \sum_{m=1}^{P} \frac{\eta_m}{\sum_j \eta_j}
        \operatorname{SADM}(C_m, D_s), \qquad
        \eta_m = \exp\!\left(-\lambda \left(\nu(D_o) - \nu(C_m)\right)^2\right)

    with :math:`\nu` the :meth:`~torch_geometric_ddp.ops.uniformity_score`, averaged over the
    drawn clouds of the class (DDP, ICLR 2026, uniformity-aware matching loss).

    Args:
        uniformity_lambda (float): The sharpness :math:`\lambda` of the penalty; 0 weighs all
            subsets alike. (default: :obj:`1000.0`, as in the published code)
        num_subsets (int, optional): The number of subsets :math:`P`. (default: as many as fit,
            :math:`\lfloor N_1 / N_2 \rfloor`)
        k (int): The number of neighbours of the uniformity score. (default: :obj:`16`)
        **kwargs: Further arguments of :class:`SADM`.

    Raises:
        TypeError: If :obj:`uniformity_lambda` is no number, or :obj:`num_subsets` or :obj:`k` no
            integer.
        ValueError: If :obj:`uniformity_lambda` is negative or not finite, :obj:`num_subsets` is
            below one or :obj:`k` below two.
    """

    def __init__(
        self,
        uniformity_lambda: float = 1000.0,
        num_subsets: int | None = None,
        k: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.uniformity_lambda = check_float("uniformity_lambda", uniformity_lambda)
        self.num_subsets = None if num_subsets is None else check_int("num_subsets", num_subsets)
        self.k = check_int("k", k, minimum=2)

    def prepare(
        self, bank: PointCloudBank, num_points: int, progress: bool = False
    ) -> dict[str, Tensor]:
        r"""The subsets of every cloud and the uniformity of both.

        Args:
            bank (PointCloudBank): The real clouds, all of one size :math:`N_1`.
            num_points (int): The number of points :math:`N_2` of a synthetic cloud.
            progress (bool): Whether to show the progress. (default: :obj:`False`)

        Returns:
            :obj:`subset_pos [n, P, N2, 3]` and, unless :math:`\lambda = 0`, :obj:`uniformity [n]`
            and :obj:`subset_uniformity [n, P]`.

        Raises:
            ValueError: If the clouds of :obj:`bank` have different sizes, :obj:`num_points` is
                above their size, :obj:`num_subsets` subsets need more points than they have, or
                their points are labelled, :obj:`grouped` is set and :obj:`top_weight` is above 0.
        """
        self.sorts_within_parts(bank.has_parts)
        size = bank.dense().size(1)
        num_subsets = self.num_subsets or size // num_points
        if num_subsets < 1:
            raise ValueError(
                f"synthetic clouds of {num_points} points cannot be matched with real clouds of "
                f"{size} points: a subset would have more points than the cloud"
            )
        shape = num_subsets, num_points
        out = {"subset_pos": bank.cached(subsets_of, *shape, progress=progress)}
        if self.uniformity_lambda > 0:  # Otherwise all subsets count alike, unseen.
            out["uniformity"] = bank.cached(uniformity_of, self.k, progress=progress)
            scores = bank.cached(subset_uniformity, *shape, self.k, progress=progress)
            out["subset_uniformity"] = scores
        return out

    def log_penalty(self, real: Mapping[str, Tensor]) -> Tensor:
        r"""The logarithm of the coefficients :math:`\eta` of the drawn clouds, :obj:`[C, P]`."""
        if self.uniformity_lambda == 0:
            subsets = real["subset_pos"]
            return subsets.new_zeros(subsets.size(0), subsets.size(2))
        gap = real["uniformity"].mean(dim=1, keepdim=True) - real["subset_uniformity"].mean(dim=1)
        return -self.uniformity_lambda * gap.square()

    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        """The loss of every class, :obj:`[C]`."""
        x, y = self.rows(network, real["subset_pos"].transpose(1, 2), synthetic)
        # The softmax normalises the penalty, also where every coefficient underflows.
        penalty = self.log_penalty(real).softmax(dim=1)
        return (penalty * self.discrepancy(x, y, network.point_channels)).sum(dim=1)
