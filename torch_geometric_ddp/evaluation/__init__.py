"""Protocols, training, and what networks learn from a set."""

from torch_geometric_ddp.evaluation.augment import RandomRotation
from torch_geometric_ddp.evaluation.evaluating import Evaluation, evaluate, percent, seed_list
from torch_geometric_ddp.evaluation.protocol import CPU, PAPER, QUICK, SMOKE, Protocol
from torch_geometric_ddp.evaluation.repeating import (
    Repeated,
    network_of_figure,
    repeat_figure,
    told_figure,
)
from torch_geometric_ddp.evaluation.training import Trainer, fit

__all__ = [
    "CPU",
    "PAPER",
    "QUICK",
    "SMOKE",
    "Evaluation",
    "Protocol",
    "RandomRotation",
    "Repeated",
    "Trainer",
    "evaluate",
    "fit",
    "network_of_figure",
    "percent",
    "repeat_figure",
    "seed_list",
    "told_figure",
]
