"""Data sets of labelled point clouds, read or generated."""

from torch_geometric_ddp.datasets.arrays import PointCloudArrays
from torch_geometric_ddp.datasets.modelnet_hdf5 import ModelNetHDF5
from torch_geometric_ddp.datasets.modelnet_meshes import ModelNetMeshes
from torch_geometric_ddp.datasets.modelnet_resampled import ModelNetResampled
from torch_geometric_ddp.datasets.omni_object3d import OmniObject3D
from torch_geometric_ddp.datasets.parametric_shapes import ParametricShapes
from torch_geometric_ddp.datasets.part_arrays import PartArrays
from torch_geometric_ddp.datasets.registry import READERS, Reader, read_file, readers_of
from torch_geometric_ddp.datasets.scan_object_nn import ScanObjectNN
from torch_geometric_ddp.datasets.shapenet_core import ShapeNetCore
from torch_geometric_ddp.datasets.shapenet_part import ShapeNetPart

__all__ = [
    "READERS",
    "ModelNetHDF5",
    "ModelNetMeshes",
    "ModelNetResampled",
    "OmniObject3D",
    "ParametricShapes",
    "PartArrays",
    "PointCloudArrays",
    "Reader",
    "ScanObjectNN",
    "ShapeNetCore",
    "ShapeNetPart",
    "read_file",
    "readers_of",
]
