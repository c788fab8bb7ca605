"""Labelled clouds from arrays, ``.npz`` files and folders of the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_ddp._checks import check_names
from torch_geometric_ddp.datasets._arrays import (
    check_clouds,
    check_labels,
    fill,
    of_split,
    open_npz,
    sample,
    take_arrays,
)
from torch_geometric_ddp.datasets._formats import as_clouds, damaged, folders, read_npy, with_suffix
from torch_geometric_ddp.datasets._in_memory import InMemoryClouds
from torch_geometric_ddp.datasets._sampling import Sampling, check_sampling, choose_points

__all__ = ["PointCloudArrays"]


class PointCloudArrays(InMemoryClouds):
    r"""Labelled point clouds of one size from arrays, as :obj:`Data(pos=[N, 3], y=[1])`.

    Args:
        points (array, torch.Tensor or list): The clouds :obj:`[n, N, 3]`, any floating point type;
            they become :obj:`float32`, and lie near enough to the origin for it.
        labels (array, torch.Tensor or list): Integer labels :obj:`[n]`, from 0.
        class_names (sequence of str, optional): The names of the classes. (default: their
            numbers up to the largest label)
        transform (callable, optional): Applied to a :obj:`Data` at every access.
        pre_transform (callable, optional): Applied to every :obj:`Data` once.
        pre_filter (callable, optional): Decides which :obj:`Data` to keep.
        copy (bool): Whether to copy the arrays. Otherwise :obj:`float32` points are shared with
            the caller, so that a large set takes its room once. (default: :obj:`True`)
        num_points (int, optional): The points to keep of each cloud. (default: all)
        sampling (str): Which: the :obj:`"first"`, those of farthest point sampling
            (:obj:`"fps"`), or a :obj:`"random"` subset drawn once. (default: :obj:`"first"`)

    Raises:
        TypeError: If the points are no floating point numbers, the labels no integers, or the
            names no strings.
        ValueError: If the shapes of the arrays do not fit each other, a point is NaN or infinite,
            a label has no name (where none are given, if it is 65,536 or more), or two classes
            have the same name.
    """

    def __init__(
        self,
        points: np.ndarray | Tensor | Sequence[Any],
        labels: np.ndarray | Tensor | Sequence[Any],
        class_names: Sequence[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        copy: bool = True,
        num_points: int | None = None,
        sampling: Sampling = "first",
    ) -> None:
        check_sampling(num_points, sampling)
        pos = check_clouds(points, copy)
        y, self.class_names = check_labels("labels", labels, pos.shape[:1], class_names, copy)
        super().__init__(None, transform, pre_transform, pre_filter)
        fill(self, *sample(num_points, sampling, pos), y=y)

    @property
    def num_classes(self) -> int:
        """The number of classes, also of a subset that lacks some."""
        return len(self.class_names)

    @classmethod
    def from_npz(
        cls, path: str | os.PathLike[str], split: str = "train", **kwargs: Any
    ) -> PointCloudArrays:
        """Reads one split of an :obj:`.npz` file.

        Args:
            path (str or path): The file, with the arrays :obj:`{split}_points [n, N, 3]` and
                :obj:`{split}_labels [n]`, or with :obj:`points`, :obj:`labels` and :obj:`split
                [n]`, the splits of the clouds (by name, or 0, 1 and 2 for :obj:`"train"`,
                :obj:`"val"` and :obj:`"test"`); and, if the classes have names,
                :obj:`class_names`.
            split (str): The split. (default: :obj:`"train"`)
            **kwargs: The transforms, :obj:`num_points` and :obj:`sampling`, as above.

        Raises:
            FileNotFoundError: If there is no file.
            ValueError: If it is damaged, lacks an array or has no cloud of the split, or if an
                array unpacks to more than 1 GiB and a hundred times its room in the file.
        """
        with open_npz(path) as file:
            if "split" in file and f"{split}_points" not in file:
                rows = of_split(file["split"], split)
                points, labels = take_arrays(file, ("points", "labels"), rows)
            else:
                points, labels = take_arrays(file, (f"{split}_points", f"{split}_labels"))
            names = file.get("class_names")
            # Here, so that what is wrong with them names the file.
            pos = check_clouds(points, copy=False)
            y, names = check_labels("labels", labels, pos.shape[:1], names, copy=False)
        return cls(pos, y, names, copy=False, **kwargs)

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        num_points: int | None = None,
        sampling: Sampling = "first",
        class_names: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> PointCloudArrays:
        """Reads a folder that has one folder for each class, with an :obj:`.npy` file a cloud.

        Args:
            path (str or path): The folder, one of several if there are splits. The names of its
                folders are those of the classes. The files in them hold one cloud
                :obj:`[N, 3]` each. What begins with a dot is left out.
            num_points (int, optional): The points to keep of each cloud. (default: all, of which
                every cloud must then have the same number)
            sampling (str): Which: the :obj:`"first"`, those of farthest point sampling
                (:obj:`"fps"`), or a :obj:`"random"` subset drawn once. (default: :obj:`"first"`)
            class_names (sequence of str, optional): The classes in the order of their labels, to
                be given where a split may lack one of them. (default: the folders in
                alphabetical order)
            **kwargs: The transforms, as above.

        Raises:
            FileNotFoundError: If there is no folder, no class in it or no file of a class.
            TypeError: If :obj:`class_names` are no list of strings.
            ValueError: If a file is damaged, a cloud has another number of points, or
                :obj:`class_names` lacks a folder.
        """
        check_sampling(num_points, sampling)
        root = Path(path)
        classes = folders(root)
        if not classes:
            raise FileNotFoundError(f"'path' must have one folder for each class, got '{root}'")
        names = [folder.name for folder in classes]
        if class_names is not None:
            names = check_names("class_names", class_names)
        unknown = [folder.name for folder in classes if folder.name not in names]
        if unknown:
            raise ValueError(f"'class_names' must name all folders of '{root}', lacks {unknown}")
        files = [with_suffix(folder, ".npy") for folder in classes]
        for folder, found in zip(classes, files, strict=True):
            if not found:
                raise FileNotFoundError(f"'{folder}' must have the clouds of a class, got none")
        sizes = torch.tensor([len(found) for found in files])
        ranks = torch.tensor([names.index(folder.name) for folder in classes])
        labels = ranks.repeat_interleave(sizes)
        generator = torch.Generator().manual_seed(0)
        points = torch.empty(0)
        paths = [file for found in files for file in found]
        for i, file in enumerate(tqdm(paths, "Read", unit="cloud", disable=None)):
            cloud = as_clouds(file, read_npy(file))
            size = num_points or (len(cloud) if i == 0 else points.size(1))
            if len(cloud) < size or (num_points is None and len(cloud) > size):
                hint = "" if num_points else "; give 'num_points' to take as many of all"
                raise damaged(file, f"it has {len(cloud)} points instead of {size}{hint}")
            if i == 0:
                points = torch.empty(len(labels), size, 3)
            points[i] = cloud[choose_points(cloud[None], size, sampling, generator)[0]]
        return cls(points, labels, names, copy=False, **kwargs)
