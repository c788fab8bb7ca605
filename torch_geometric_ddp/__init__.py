"""Data set distillation of 3D point clouds for PyTorch Geometric."""

__version__ = "0.1.0"

from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.datasets import (
    ParametricShapes,
    PointCloudArrays,
    SyntheticPointCloudDataset,
)
from torch_geometric_ddp.distill import distill
from torch_geometric_ddp.distillation import Distillation
from torch_geometric_ddp.evaluate import (
    CPU,
    PAPER,
    QUICK,
    SMOKE,
    Evaluation,
    Protocol,
    evaluate,
)
from torch_geometric_ddp.methods import Method

__all__ = [
    "CPU",
    "PAPER",
    "QUICK",
    "SMOKE",
    "Distillation",
    "Evaluation",
    "Method",
    "ParametricShapes",
    "PointCloudArrays",
    "Protocol",
    "StorageBudget",
    "SyntheticPointCloudDataset",
    "distill",
    "evaluate",
]
