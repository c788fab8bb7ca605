"""The interface that every backbone shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.batching import Layout


class Backbone(nn.Module, ABC):
    r"""A classifier of point clouds whose per-point feature before the pool can be matched.

    A backbone takes a PyG batch (or a single :obj:`Data`), in :meth:`forward` for the logits and
    in :meth:`point_features` for what the matching losses compare. Neither depends on the order of
    the points of a cloud (but where the order decides between distances that are exactly equal),
    nor on the other clouds of the batch (other than by BatchNorm in training mode).

    Args:
        num_classes (int): The number of classes.
        point_channels (int): The width :math:`F` of the per-point feature.
    """

    #: Whether :meth:`point_features` has a row for every point, in their order. Networks that go
    #: from points to fewer centres say no: of a small cloud they give all points in another order.
    per_point: bool = True

    #: For how many centres it puts the points of a cloud in order
    #: (:meth:`~torch_geometric_ddp.ops.farthest_point_order`), where it does. Clouds that are seen
    #: many times, as in an evaluation, are then put in order once.
    num_ordered: int | None = None

    #: What makes logits of the :meth:`global_features`.
    head: Any

    def __init__(self, num_classes: int, point_channels: int) -> None:
        super().__init__()
        self.num_classes = check_int("num_classes", num_classes)
        self.point_channels = check_int("point_channels", point_channels)

    @abstractmethod
    def point_features(self, data: Data) -> Tensor:
        """The feature of every point before the global pool, :obj:`[ΣN, F]`.

        A network that goes from points to fewer centres gives a row per centre, cloud by cloud.
        Clouds of as many points have as many rows.
        """

    def _checked_features(self, data: Data) -> Tensor:
        """The point features, which are as many numbers as the network says."""
        whose = f"'point_features' of {type(self).__name__}"
        return check_features(self.point_features(data), self.point_channels, whose)

    def cloud_features(self, data: Data) -> Tensor:
        """The point features of clouds of one size, :obj:`[B, R, F]`.

        Raises:
            ValueError: If the clouds have not as many features each, or :meth:`point_features`
                gives none of :obj:`point_channels` numbers.
        """
        features, layout = self._checked_features(data), Layout.of(data)
        if layout.mask is not None or features.size(0) % layout.num_clouds:
            raise ValueError(
                f"{type(self).__name__} must give as many features for each of "
                f"{layout.num_clouds} clouds of one size, got {features.size(0)} for sizes up to "
                f"{layout.num_points}"
            )
        return features.unflatten(0, (layout.num_clouds, -1))

    def global_features(self, data: Data) -> Tensor:
        """The feature of every cloud after the global pool, the largest over its points.

        Networks that pool otherwise, or from centres of clouds of different sizes, have their own.
        """
        layout = Layout.of(data)
        if layout.mask is None:
            return self.cloud_features(data).amax(dim=1)
        features = self._checked_features(data)
        if len(features) != len(data.pos):
            raise ValueError(
                f"{type(self).__name__} must give a feature for each of {len(data.pos)} points of "
                f"clouds of different sizes, got {len(features)}"
            )
        return layout.dense(features).amax(dim=1)

    def cloud_layers(self, data: Data) -> list[Tensor]:
        """What the layers from the global pool on make of every cloud, each :obj:`[B, F]`.

        The global feature, and of networks that say more also the hidden layers of their head,
        without dropout.
        """
        return [self.global_features(data)]

    def forward(self, data: Data) -> Tensor:
        """The logits :obj:`[B, num_classes]`, what :attr:`head` makes of the global feature.

        Networks without such a head have a method of their own.
        """
        return self.head(self.global_features(data))


def check_features(out: object, channels: int, whose: str) -> Tensor:
    """Returns the features :obj:`[rows, channels]` that something gave, if these are such."""
    if not isinstance(out, Tensor) or out.dim() != 2 or out.size(1) != channels:
        what = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"{whose} must give [rows, {channels}], got {what}")
    return out
