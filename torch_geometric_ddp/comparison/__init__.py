"""Every method on one harness: the same data, storage, backbone, protocol and seeds."""

from torch_geometric_ddp.comparison.entries import (
    ENTRIES,
    Coreset,
    Distilled,
    DistilledFromMean,
    Entry,
    Initial,
    ObservedCoreset,
    Whole,
)
from torch_geometric_ddp.comparison.lab import PRESETS, Cell, Lab, Preset
from torch_geometric_ddp.comparison.report import Row, markdown, plot_comparison, summarize

__all__ = [
    "ENTRIES",
    "PRESETS",
    "Cell",
    "Coreset",
    "Distilled",
    "DistilledFromMean",
    "Entry",
    "Initial",
    "Lab",
    "ObservedCoreset",
    "Preset",
    "Row",
    "Whole",
    "markdown",
    "plot_comparison",
    "summarize",
]
