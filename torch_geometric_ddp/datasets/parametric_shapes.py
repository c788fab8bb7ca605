"""Generated shapes: ten classes of CAD-like objects, made in memory instead of downloaded."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from numpy.random import SeedSequence, default_rng
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_flag, check_int
from torch_geometric_ddp.datasets._columns import prepared
from torch_geometric_ddp.datasets._in_memory import InMemoryClouds
from torch_geometric_ddp.datasets._objects import CLASSES, generate


class ParametricShapes(InMemoryClouds):
    r"""Point clouds of ten classes of procedurally generated CAD-like objects.

    The classes are airplane, bed, bottle, car, chair, lamp, mug, sofa, stool and table.
    Every object is assembled from boxes, tubes, wings and solids of revolution with random
    proportions and optional parts, turned by a random yaw about the upright z axis, sampled
    uniformly by surface area, jittered slightly, centred at the mean of its points, and scaled to
    the unit ball.
    Nothing is downloaded or written: the constructor generates the whole split in memory.
    The object with index :math:`i` of a class is a function of :obj:`seed`, :obj:`train`,
    the class and :math:`i` alone, whatever :obj:`num_per_class` is; the points drawn from it
    depend on :obj:`num_points` as well.

    Each item is a :class:`~torch_geometric.data.Data` object with

    * :obj:`pos` of shape :obj:`[num_points, 3]` and type :obj:`float32`: the points, with mean
      zero and a largest norm of one (a cloud of a single point is the origin),
    * :obj:`y` of shape :obj:`[1]` and type :obj:`int64`: the class, an index into
      :obj:`class_names`,
    * :obj:`part_label` of shape :obj:`[num_points]` and type :obj:`int64`: the part of each
      point, an index into :obj:`part_names`, which counts over all classes.

    With :obj:`segmentation` the same objects come as those of
    :class:`torch_geometric.datasets.ShapeNet` do: :obj:`pos`, the parts of the points as
    :obj:`y` of shape :obj:`[num_points]`, and the class as :obj:`category` of shape :obj:`[1]`.

    Args:
        train (bool, optional): If :obj:`True`, generates the training split, otherwise the test
            split, from a disjoint random stream. (default: :obj:`True`)
        num_per_class (int, optional): The number of objects of each class. (default: :obj:`100`)
        num_points (int, optional): The number of points of each object. (default: :obj:`1024`)
        seed (int, optional): The non-negative seed of both splits. (default: :obj:`0`)
        transform (callable, optional): A function/transform that takes in a
            :class:`~torch_geometric.data.Data` object and returns a transformed version, applied
            at every access. (default: :obj:`None`)
        pre_transform (callable, optional): The same, applied once in the constructor.
            (default: :obj:`None`)
        pre_filter (callable, optional): A function that takes in a
            :class:`~torch_geometric.data.Data` object and returns whether to keep it, applied
            once in the constructor and before :obj:`pre_transform`. (default: :obj:`None`)
        segmentation (bool, optional): Whether the labels :obj:`y` are those of the points.
            (default: :obj:`False`)

    Attributes:
        class_names (list[str]): The names of the ten classes.
        part_names (list[str]): The names of all parts, *e.g.*, :obj:`"chair/leg"`.
        category_parts (dict[str, list[int]]): The part labels of each class.

    Raises:
        TypeError: If :obj:`train` or :obj:`segmentation` is no bool, or if
            :obj:`num_per_class`, :obj:`num_points` or :obj:`seed` is no int.
        ValueError: If :obj:`num_per_class` or :obj:`num_points` is smaller than one, if
            :obj:`seed` is negative, or if :obj:`pre_filter` keeps no object.
    """

    def __init__(
        self,
        train: bool = True,
        num_per_class: int = 100,
        num_points: int = 1024,
        seed: int = 0,
        transform: Callable[[Data], Any] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        segmentation: bool = False,
    ) -> None:
        check_flag("train", train)
        check_flag("segmentation", segmentation)
        check_int("num_per_class", num_per_class, 1)
        check_int("num_points", num_points, 1)
        check_int("seed", seed, 0)
        super().__init__(None, transform, pre_transform, pre_filter)

        self.segmentation = segmentation
        cloud_key, point_key = ("category", "y") if segmentation else ("y", "part_label")
        self.class_names = list(CLASSES)
        self.part_names = [f"{name}/{part}" for name in CLASSES for part in CLASSES[name][1]]
        self.category_parts = {
            name: [self.part_names.index(f"{name}/{part}") for part in CLASSES[name][1]]
            for name in CLASSES
        }

        def objects() -> Iterator[Data]:
            for label, name in enumerate(self.class_names):
                for i in range(num_per_class):
                    stream = SeedSequence(seed, spawn_key=(int(train), label, i))
                    pos, owner = generate(name, num_points, default_rng(stream))
                    data = Data(pos=torch.from_numpy(pos).float())
                    data[cloud_key] = torch.tensor([label])
                    data[point_key] = torch.from_numpy(owner + self.category_parts[name][0])
                    yield data

        data_list = list(prepared(objects(), pre_filter, pre_transform))
        if not data_list:
            raise ValueError("'pre_filter' must keep at least one object, got none")
        self.data, self.slices = self.collate(data_list)

    @property
    def num_classes(self) -> int:
        """The number of values of :obj:`y`, of a subset as well, ten classes or all parts."""
        return len(self.part_names if self.segmentation else self.class_names)
