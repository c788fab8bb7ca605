"""Search for the settings of a method that a storage budget allows, by Optuna."""

from torch_geometric_ddp.tuning.artifacts import keep_artifacts
from torch_geometric_ddp.tuning.objective import Objective
from torch_geometric_ddp.tuning.packed_space import PackedSpace
from torch_geometric_ddp.tuning.pictures import LETTERS, plot_tuning, write_html
from torch_geometric_ddp.tuning.report import TuningResult
from torch_geometric_ddp.tuning.samplers import SAMPLERS, auto, gp, random_draws, tpe
from torch_geometric_ddp.tuning.space import SearchSpace, Space
from torch_geometric_ddp.tuning.study import tune

__all__ = [
    "LETTERS",
    "SAMPLERS",
    "Objective",
    "PackedSpace",
    "SearchSpace",
    "Space",
    "TuningResult",
    "auto",
    "gp",
    "keep_artifacts",
    "plot_tuning",
    "random_draws",
    "tpe",
    "tune",
    "write_html",
]
