"""Data set distillation of 3D point clouds for PyTorch Geometric."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch_geometric_ddp._version import __version__

if TYPE_CHECKING:
    from torch_geometric_ddp.budget import BudgetError, StorageBudget, TooFewPointsError
    from torch_geometric_ddp.datasets import ParametricShapes, PointCloudArrays
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
    "TooFewPointsError",
    "__version__",
    "distill",
    "evaluate",
]

# Where each of them lies. They are loaded when they are first used, so that the command line can
# say what it offers without waiting for PyTorch.
_HOMES = {
    **dict.fromkeys(("BudgetError", "StorageBudget", "TooFewPointsError"), "budget"),
    **dict.fromkeys(("ParametricShapes", "PointCloudArrays"), "datasets"),
    **dict.fromkeys(("CPU", "PAPER", "QUICK", "SMOKE"), "evaluation"),
    **dict.fromkeys(("Evaluation", "Protocol", "evaluate"), "evaluation"),
    **dict.fromkeys(("Distillation", "Method", "distill"), "methods"),
    "SyntheticPointCloudDataset": "synthetic",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
