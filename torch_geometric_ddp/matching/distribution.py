"""Distribution matching: the mean feature of the clouds of a class."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import Batch

from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.matching.base import Matching
from torch_geometric_ddp.nn import Backbone


class DistributionMatching(Matching):
    r"""Matches the mean pooled feature of the clouds of every class.

    .. math::
        \mathcal{L}_c = \left\| \frac{1}{|D_o|} \sum_{x \in D_o} \psi(x)
        - \frac{1}{|D_s|} \sum_{x \in D_s} \psi(x) \right\|^2

    with :math:`\psi` the feature after the global pool (DM, *Dataset Condensation with
    Distribution Matching*, WACV 2023, section 3). Real and synthetic clouds may differ in size.
    """

    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        """The loss of every class, :obj:`[C]`."""
        pos = real["pos"]
        with torch.no_grad():
            x = network.global_features(from_dense(pos.flatten(0, 1)))
        y = network.global_features(synthetic)
        x, y = (features.view(len(pos), -1, features.size(-1)).mean(dim=1) for features in (x, y))
        return (x - y).square().sum(dim=-1)
