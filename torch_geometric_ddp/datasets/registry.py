"""Every source of labelled clouds by name, for the programs that let a person choose one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch_geometric.data import InMemoryDataset

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.datasets._formats import folders
from torch_geometric_ddp.datasets._sampling import Sampling
from torch_geometric_ddp.datasets.arrays import PointCloudArrays
from torch_geometric_ddp.datasets.modelnet_hdf5 import ModelNetHDF5
from torch_geometric_ddp.datasets.modelnet_meshes import ModelNetMeshes
from torch_geometric_ddp.datasets.modelnet_resampled import ModelNetResampled
from torch_geometric_ddp.datasets.omni_object3d import OmniObject3D
from torch_geometric_ddp.datasets.parametric_shapes import ParametricShapes
from torch_geometric_ddp.datasets.part_arrays import PartArrays
from torch_geometric_ddp.datasets.scan_object_nn import ScanObjectNN
from torch_geometric_ddp.datasets.shapenet_core import ShapeNetCore
from torch_geometric_ddp.datasets.shapenet_part import ShapeNetPart
from torch_geometric_ddp.transforms import NormalizeSphere

__all__ = ["READERS", "Reader", "read_file", "readers_of"]

Root = str | os.PathLike[str]
_TASKS = ("classification", "segmentation")


@dataclass(frozen=True)
class Reader:
    r"""A source of labelled clouds: what a program must know to offer it, and how to read it.

    All that programs need of a data set is here, so that what they offer as :obj:`--dataset` is
    what :data:`READERS` holds:

    .. code-block:: python

        from torch_geometric_ddp.datasets import READERS, read_file, readers_of

        readers_of("segmentation")  # ['shapes', 'shapenetpart']
        train, test = READERS["modelnet10"].load(root="data")
        train, test = READERS["shapes"].load(task="segmentation", num_per_class=50)
        train, test = read_file("clouds.npz", num_points=1024)

    Args:
        help (str): What it is, in a line.
        read (callable): Makes one split, :obj:`read(root, train, task, num_points, **options)`,
            where :obj:`train` says which of the two.
        tasks (tuple of str): Of :obj:`"classification"` and :obj:`"segmentation"` those that it
            has labels for. (default: the first)
        num_points (int, optional): The points of a cloud where none are asked for, or
            :obj:`None` for all that there are. (default: :obj:`1024`)
        options (tuple of str): The names of what :meth:`load` takes beside the arguments that
            all readers share. (default: none)
        downloads (bool): Whether what is missing is downloaded. (default: :obj:`False`)
        needs_root (bool): Whether there is anything on a disk. (default: :obj:`True`)
        is_file (bool): Whether :obj:`root` is a file or folder of the user's own.
            (default: :obj:`False`)
    """

    help: str
    read: Callable[..., InMemoryDataset]
    tasks: tuple[str, ...] = ("classification",)
    num_points: int | None = 1024
    options: tuple[str, ...] = ()
    downloads: bool = False
    needs_root: bool = True
    is_file: bool = False

    def load(
        self,
        root: Root | None = None,
        num_points: int | None = None,
        task: str = "classification",
        **options: Any,
    ) -> tuple[InMemoryDataset, InMemoryDataset]:
        """The training and the test set.

        Published clouds are centred and scaled to the unit ball where the literature does so.

        Args:
            root (str or path, optional): The folder where the files lie, or are downloaded to; of
                the readers of files, the file or folder itself. Not needed where the data is
                generated.
            num_points (int, optional): The points of each cloud. (default: :attr:`num_points`)
            task (str): What the labels are for, one of :attr:`tasks`.
                (default: :obj:`"classification"`)
            **options: Those named in :attr:`options`; :obj:`None` is as good as none, so that a
                program may hand on what was not given.

        Raises:
            FileNotFoundError: If a file is missing.
            TypeError, ValueError: If an argument does not fit, or a file is damaged.
        """
        if task not in self.tasks:
            raise ValueError(f"'task' must be one of {self.tasks} for this data set, got {task!r}")
        if root is None and self.needs_root:
            raise ValueError("'root' must be the place of the data set, got None")
        if num_points is not None:
            check_int("num_points", num_points)
        given = {name: value for name, value in options.items() if value is not None}
        for name in given:
            if name not in self.options:
                raise TypeError(f"'{name}' must be one of {self.options}: this data set has none")
        points = self.num_points if num_points is None else num_points
        train, test = (self.read(root, train, task, points, **given) for train in (True, False))
        return train, test


def readers_of(task: str, files: bool = False) -> list[str]:
    """The names in :data:`READERS` that serve a task, with or without those for own files.

    Args:
        task (str): :obj:`"classification"` or :obj:`"segmentation"`.
        files (bool): Whether to name the readers of files, too. (default: :obj:`False`)
    """
    if task not in _TASKS:
        raise ValueError(f"'task' must be one of {_TASKS}, got {task!r}")
    return [
        name
        for name, reader in READERS.items()
        if task in reader.tasks and (files or not reader.is_file)
    ]


def read_file(
    path: Root, task: str = "classification", num_points: int | None = None, **options: Any
) -> tuple[InMemoryDataset, InMemoryDataset]:
    """The training and the test set of a file or folder of the user's own.

    Args:
        path (str or path): An :obj:`.npz` file, as :meth:`PointCloudArrays.from_npz` or, for
            segmentation, :meth:`PartArrays.from_npz` reads it; or a folder with :obj:`train` and
            :obj:`test`, each as :meth:`PointCloudArrays.from_folder` reads it.
        task (str): What the labels are for, :obj:`"classification"` or :obj:`"segmentation"`.
            (default: :obj:`"classification"`)
        num_points (int, optional): The points to keep of each cloud, by farthest point sampling.
            (default: all)
        **options: For segmentation :obj:`categories` and :obj:`resplit`, as
            :meth:`PartArrays.from_npz` has them.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        TypeError, ValueError: If an argument does not fit, or a file is damaged.
    """
    reader = READERS["folder" if Path(path).is_dir() else "npz"]
    return reader.load(path, num_points, task, **options)


def _shapes(
    root: Root | None, train: bool, task: str, num_points: int, num_per_class: int = 100
) -> InMemoryDataset:
    check_int("num_per_class", num_per_class)
    size = num_per_class if train else max(1, num_per_class // 2)
    return ParametricShapes(train, size, num_points, segmentation=task == "segmentation")


def _published(
    cls: Callable[..., InMemoryDataset],
    root: Root,
    train: bool,
    task: str,
    num_points: int,
    normalize: bool = True,
    train_split: str = "train",
    force_reload: bool = False,
    **options: Any,
) -> InMemoryDataset:
    """A split of a published data set, which the training split processes again for both."""
    transform = NormalizeSphere() if normalize else None
    split = train_split if train else "test"
    return cls(
        root,
        split=split,
        num_points=num_points,
        pre_transform=transform,
        force_reload=force_reload and train,
        **options,
    )


def _npz(
    root: Root, train: bool, task: str, num_points: int | None, **options: Any
) -> InMemoryDataset:
    split, options = "train" if train else "test", {"sampling": "fps", **options}
    if task == "segmentation":
        return PartArrays.from_npz(root, split, num_points=num_points, **options)
    for name in ("categories", "resplit"):
        if name in options:
            raise TypeError(f"'{name}' must not be given for classification, got {options[name]!r}")
    return PointCloudArrays.from_npz(root, split, num_points=num_points, **options)


def _folder(
    root: Root, train: bool, task: str, num_points: int | None, sampling: Sampling = "fps"
) -> InMemoryDataset:
    splits = [Path(root, split) for split in ("train", "test")]
    # Those of both, as either may lack some.
    names = sorted({folder.name for split in splits for folder in folders(split)})
    path = splits[0 if train else 1]
    return PointCloudArrays.from_folder(path, num_points, sampling, names)


_READING = ("sampling", "force_reload", "strict")
_HDF5 = "needs h5py"
_PARTS = ("categories", "resplit")

#: The sources of labelled clouds, by name.
READERS: dict[str, Reader] = {
    "shapes": Reader(
        "ten classes of generated CAD-like objects",
        _shapes,
        _TASKS,
        num_points=256,
        options=("num_per_class",),
        needs_root=False,
    ),
    **{
        f"modelnet{name}": Reader(
            f"ModelNet{name}, points drawn from its meshes",
            partial(_published, ModelNetMeshes, name=name),
            options=_READING[1:],
            downloads=True,
        )
        for name in ("10", "40")
    },
    **{
        f"modelnet{name}-resampled": Reader(
            f"ModelNet{name}, the text files of PointNet++",
            partial(_published, ModelNetResampled, name=name),
            options=_READING,
            downloads=True,
        )
        for name in ("10", "40")
    },
    "modelnet40-hdf5": Reader(
        f"ModelNet40, the HDF5 files of PointNet ({_HDF5})",
        partial(_published, ModelNetHDF5, normalize=False),  # It is in the unit ball.
        options=_READING,
        downloads=True,
    ),
    **{
        name: Reader(
            f"ScanObjectNN, {variant} ({_HDF5})",
            partial(_published, ScanObjectNN, variant=variant),
            options=_READING,
        )
        for name, variant in (
            ("scanobjectnn", "PB_T50_RS"),
            ("scanobjectnn-bg", "OBJ_BG"),
            ("scanobjectnn-only", "OBJ_ONLY"),
        )
    },
    "shapenetcore": Reader(
        "the 55 classes of ShapeNetCore", partial(_published, ShapeNetCore), options=_READING
    ),
    "omniobject3d": Reader(
        "OmniObject3D, scans of everyday objects",
        partial(_published, OmniObject3D),
        options=(*_READING, "resolution", "test_share", "seed"),
    ),
    "shapenetpart": Reader(
        "ShapeNetPart, trained on its training and validation shapes",
        partial(_published, ShapeNetPart, train_split="trainval"),
        ("segmentation",),
        num_points=2048,
        options=(*_READING, "categories"),
    ),
    "npz": Reader(
        "an .npz file of arrays",
        _npz,
        _TASKS,
        num_points=None,
        options=("sampling", *_PARTS),
        is_file=True,
    ),
    "folder": Reader(
        "a folder with train and test, of a folder for each class, of .npy files",
        _folder,
        num_points=None,
        options=("sampling",),
        is_file=True,
    ),
}
