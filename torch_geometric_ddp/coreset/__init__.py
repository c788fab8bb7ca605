"""Sets that are chosen from the real clouds instead of optimised."""

from torch_geometric_ddp.coreset.random import random_coreset

__all__ = ["random_coreset"]
