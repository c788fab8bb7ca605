"""Methods: a parameterization and a matching, by themselves and as they were published."""

from torch_geometric_ddp.methods.distilling import distill
from torch_geometric_ddp.methods.loop import SGD, Distillation
from torch_geometric_ddp.methods.method import Method
from torch_geometric_ddp.methods.published import METHODS, dc, ddp, dm, find_method, pcc, sadm
from torch_geometric_ddp.methods.storing import Storing, full_resolution, morphing, packed

__all__ = [
    "METHODS",
    "SGD",
    "Distillation",
    "Method",
    "Storing",
    "dc",
    "ddp",
    "distill",
    "dm",
    "find_method",
    "full_resolution",
    "morphing",
    "packed",
    "pcc",
    "sadm",
]
