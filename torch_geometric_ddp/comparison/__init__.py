"""Every method on one harness: the same data, storage, backbone, protocol and seeds."""

from torch_geometric_ddp.comparison.bars import plot_comparison
from torch_geometric_ddp.comparison.cells import Bench, Cell, Entry
from torch_geometric_ddp.comparison.class_incremental import ClassIncremental
from torch_geometric_ddp.comparison.controls import (
    CONTROL_FAMILIES,
    CONTROLS,
    Family,
    strongest_control,
)
from torch_geometric_ddp.comparison.curve import plot_bits
from torch_geometric_ddp.comparison.entries import (
    ENTRIES,
    Coreset,
    Distilled,
    DistilledFromMean,
    Initial,
    ObservedCoreset,
    Whole,
)
from torch_geometric_ddp.comparison.incremental_report import (
    average_accuracy,
    incremental_markdown,
    mean_forgetting,
    plot_increments,
)
from torch_geometric_ddp.comparison.lab import Lab
from torch_geometric_ddp.comparison.metrics import (
    Standing,
    dd_ranking_score,
    hard_label_recovery,
    improvement_over_random,
    share_of_whole,
)
from torch_geometric_ddp.comparison.paired import paired_differences, paired_markdown
from torch_geometric_ddp.comparison.presets import PRESETS, Preset
from torch_geometric_ddp.comparison.report import (
    Row,
    class_markdown,
    cost_markdown,
    markdown,
    pool_splits,
    summarize,
)
from torch_geometric_ddp.comparison.resolution import (
    CrossResolution,
    resolution_markdown,
    resolution_matrix,
)
from torch_geometric_ddp.comparison.sensitivity import Sensitivity
from torch_geometric_ddp.comparison.transfer import (
    TransferRow,
    plot_transfer,
    transfer_markdown,
    transfer_matrix,
)

__all__ = [
    "CONTROLS",
    "CONTROL_FAMILIES",
    "ENTRIES",
    "PRESETS",
    "Bench",
    "Cell",
    "ClassIncremental",
    "Coreset",
    "CrossResolution",
    "Distilled",
    "DistilledFromMean",
    "Entry",
    "Family",
    "Initial",
    "Lab",
    "ObservedCoreset",
    "Preset",
    "Row",
    "Sensitivity",
    "Standing",
    "TransferRow",
    "Whole",
    "average_accuracy",
    "class_markdown",
    "cost_markdown",
    "dd_ranking_score",
    "hard_label_recovery",
    "improvement_over_random",
    "incremental_markdown",
    "markdown",
    "mean_forgetting",
    "paired_differences",
    "paired_markdown",
    "plot_bits",
    "plot_comparison",
    "plot_increments",
    "plot_transfer",
    "pool_splits",
    "resolution_markdown",
    "resolution_matrix",
    "share_of_whole",
    "strongest_control",
    "summarize",
    "transfer_markdown",
    "transfer_matrix",
]
