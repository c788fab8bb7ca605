"""DGCNN, convolutions on graphs that are drawn anew in the space of the features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_ddp import edges
from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.nn.backbone import Backbone
from torch_geometric_ddp.nn.conv import EdgeConv, shared_mlp
from torch_geometric_ddp.nn.levels import Neighbors
from torch_geometric_ddp.nn.pool import max_pool, mean_pool

_LEAKY = {"act": "leaky_relu", "act_kwargs": {"negative_slope": 0.2}}


class DGCNN(Backbone):
    r"""DGCNN, from `"Dynamic Graph CNN for Learning on Point Clouds"
    <https://arxiv.org/abs/1801.07829>`_, Section 4.1 and the authors' PyTorch code.

    Four layers of :class:`torch_geometric.nn.EdgeConv` with 64, 64, 128 and 256 channels, each on
    the :obj:`k` nearest neighbours of every point among the features that the layer before gave
    it, and a shared layer 512-1024 on the outputs of all four (the feature that is matched, one
    row per point); maximum and mean over the points, and an MLP 512-256-:obj:`num_classes` with
    dropout 0.5. BatchNorm and leaky ReLU throughout. 1.81 million parameters for 40 classes.

    Args:
        num_classes (int): The number of classes.
        k (int): The number of neighbours, the point itself included; clouds with fewer points
            use all of them. (default: :obj:`20`)
    """  # noqa: D205

    def __init__(self, num_classes: int, k: int = 20) -> None:
        super().__init__(num_classes, point_channels=1024)
        self.k = check_int("k", k)
        widths = [(3, 64), (64, 64), (64, 128), (128, 256)]
        self.convs = nn.ModuleList(
            EdgeConv(shared_mlp(2 * a, b, bias=False, **_LEAKY)) for a, b in widths
        )
        self.mlp = shared_mlp(512, 1024, bias=False, **_LEAKY)
        self.head = shared_mlp(
            2048,
            512,
            256,
            num_classes,
            plain_last=True,
            dropout=[0.5, 0.5, 0.0],
            bias=[False, True, True],
            **_LEAKY,
        )

    def _points(self, data: Data, layout: Layout) -> Tensor:
        x, outs = data.pos, []
        for conv in self.convs:
            index = edges.knn(layout.dense(x), self.k, sizes=layout.sizes)
            x = conv(x, Neighbors(layout.flat(layout.rows(index))))
            outs.append(x)
        return self.mlp(torch.cat(outs, dim=1))

    def point_features(self, data: Data) -> Tensor:
        """The feature of every point before the global pools, :obj:`[ΣN, 1024]`."""
        return self._points(data, Layout.of(data))

    def global_features(self, data: Data) -> Tensor:
        """The maximum and the mean over the points of every cloud, :obj:`[B, 2048]`."""
        layout = Layout.of(data)
        x = self._points(data, layout)
        return torch.cat([max_pool(x, layout), mean_pool(x, layout)], dim=1)
