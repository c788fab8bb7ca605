"""How a synthetic set is stored."""

from torch_geometric_ddp.parameterization.base import Parameterization
from torch_geometric_ddp.parameterization.full_resolution import FullResolution
from torch_geometric_ddp.parameterization.part_labels import PartLabels
from torch_geometric_ddp.parameterization.rotation import Rotation
from torch_geometric_ddp.parameterization.shape_morphing import ANCHOR_LR, ShapeMorphing

__all__ = [
    "ANCHOR_LR",
    "FullResolution",
    "Parameterization",
    "PartLabels",
    "Rotation",
    "ShapeMorphing",
]
