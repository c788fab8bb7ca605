"""Matching losses: what is compared between the real and the synthetic set."""

from torch_geometric_ddp.matching.base import Matching
from torch_geometric_ddp.matching.discrepancy import mmd
from torch_geometric_ddp.matching.distribution import DistributionMatching
from torch_geometric_ddp.matching.gradient import GradientMatching
from torch_geometric_ddp.matching.kernel_regression import KernelRegression
from torch_geometric_ddp.matching.sadm import SADM
from torch_geometric_ddp.matching.sorting import sorted_features
from torch_geometric_ddp.matching.uniformity_aware import UniformityAwareSADM

__all__ = [
    "SADM",
    "DistributionMatching",
    "GradientMatching",
    "KernelRegression",
    "Matching",
    "UniformityAwareSADM",
    "mmd",
    "sorted_features",
]
