"""PointNet for part segmentation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_float
from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.nn.conv import after_first, shared_mlp
from torch_geometric_ddp.nn.pool import linear_by_channel, linear_max_pool
from torch_geometric_ddp.nn.segmenter import Segmenter


class TransformNet(nn.Module):
    """A matrix for every cloud that its points are multiplied with.

    Args:
        channels (int): The channels of the points.
        shared (list of int): The channels of the shared layers, the last one before the maximum.
        head (list of int): The channels of the layers after the maximum.
        norm (str, optional): As that of :class:`PointNetSegmentation`.
    """

    def __init__(self, channels: int, shared: list[int], head: list[int], norm: str | None) -> None:
        super().__init__()
        self.mlp = shared_mlp(channels, *shared[:-1], norm=norm)
        self.lift = nn.Linear(shared[-2], shared[-1])
        self.head = shared_mlp(shared[-1], *head, channels**2, norm=norm, plain_last=True)

    def reset_to_identity(self) -> None:
        """Makes the matrix of every cloud the identity."""
        nn.init.zeros_(self.head.lins[-1].weight)
        nn.init.zeros_(self.head.lins[-1].bias)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """The points :obj:`[ΣN, K]` times the matrix of their cloud."""
        pooled = linear_max_pool(layout.dense(self.mlp(x)), self.lift).relu()
        matrix = self.head(pooled).view(-1, x.size(1), x.size(1))
        matrix = matrix + torch.eye(x.size(1), dtype=x.dtype, device=x.device)
        return layout.flat(torch.bmm(layout.dense(x), matrix))


class PointNetSegmentation(Segmenter):
    r"""PointNet for part segmentation, from `"PointNet: Deep Learning on Point Sets for 3D
    Classification and Segmentation" <https://arxiv.org/abs/1612.00593>`_, Appendix C, with the
    widths of the authors' code.

    An input transform net (shared MLP 64-128-1024, maximum, MLP 128-128-9), a shared MLP
    64-128-128, a feature transform net (256-1024, maximum, 512-256-128²), a shared MLP 512-2048
    and the maximum over the points. A shared MLP 256-256-128-:obj:`num_parts` with dropout on its
    first two layers takes the outputs 64, 128, 128, 512 and 2048 of every point, the maximum, and
    the category of the cloud as a one-hot vector. ReLU throughout, and BatchNorm unless
    :obj:`norm` is :obj:`None`.

    As in :class:`~torch_geometric_ddp.nn.PointNet`, the last layer before a maximum is linear,
    without BatchNorm: that of 2048 channels is the feature that is matched. Neither it nor what
    the head sees of a cloud is then computed point by point for the logits. The authors train with
    a classifier of the categories beside it and a term that keeps the feature transform near
    orthogonal; both are left out, and the transforms begin as the identity, as theirs do.

    Args:
        num_parts (int): The number of parts of all categories.
        num_categories (int): The number of categories.
        width (float): What all hidden channels are multiplied with; they are rounded, and at least
            8. (default: :obj:`1.0`, 8.0 million parameters for 50 parts of 16 categories)
        dropout (float): The dropout probability. (default: :obj:`0.3`; :obj:`0.2` in the authors'
            code)
        norm (str, optional): :obj:`"batch_norm"`, or :obj:`None` for none, as in the classifier of
            the DDP paper; the weights then begin by `"Delving Deep into Rectifiers"
            <https://arxiv.org/abs/1502.01852>`_. (default: :obj:`"batch_norm"`)
    """  # noqa: D205

    def __init__(
        self,
        num_parts: int,
        num_categories: int,
        width: float = 1.0,
        dropout: float = 0.3,
        norm: str | None = "batch_norm",
    ) -> None:
        width = check_float("width", width, exclusive=True)
        if norm not in ("batch_norm", None):
            raise ValueError(f"'norm' must be 'batch_norm' or None, got {norm!r}")

        def wide(*channels: int) -> list[int]:
            return [max(8, round(width * num)) for num in channels]

        first, last = wide(64, 128, 128), wide(512, 2048)
        super().__init__(num_parts, num_categories, point_channels=last[1])
        self.transform = TransformNet(3, wide(64, 128, 1024), wide(128, 128), norm)
        self.mlps = nn.ModuleList(shared_mlp(a, b, norm=norm) for a, b in pairwise([3, *first]))
        self.feature_transform = TransformNet(first[-1], wide(256, 1024), wide(512, 256), norm)
        self.mlp = shared_mlp(first[-1], last[0], norm=norm)
        self.lift = nn.Linear(last[0], last[1])
        #: What the head takes, the outputs of a point, of its cloud, and the category.
        self.channels = [*first, *last, last[1], num_categories]
        self.head = shared_mlp(
            sum(self.channels),
            *wide(256, 256, 128),
            num_parts,
            norm=norm,
            plain_last=True,
            dropout=[dropout, dropout, 0.0, 0.0],
        )
        if norm is None:
            # With torch's own beginning, ten layers without BatchNorm leave next to no signal.
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    nn.init.kaiming_normal_(parameter, nonlinearity="relu")
                else:
                    nn.init.zeros_(parameter)
        self.transform.reset_to_identity()
        self.feature_transform.reset_to_identity()

    def _points(self, data: Data, layout: Layout) -> list[Tensor]:
        """The outputs of all layers before the last, each :obj:`[ΣN, F]`."""
        outs = [self.transform(data.pos, layout)]
        for mlp in self.mlps:
            outs.append(mlp(outs[-1]))
        return [*outs[1:], self.mlp(self.feature_transform(outs[-1], layout))]

    def point_features(self, data: Data) -> Tensor:
        """The feature of every point before the global pool, :obj:`[ΣN, 2048]`."""
        return linear_by_channel(self._points(data, Layout.of(data))[-1], self.lift)

    def global_features(self, data: Data) -> Tensor:
        """The feature of every cloud, the largest over its points, :obj:`[B, 2048]`."""
        layout = Layout.of(data)
        return linear_max_pool(layout.dense(self._points(data, layout)[-1]), self.lift)

    def forward(self, data: Data) -> Tensor:
        """The logits :obj:`[ΣN, num_parts]`, in the order of the points."""
        layout = Layout.of(data)
        category = self.categories(data, layout)
        points = self._points(data, layout)
        pooled = linear_max_pool(layout.dense(points[-1]), self.lift)
        weight, bias = self.head.lins[0].weight, self.head.lins[0].bias
        *weights, lifted, of_cloud, of_category = weight.split(self.channels, dim=1)
        # Two linear layers in a row are one, which spares the points their widest feature.
        weights[-1] = weights[-1] + lifted @ self.lift.weight
        bias = bias + lifted @ self.lift.bias
        cloud = F.linear(pooled, of_cloud, bias) + of_category.T.index_select(0, category)
        hidden = F.linear(points[0], weights[0])
        for x, part in zip(points[1:], weights[1:], strict=True):
            hidden = hidden.addmm_(x.to(hidden.dtype), part.T.to(hidden.dtype))
        return after_first(self.head, layout.flat(layout.dense(hidden) + cloud[:, None]))
