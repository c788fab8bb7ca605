"""Parameterizations and codecs: how a synthetic set is stored."""

from torch_geometric_ddp.parameterization.base import Parameterization
from torch_geometric_ddp.parameterization.codecs import (
    FLOAT32,
    Codec,
    Float16,
    Float32,
    Float64,
    PointSet,
    Uniform,
    straight_through,
)
from torch_geometric_ddp.parameterization.form import Form
from torch_geometric_ddp.parameterization.full_resolution import FullResolution
from torch_geometric_ddp.parameterization.mirrored import Mirrored
from torch_geometric_ddp.parameterization.part_labels import PartLabels
from torch_geometric_ddp.parameterization.point_mixup import PointMixup
from torch_geometric_ddp.parameterization.rotation import Rotation
from torch_geometric_ddp.parameterization.shape_morphing import ANCHOR_LR, ShapeMorphing

__all__ = [
    "ANCHOR_LR",
    "FLOAT32",
    "Codec",
    "Float16",
    "Float32",
    "Float64",
    "Form",
    "FullResolution",
    "Mirrored",
    "Parameterization",
    "PartLabels",
    "PointMixup",
    "PointSet",
    "Rotation",
    "ShapeMorphing",
    "Uniform",
    "straight_through",
]
