"""Semantically aligned distribution matching: MMD between sorted per-point features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.matching.base import Matching
from torch_geometric_ddp.matching.mmd import mmd
from torch_geometric_ddp.matching.sorting import sorted_features
from torch_geometric_ddp.nn import Backbone


class SADM(Matching):
    r"""Semantically aligned distribution matching of real and synthetic clouds of one size.

    The per-point features of every cloud are sorted channel by channel, so that rows can be
    compared whatever the order of the points, and the class loss is :meth:`mmd` between the rows
    of the real and of the synthetic clouds (SADM, in the form that DDP, ICLR 2026, builds on).

    Args:
        absolute (bool): Whether the magnitude of the features is sorted, as DDP does.
            (default: :obj:`True`)
    """

    def __init__(self, absolute: bool = True) -> None:
        super().__init__()
        self.absolute = absolute

    def config(self) -> dict[str, Any]:
        """What a reader of a distilled set needs to know to repeat it."""
        return {"absolute": self.absolute}

    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        """The loss of every class, :obj:`[C]`; real clouds as full as the synthetic ones."""
        return mmd(*self.rows(network, real["pos"], synthetic))

    def rows(self, network: Backbone, real: Tensor, synthetic: Batch) -> tuple[Tensor, Tensor]:
        """One forward for all real clouds and one for all synthetic clouds, sorted.

        Args:
            network (Backbone): The network of the step.
            real (torch.Tensor): The real clouds :obj:`[C, ..., N, 3]`.
            synthetic (Batch): The synthetic clouds, class by class, of :obj:`N` points each.

        Returns:
            The rows :obj:`[C, ..., F * N]` and :obj:`[C, S, F * N]`.
        """
        size = synthetic.num_points
        if real.size(-2) != size:
            raise ValueError(
                f"sorted features compare clouds of one size, got real clouds of {real.size(-2)} "
                f"and synthetic clouds of {size} points"
            )
        with torch.no_grad():
            features = network.point_features(from_dense(real.flatten(0, -3)))
            features = features.unflatten(0, (-1, size))
            # Any row is as good: what all clouds have in common goes, their distances stay.
            shift = sorted_features(features[:1], self.absolute)[0]
            x = sorted_features(features, self.absolute, shift)
            del features
        y = network.point_features(synthetic).unflatten(0, (-1, size))
        y = sorted_features(y, self.absolute, shift)
        return x.view(*real.shape[:-2], -1), y.view(real.size(0), -1, y.size(-1))
