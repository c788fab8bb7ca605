"""Codecs: how a tensor is stored in bits."""

from torch_geometric_ddp.parameterization.codecs.base import Codec, straight_through
from torch_geometric_ddp.parameterization.codecs.floats import (
    FLOAT32,
    Float16,
    Float32,
    Float64,
    float_codec,
)
from torch_geometric_ddp.parameterization.codecs.point_set import PointSet
from torch_geometric_ddp.parameterization.codecs.uniform import Uniform

__all__ = [
    "FLOAT32",
    "Codec",
    "Float16",
    "Float32",
    "Float64",
    "PointSet",
    "Uniform",
    "float_codec",
    "straight_through",
]
