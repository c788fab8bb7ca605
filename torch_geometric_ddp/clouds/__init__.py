"""Real clouds as tensors: banks, the parts of labelled clouds, and splits."""

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.clouds.splits import hold_out, redrawn, stratified

__all__ = [
    "LabelledBank",
    "PartSpace",
    "PointCloudBank",
    "hold_out",
    "redrawn",
    "stratified",
]
