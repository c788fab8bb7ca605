"""PointMamba, a state space model on patches in the order of space-filling curves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import MLP

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.nn.backbone import Backbone
from torch_geometric_ddp.nn.conv import after_first, shared_mlp, take
from torch_geometric_ddp.nn.hilbert import hilbert_order
from torch_geometric_ddp.nn.levels import Level
from torch_geometric_ddp.nn.mamba import Mamba
from torch_geometric_ddp.nn.pool import group_max_pool, mean_pool


class PatchEncoder(nn.Module):
    """A small PointNet of two stages on every patch, from offsets to one feature."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = shared_mlp(3, 128, 256, plain_last=True)
        self.second = shared_mlp(512, 512, channels, plain_last=True)

    def forward(self, offset: Tensor) -> Tensor:
        """Offsets :obj:`[G, K, 3]` to the features of the patches :obj:`[G, channels]`."""
        x = self.first(offset.flatten(0, 1))
        whole = group_max_pool(x.view(*offset.shape[:2], -1))
        # What every point is told about its patch is multiplied once per patch.
        lin = self.second.lins[0]
        hidden = F.linear(x, lin.weight[:, 256:]).view(*offset.shape[:2], -1)
        hidden = hidden + F.linear(whole, lin.weight[:, :256], lin.bias)[:, None]
        hidden = after_first(self.second, hidden.flatten(0, 1))
        return group_max_pool(hidden.view(*offset.shape[:2], -1))


class PointMamba(Backbone):
    r"""PointMamba, from `"PointMamba: A Simple State Space Model for Point Cloud Analysis"
    <https://arxiv.org/abs/2402.10739>`_, Section 4, trained from scratch.

    A small PointNet with BatchNorm gives a token for every centre and its :obj:`group_size`
    nearest points. The tokens are put in the order of the Hilbert curve, and after them once more
    in that of the curve with its first two axes exchanged, each with its own scale and shift and
    with an embedding of the centre. :obj:`depth` residual blocks of LayerNorm and
    ``torch_geometric_ddp.nn.mamba.Mamba``, a last LayerNorm, the mean over all tokens, and
    an MLP 256-256-:obj:`num_classes` with dropout 0.5. 12.3 million parameters for 40 classes, as
    published. Nothing is pre-trained, and no block is dropped at random. Other than in the authors'
    code, layers start as torch starts them, and the curve has 1,024 cells along a cloud's side.

    The feature that is matched is that of the tokens, two rows per centre: 128 for clouds of at
    least 64 points, twice the number of points for smaller ones.

    Args:
        num_classes (int): The number of classes.
        channels (int): The channels of a token. (default: :obj:`384`)
        depth (int): The number of blocks. (default: :obj:`12`)
        num_centers (int): The number of centres; all points where a cloud has fewer.
            (default: :obj:`64`)
        group_size (int): The points of a patch. (default: :obj:`32`)
    """  # noqa: D205

    per_point = False

    def __init__(
        self,
        num_classes: int,
        channels: int = 384,
        depth: int = 12,
        num_centers: int = 64,
        group_size: int = 32,
    ) -> None:
        super().__init__(num_classes, point_channels=check_int("channels", channels))
        self.num_centers = self.num_ordered = check_int("num_centers", num_centers)
        self.group_size = check_int("group_size", group_size)
        self.encoder = PatchEncoder(channels)
        self.pos_embed = MLP([3, 128, channels], act="gelu", norm=None)
        self.order_scale = nn.Parameter(torch.empty(2, channels).normal_(1.0, 0.02))
        self.order_shift = nn.Parameter(torch.empty(2, channels).normal_(0.0, 0.02))
        blocks = [Mamba(channels) for _ in range(check_int("depth", depth))]
        for block in blocks:  # So that the sum of all blocks stays as large as one.
            block.out_proj.weight.data.div_(depth**0.5)
        self.blocks = nn.ModuleList(blocks)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in blocks)
        self.last_norm = nn.LayerNorm(channels)
        self.head = shared_mlp(
            channels, 256, 256, num_classes, plain_last=True, dropout=[0.5, 0.5, 0.0]
        )

    def _tokens(self, data: Data) -> tuple[Tensor, Layout]:
        """The feature of every token, cloud by cloud, and their layout."""
        points = Level.of(data, self.num_centers)
        centers = points.first(self.num_centers)
        near = points.knn(self.group_size, centers)
        token = self.encoder(take(points.pos, near.index) - centers.pos[:, None])
        place = self.pos_embed(centers.pos)
        order, curve, layout = _serialize(centers)
        x = take(token, order) * take(self.order_scale, curve) + take(self.order_shift, curve)
        x = x + take(place, order)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return layout.flat(self.last_norm(x)), layout

    def point_features(self, data: Data) -> Tensor:
        """The feature of every token before the global pool, :obj:`[2 ΣS, channels]`."""
        return self._tokens(data)[0]

    def global_features(self, data: Data) -> Tensor:
        """The feature of every cloud, the mean over its tokens, :obj:`[B, channels]`."""
        return mean_pool(*self._tokens(data))


def _serialize(centers: Level) -> tuple[Tensor, Tensor, Layout]:
    """The centres along both curves, one after the other.

    Returns:
        The rows of the centres and the number of the curve, both :obj:`[B, 2 * S]`, and the layout
        of the sequences.
    """
    layout, pos = centers.layout, centers.dense
    sizes = layout.sizes
    orders = [hilbert_order(pos, sizes), hilbert_order(pos[..., [1, 0, 2]], sizes)]
    steps = torch.arange(2 * layout.num_points, device=pos.device).expand(len(pos), -1)
    if sizes is None:
        curve = (steps >= layout.num_points).long()
        return layout.rows(torch.cat(orders, dim=1)), curve, Layout(len(pos), steps.size(1))
    # The second curve follows where the first ends, and what fills up comes after both.
    curve = (steps >= sizes[:, None]).long()
    step = (steps - curve * sizes[:, None]).clamp_max(layout.num_points - 1)
    order = torch.stack(orders, dim=1).flatten(1).gather(1, step + curve * layout.num_points)
    return layout.rows(order), curve, Layout.of_sizes(2 * sizes)
