"""Backbones that take PyG batches and expose their per-point feature before the pool."""

from torch_geometric_ddp.nn.backbone import Backbone
from torch_geometric_ddp.nn.dgcnn import DGCNN
from torch_geometric_ddp.nn.hooked import HookedBackbone
from torch_geometric_ddp.nn.point_mamba import PointMamba
from torch_geometric_ddp.nn.point_transformer import PointTransformer
from torch_geometric_ddp.nn.pointconv import PointConv
from torch_geometric_ddp.nn.pointnet import PointNet
from torch_geometric_ddp.nn.pointnet2 import PointNet2, PointNet2MSG, PointNet2SSG
from torch_geometric_ddp.nn.pointnet2_segmentation import PointNet2Segmentation
from torch_geometric_ddp.nn.pointnet_bn import PointNetBN
from torch_geometric_ddp.nn.pointnet_segmentation import PointNetSegmentation
from torch_geometric_ddp.nn.pool import linear_max_pool
from torch_geometric_ddp.nn.segmenter import Segmenter

#: The backbones of the papers, by name.
BACKBONES = {
    network.__name__: network
    for network in (
        PointNet,
        PointNetBN,
        PointNet2SSG,
        PointNet2MSG,
        DGCNN,
        PointConv,
        PointTransformer,
        PointMamba,
    )
}

#: The part segmentation networks, by name.
SEGMENTERS = {
    network.__name__: network for network in (PointNetSegmentation, PointNet2Segmentation)
}

__all__ = [
    "BACKBONES",
    "DGCNN",
    "SEGMENTERS",
    "Backbone",
    "HookedBackbone",
    "PointConv",
    "PointMamba",
    "PointNet",
    "PointNet2",
    "PointNet2MSG",
    "PointNet2SSG",
    "PointNet2Segmentation",
    "PointNetBN",
    "PointNetSegmentation",
    "PointTransformer",
    "Segmenter",
    "linear_max_pool",
]
