"""What is compared between the real and the synthetic set."""

from torch_geometric_ddp.matching.base import Matching
from torch_geometric_ddp.matching.mmd import mmd
from torch_geometric_ddp.matching.sadm import SADM
from torch_geometric_ddp.matching.sorting import sorted_features
from torch_geometric_ddp.matching.uniformity_aware import UniformityAwareSADM

__all__ = ["SADM", "Matching", "UniformityAwareSADM", "mmd", "sorted_features"]
