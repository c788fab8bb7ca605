"""Search for the settings of a method that a storage budget allows, by Optuna."""

from torch_geometric_ddp.tuning.objective import Objective
from torch_geometric_ddp.tuning.packed_space import PackedSpace
from torch_geometric_ddp.tuning.pictures import LETTERS, plot_tuning, write_html
from torch_geometric_ddp.tuning.report import TuningResult
from torch_geometric_ddp.tuning.space import SearchSpace, Space
from torch_geometric_ddp.tuning.study import tpe, tune

__all__ = [
    "LETTERS",
    "Objective",
    "PackedSpace",
    "SearchSpace",
    "Space",
    "TuningResult",
    "plot_tuning",
    "tpe",
    "tune",
    "write_html",
]
