"""How a tensor is stored in bits."""

from torch_geometric_ddp.parameterization.codecs.base import Codec, straight_through
from torch_geometric_ddp.parameterization.codecs.floats import (
    FLOAT32,
    Float16,
    Float32,
    Float64,
    float_codec,
)

__all__ = [
    "FLOAT32",
    "Codec",
    "Float16",
    "Float32",
    "Float64",
    "float_codec",
    "straight_through",
]
