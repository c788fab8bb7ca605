"""Backbones that take PyG batches and expose their per-point feature before the pool."""

from torch_geometric_ddp.nn.backbone import Backbone
from torch_geometric_ddp.nn.pointnet import PointNet
from torch_geometric_ddp.nn.pool import linear_max_pool

__all__ = ["Backbone", "PointNet", "linear_max_pool"]
