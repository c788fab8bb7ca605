"""Methods: a parameterization and a matching, by themselves and as they were published."""

from torch_geometric_ddp.methods.choosing import chosen_by_regression
from torch_geometric_ddp.methods.distilling import distill
from torch_geometric_ddp.methods.loop import Distillation
from torch_geometric_ddp.methods.method import Method
from torch_geometric_ddp.methods.networks import NetworkSource
from torch_geometric_ddp.methods.optimizers import SGD, AveragedSGD, cosine
from torch_geometric_ddp.methods.packed_regression import packed_count, packed_size, pkr
from torch_geometric_ddp.methods.published import dc, ddp, dm, pcc, sadm
from torch_geometric_ddp.methods.registry import METHODS, find_method
from torch_geometric_ddp.methods.storing import (
    CloudStoring,
    Storing,
    full_resolution,
    mirrored,
    morphing,
    packed,
)
from torch_geometric_ddp.methods.trained_networks import TrainedNetworks

__all__ = [
    "METHODS",
    "SGD",
    "AveragedSGD",
    "CloudStoring",
    "Distillation",
    "Method",
    "NetworkSource",
    "Storing",
    "TrainedNetworks",
    "chosen_by_regression",
    "cosine",
    "dc",
    "ddp",
    "distill",
    "dm",
    "find_method",
    "full_resolution",
    "mirrored",
    "morphing",
    "packed",
    "packed_count",
    "packed_size",
    "pcc",
    "pkr",
    "sadm",
]
