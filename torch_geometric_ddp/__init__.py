"""Data set distillation of 3D point clouds for PyTorch Geometric."""

from torch_geometric_ddp._version import __version__
from torch_geometric_ddp.budget import BudgetError, StorageBudget
from torch_geometric_ddp.datasets import (
    ParametricShapes,
    PointCloudArrays,
)
from torch_geometric_ddp.evaluation import (
    CPU,
    PAPER,
    QUICK,
    SMOKE,
    Evaluation,
    Protocol,
    evaluate,
)
from torch_geometric_ddp.methods import Distillation, Method, distill
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset

__all__ = [
    "CPU",
    "PAPER",
    "QUICK",
    "SMOKE",
    "BudgetError",
    "Distillation",
    "Evaluation",
    "Method",
    "ParametricShapes",
    "PointCloudArrays",
    "Protocol",
    "StorageBudget",
    "SyntheticPointCloudDataset",
    "__version__",
    "distill",
    "evaluate",
]
