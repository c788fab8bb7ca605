"""Sets that are chosen from the real clouds instead of optimised."""

from torch_geometric_ddp.coreset.difficulty import difficulty_quotas
from torch_geometric_ddp.coreset.forgetting import ForgettingEvents, forgetting_coreset
from torch_geometric_ddp.coreset.herding import herding_coreset
from torch_geometric_ddp.coreset.k_center import k_center_coreset
from torch_geometric_ddp.coreset.observation import Observation
from torch_geometric_ddp.coreset.point_mixup import point_mixup_coreset
from torch_geometric_ddp.coreset.random import random_coreset
from torch_geometric_ddp.coreset.selection import nearest_to_mean
from torch_geometric_ddp.coreset.watching import global_features, observe, watch

__all__ = [
    "ForgettingEvents",
    "Observation",
    "difficulty_quotas",
    "forgetting_coreset",
    "global_features",
    "herding_coreset",
    "k_center_coreset",
    "nearest_to_mean",
    "observe",
    "point_mixup_coreset",
    "random_coreset",
    "watch",
]
