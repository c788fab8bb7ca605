"""Semantically aligned distribution matching: MMD between sorted per-point features."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import Batch

from torch_geometric_ddp._checks import check_flag, check_float
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.views import subsets_of
from torch_geometric_ddp.matching.base import Matching
from torch_geometric_ddp.matching.discrepancy import mmd_near_zero
from torch_geometric_ddp.matching.sorting import sorted_features
from torch_geometric_ddp.nn import Backbone

#: The features of the synthetic clouds of a class that are computed at once, half a GiB, and those
#: of a block where a class has more.
MOST_FEATURES, BLOCK_FEATURES = 1 << 27, 1 << 24


class SADM(Matching):
    r"""Semantically aligned distribution matching of real and synthetic clouds of one size.

    The per-point features of every cloud are sorted channel by channel, so that rows can be
    compared whatever the order of the points, and the class loss is :meth:`mmd` between the rows
    of the real and of the synthetic clouds (*Dataset Distillation of 3D Point Clouds via
    Distribution Matching*, NeurIPS 2025; DDP, ICLR 2026, builds on it). Beside all sorted values
    the largest of every channel may be matched by themselves, as SADM does:

    .. math::
        \mathcal{L}_c = w \operatorname{MMD}^2(X, Y) +
        w_{\mathrm{top}} \operatorname{MMD}^2(X_{\mathrm{top}}, Y_{\mathrm{top}})

    Args:
        absolute (bool): Whether the magnitude of the features is sorted, as DDP does; SADM sorts
            the features themselves. (default: :obj:`True`)
        weight (float): The weight :math:`w` of all sorted values; SADM has 2.
            (default: :obj:`1.0`)
        top_weight (float): The weight of the largest value of every channel; SADM has 1.
            (default: :obj:`0.0`)
        grouped (bool): Whether the features of labelled points are sorted within the parts of a
            cloud, so that parts are compared with their like; clouds without part labels have one
            part. (default: :obj:`True`)

    Raises:
        TypeError: If :obj:`weight` or :obj:`top_weight` is no number, or one of the others not true
            or false.
        ValueError: If one of them is negative or not finite.
    """

    def __init__(
        self,
        absolute: bool = True,
        weight: float = 1.0,
        top_weight: float = 0.0,
        grouped: bool = True,
    ) -> None:
        super().__init__()
        self.absolute = check_flag("absolute", absolute)
        self.grouped = check_flag("grouped", grouped)
        self.weight = check_float("weight", weight)
        self.top_weight = check_float("top_weight", top_weight)

    def prepare(
        self, bank: PointCloudBank, num_points: int, progress: bool = False
    ) -> dict[str, Tensor]:
        """The real clouds, sampled down to :obj:`num_points` where synthetic ones are smaller.

        Of clouds with labelled points, those of every part in the class's arrangement.

        Raises:
            ValueError: If the clouds of :obj:`bank` have different sizes, or their points are
                labelled, :obj:`grouped` is set and :obj:`top_weight` is above 0.
        """
        self.sorts_within_parts(bank.has_parts)
        if not bank.has_parts and bank.dense().size(1) <= num_points:
            return {"pos": bank.dense()}
        return {"pos": bank.cached(subsets_of, 1, num_points, progress=progress).squeeze(1)}

    def check(self, make: Callable[[], Backbone], bank: PointCloudBank) -> None:
        """Raises if features are sorted within parts, and networks have none of every point."""
        if self.sorts_within_parts(bank.has_parts) and not (network := make()).per_point:
            raise ValueError(
                f"features are sorted within parts only where every point has its own, but "
                f"{type(network).__name__} gives those of centres: match with grouped=False"
            )

    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        """The loss of every class, :obj:`[C]`."""
        x, y = self.rows(network, real["pos"], synthetic)
        return self.discrepancy(x, y, network.point_channels)

    def sorts_within_parts(self, labelled: bool) -> bool:
        """Whether features are sorted within parts, which labelled points have.

        Raises:
            ValueError: If they are, and :obj:`top_weight` is above 0.
        """
        if not (labelled and self.grouped):
            return False
        if self.top_weight > 0:
            raise ValueError(
                "the largest value of every channel is not known where features are sorted within "
                "parts: for segmentation 'top_weight' must be 0 or 'grouped' False, which the "
                f"published method has not, got {self.top_weight:g} and True"
            )
        return True

    def discrepancy(self, x: Tensor, y: Tensor, channels: int) -> Tensor:
        """The weighted :meth:`mmd` between sorted rows of so many channels."""
        loss = self.weight * mmd_near_zero(x, y)
        if self.top_weight == 0:
            return loss
        # In ascending order the largest value is the last of its channel.
        top = (rows.unflatten(-1, (channels, -1))[..., -1] for rows in (x, y))
        return loss + self.top_weight * mmd_near_zero(*top)

    def rows(self, network: Backbone, real: Tensor, synthetic: Batch) -> tuple[Tensor, Tensor]:
        """One forward for all real clouds and one for all synthetic clouds, sorted.

        Where points are labelled and :obj:`grouped`, they are sorted within their parts, which
        all clouds of a class have in the same arrangement.

        Args:
            network (Backbone): The network of the step.
            real (torch.Tensor): The real clouds :obj:`[C, ..., N, 3]`.
            synthetic (Batch): The synthetic clouds, class by class, of :obj:`N` points each.

        Returns:
            The rows :obj:`[C, ..., F * R]` and :obj:`[C, S, F * R]`, where the network gives
            :obj:`R` features of each cloud: one per point, or one per centre.

        Raises:
            ValueError: If :obj:`real` and :obj:`synthetic` have clouds of different sizes, or
                features are sorted within parts and :obj:`network` gives those of fewer centres.
        """
        size = synthetic.num_points
        if real.size(-2) != size:
            raise ValueError(
                f"sorted features compare clouds of one size, got real clouds of {real.size(-2)} "
                f"and synthetic clouds of {size} points"
            )
        theirs = ours = None
        if self.sorts_within_parts("category" in synthetic):
            ours = synthetic.y.view(-1, size)
            # All clouds of a class have the same part at the same place.
            part = ours.view(real.size(0), -1, size)[:, 0]
            theirs = part.view(len(part), *[1] * (real.dim() - 3), size)
            theirs = theirs.expand(real.shape[:-1]).reshape(-1, size)
        with torch.no_grad():
            features = network.cloud_features(from_dense(real.flatten(0, -3)))
            if theirs is not None and not (network.per_point and features.size(1) == size):
                raise ValueError(
                    f"features are sorted within parts only where every point has its own, but "
                    f"{type(network).__name__} gives those of {features.size(1)} centres for "
                    f"{size} points: match with grouped=False"
                )
            # Any row is as good: what all clouds have in common goes, their distances stay.
            first = None if theirs is None else theirs[:1]
            shift = sorted_features(features[:1], self.absolute, group=first)[0]
            x = sorted_features(features, self.absolute, shift, theirs)
            del features
        if len(synthetic.pos) * network.point_channels > MOST_FEATURES * real.size(0):
            y = self._block_by_block(network, synthetic.pos.view(-1, size, 3), shift, ours)
        else:
            y = sorted_features(network.cloud_features(synthetic), self.absolute, shift, ours)
        return x.view(*real.shape[:-2], -1), y.view(real.size(0), -1, y.size(-1))

    def _block_by_block(
        self, network: Backbone, pos: Tensor, shift: Tensor, part: Tensor | None
    ) -> Tensor:
        """The sorted features of clouds :obj:`[B, N, 3]`, of some at a time.

        Only the sorted rows are kept. The backward pass computes every block again.
        """
        num = max(1, BLOCK_FEATURES // (pos.size(1) * network.point_channels))
        parts = [None] * len(pos.split(num)) if part is None else part.split(num)

        def rows(some: Tensor, group: Tensor | None) -> Tensor:
            features = network.cloud_features(from_dense(some))
            return sorted_features(features, self.absolute, shift, group)

        pairs = zip(pos.split(num), parts, strict=True)
        return torch.cat([checkpoint(rows, *pair, use_reentrant=False) for pair in pairs])
