"""The operations on clouds as PyG transforms."""

from torch_geometric_ddp.transforms.align_points import AlignPoints
from torch_geometric_ddp.transforms.farthest_point_partition import FarthestPointPartition
from torch_geometric_ddp.transforms.farthest_point_sample import FarthestPointSample
from torch_geometric_ddp.transforms.morph_anchors import MorphAnchors
from torch_geometric_ddp.transforms.normalize_sphere import NormalizeSphere
from torch_geometric_ddp.transforms.uniformity_score import UniformityScore

__all__ = [
    "AlignPoints",
    "FarthestPointPartition",
    "FarthestPointSample",
    "MorphAnchors",
    "NormalizeSphere",
    "UniformityScore",
]
