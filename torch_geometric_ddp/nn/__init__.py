"""Backbones that take PyG batches and expose their per-point feature before the pool."""

from torch_geometric_ddp.nn.backbone import Backbone
from torch_geometric_ddp.nn.dgcnn import DGCNN
from torch_geometric_ddp.nn.hooked import HookedBackbone
from torch_geometric_ddp.nn.point_mamba import PointMamba
from torch_geometric_ddp.nn.point_transformer import PointTransformer
from torch_geometric_ddp.nn.pointconv import PointConv
from torch_geometric_ddp.nn.pointnet import PointNet
from torch_geometric_ddp.nn.pointnet2 import PointNet2, PointNet2MSG, PointNet2SSG
from torch_geometric_ddp.nn.pool import linear_max_pool

#: The backbones of the papers, by name.
BACKBONES = {
    network.__name__: network
    for network in (
        PointNet,
        PointNet2SSG,
        PointNet2MSG,
        DGCNN,
        PointConv,
        PointTransformer,
        PointMamba,
    )
}

__all__ = [
    "BACKBONES",
    "DGCNN",
    "Backbone",
    "HookedBackbone",
    "PointConv",
    "PointMamba",
    "PointNet",
    "PointNet2",
    "PointNet2MSG",
    "PointNet2SSG",
    "PointTransformer",
    "linear_max_pool",
]
