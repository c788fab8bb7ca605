"""Point Transformer, vector attention among neighbours."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import MLP

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.nn.backbone import Backbone
from torch_geometric_ddp.nn.conv import PointNetConv, PointTransformerConv, shared_mlp
from torch_geometric_ddp.nn.levels import Level, Neighbors
from torch_geometric_ddp.nn.pool import mean_pool


class _Block(nn.Module):
    """Vector attention between two linear layers, added to what comes in."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.lin_in = nn.Linear(channels, width)
        pos_nn, attn_nn = MLP([3, width, width], norm=None), MLP([width] * 3, norm=None)
        self.conv = PointTransformerConv(width, pos_nn, attn_nn)
        self.lin_out = nn.Linear(width, channels)

    def forward(self, x: Tensor, pos: Tensor, near: Neighbors) -> Tensor:
        return x + self.lin_out(self.conv(self.lin_in(x), pos, near))


class PointTransformer(Backbone):
    r"""Point Transformer, from `"Point Transformer" <https://arxiv.org/abs/2012.09164>`_,
    Section 3, for classification.

    Five stages of 32, 64, 128, 256 and 512 channels, on all points and on 256, 64, 16 and 4
    centres (a quarter each for 1,024 points): the maximum of a shared MLP with BatchNorm over the
    :obj:`k` nearest points of the stage before, and a residual block of vector attention among the
    :obj:`k` nearest centres (:class:`torch_geometric.nn.PointTransformerConv`). The mean over the
    last centres and an MLP 256-64-:obj:`num_classes` follow.

    The feature that is matched is that of the last centres, one row for each: 4, or as many as the
    cloud has points where it has fewer.

    Args:
        num_classes (int): The number of classes.
        k (int): The number of neighbours, the centre itself included; clouds with fewer points use
            all of them. (default: :obj:`16`)
        attention_channels (int, optional): The channels of the attention. (default: those of the
            stage, as in the paper; 3.5 million parameters for 40 classes. The code that
            distillation papers use has 512 in every stage: 9.6 million parameters, and on the
            first stage 256 times the multiplications. That code also divides the attention by the
            root of its channels before the softmax, which neither the paper nor this one does.)
    """  # noqa: D205

    per_point = False
    _CENTERS = (256, 64, 16, 4)
    num_ordered = _CENTERS[0]

    def __init__(
        self, num_classes: int, k: int = 16, attention_channels: int | None = None
    ) -> None:
        super().__init__(num_classes, point_channels=512)
        self.k = check_int("k", k)
        if attention_channels is not None:
            check_int("attention_channels", attention_channels)
        widths = [32 * 2**i for i in range(len(self._CENTERS) + 1)]
        self.lift = MLP([3, 32, 32], norm=None)
        self.blocks = nn.ModuleList(_Block(w, attention_channels or w) for w in widths)
        self.downs = nn.ModuleList(PointNetConv(shared_mlp(w // 2 + 3, w, w)) for w in widths[1:])
        self.head = MLP([widths[-1], 256, 64, num_classes], norm=None)

    def _centers(self, data: Data) -> tuple[Tensor, Level]:
        """The feature of every last centre, and their level."""
        level = Level.of(data, self._CENTERS[0])
        x = self.blocks[0](self.lift(level.pos), level.pos, level.knn(self.k))
        for num, down, block in zip(self._CENTERS, self.downs, self.blocks[1:], strict=True):
            centers = level.first(num)
            x = down(x, level.pos, centers.pos, level.knn(self.k, centers))
            level = centers
            x = block(x, level.pos, level.knn(self.k))
        return x, level

    def point_features(self, data: Data) -> Tensor:
        """The feature of every last centre before the global pool, :obj:`[ΣS, 512]`."""
        return self._centers(data)[0]

    def global_features(self, data: Data) -> Tensor:
        """The feature of every cloud, the mean over its last centres, :obj:`[B, 512]`."""
        x, level = self._centers(data)
        return mean_pool(x, level.layout)
