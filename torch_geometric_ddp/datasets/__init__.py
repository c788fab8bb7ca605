"""Data sets of labelled point clouds, real and synthetic."""

from torch_geometric_ddp.datasets.arrays import PointCloudArrays
from torch_geometric_ddp.datasets.parametric_shapes import ParametricShapes
from torch_geometric_ddp.datasets.synthetic import SyntheticPointCloudDataset

__all__ = ["ParametricShapes", "PointCloudArrays", "SyntheticPointCloudDataset"]
