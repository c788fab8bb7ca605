"""Clouds with part labels, from arrays and ``.npz`` files of the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_int, check_names
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.clouds.splits import redrawn
from torch_geometric_ddp.datasets._arrays import (
    as_tensor,
    check_clouds,
    check_labels,
    fill,
    of_split,
    open_npz,
    sample,
    take_arrays,
)
from torch_geometric_ddp.datasets._in_memory import InMemoryClouds
from torch_geometric_ddp.datasets._sampling import Sampling, check_sampling

__all__ = ["PartArrays"]


class PartArrays(InMemoryClouds):
    r"""Point clouds of one size whose points are labelled with parts, from arrays.

    Items are :obj:`Data(pos=[N, 3], y=[N], category=[1])`, as those of
    :class:`torch_geometric.datasets.ShapeNet`: :obj:`y` counts the parts of all categories.

    Args:
        points (array, torch.Tensor or list): The clouds :obj:`[n, N, 3]`, any floating point type;
            they become :obj:`float32`, and lie near enough to the origin for it.
        part_labels (array, torch.Tensor or list): The integer part :obj:`[n, N]` of every point,
            from 0, an index into :obj:`part_names`.
        labels (array, torch.Tensor or list): The integer category :obj:`[n]` of every cloud, from
            0.
        class_names (sequence of str): The names of the categories.
        part_names (sequence of str): The names of the parts of all categories.
        category_parts (dict): The parts of each category by its name, :obj:`dict[str,
            list[int]]`, in the order of :obj:`class_names`. No two categories share a part.
        transform (callable, optional): Applied to a :obj:`Data` at every access.
        pre_transform (callable, optional): Applied to every :obj:`Data` once.
        pre_filter (callable, optional): Decides which :obj:`Data` to keep.
        copy (bool): Whether to copy the arrays. Otherwise what has the right type is shared with
            the caller. (default: :obj:`True`)
        categories (str or sequence of str, optional): The categories to keep; :obj:`category`
            and :obj:`y` count them and their parts in this order. (default: all)
        num_points (int, optional): The points to keep of each cloud. (default: all)
        sampling (str): Which: the :obj:`"first"`, those of farthest point sampling
            (:obj:`"fps"`), or a :obj:`"random"` subset drawn once. (default: :obj:`"first"`)

    Attributes:
        class_names (list[str]): The names of the categories that are kept.
        part_names (list[str]): The names of their parts.
        category_parts (dict[str, list[int]]): The part labels of each category.

    Raises:
        TypeError: If the points are no floating point numbers, the labels no integers, or the
            names no strings.
        ValueError: If the shapes of the arrays do not fit each other, a point is NaN or infinite,
            a label has no name, two names are the same, or a point has a part that its category
            lacks.
    """

    def __init__(
        self,
        points: np.ndarray | Tensor | Sequence[Any],
        part_labels: np.ndarray | Tensor | Sequence[Any],
        labels: np.ndarray | Tensor | Sequence[Any],
        class_names: Sequence[str],
        part_names: Sequence[str],
        category_parts: Mapping[str, Sequence[int]],
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        copy: bool = True,
        categories: str | Sequence[str] | None = None,
        num_points: int | None = None,
        sampling: Sampling = "first",
    ) -> None:
        check_sampling(num_points, sampling)
        pos = check_clouds(points, copy)
        category, names = check_labels("labels", labels, pos.shape[:1], class_names, copy)
        y, parts = check_labels("part_labels", part_labels, pos.shape[:2], part_names, copy)
        if not isinstance(category_parts, Mapping):
            what = type(category_parts).__name__
            raise TypeError(f"'category_parts' must be a dict of lists, got {what}")
        self.class_names, self.part_names = names, parts
        self.category_parts = {name: list(row) for name, row in category_parts.items()}
        _check_parts(PartSpace.of(self), category, y, names)
        if categories is not None:
            pos, category, y = self._restrict(categories, pos, category, y)
        super().__init__(None, transform, pre_transform, pre_filter)
        pos, y = sample(num_points, sampling, pos, y)
        fill(self, pos, y=y, category=category)

    @property
    def num_classes(self) -> int:
        """The number of parts, of all categories, also of a subset that lacks some."""
        return len(self.part_names)

    @classmethod
    def from_npz(
        cls,
        path: str | os.PathLike[str],
        split: str = "train",
        categories: str | Sequence[str] | None = None,
        resplit: int | None = None,
        **kwargs: Any,
    ) -> PartArrays:
        """Reads one split of an :obj:`.npz` file.

        Args:
            path (str or path): The file, with the arrays :obj:`points [n, N, 3]`,
                :obj:`part_labels [n, N]` and :obj:`labels [n]`, :obj:`split [n]`, the splits of
                the clouds (by name, or 0, 1 and 2 for :obj:`"train"`, :obj:`"val"` and
                :obj:`"test"`), :obj:`class_names [C]`, :obj:`part_names [P]` and
                :obj:`category_parts [C, P]`, which parts a category has (:obj:`bool`).
            split (str): The split. (default: :obj:`"train"`)
            categories (str or sequence of str, optional): The categories to keep, as above, or
                :obj:`"recommended"` for those in the array :obj:`recommended_categories` of the
                file. (default: all)
            resplit (int, optional): A seed that draws anew which clouds the splits hold, as many
                of every category as they hold in the file. It means the same whatever
                :obj:`split` and :obj:`categories` are. (default: the splits of the file)
            **kwargs: The transforms, :obj:`num_points` and :obj:`sampling`, as above.

        Raises:
            FileNotFoundError: If there is no file.
            ValueError: If it is damaged, lacks an array or has no cloud of the split, or if an
                array unpacks to more than 1 GiB and a hundred times its room in the file.
        """
        if resplit is not None:
            check_int("resplit", resplit, minimum=0)
        with open_npz(path) as file:
            texts = take_arrays(file, ("class_names", "part_names", "category_parts"))
            names = check_names("class_names", texts[0])
            parts, has_part = check_names("part_names", texts[1]), texts[2]
            if has_part.shape != (len(names), len(parts)) or has_part.dtype != np.bool_:
                raise ValueError(
                    f"its category_parts must be bool [{len(names)}, {len(parts)}], got "
                    f"{has_part.dtype} {list(has_part.shape)}"
                )
            rows = of_split(take_arrays(file, ("split",))[0], split)
            if resplit is not None:
                (labels,) = take_arrays(file, ("labels",), np.ones_like(rows))
                rows = rows[redrawn(as_tensor("labels", labels), resplit).numpy()]
            keys = ("points", "part_labels", "labels")
            points, part_labels, labels = take_arrays(file, keys, rows)
            # Here, so that what is wrong with them names the file.
            pos = check_clouds(points, copy=False)
            category, _ = check_labels("labels", labels, pos.shape[:1], names, copy=False)
            y, _ = check_labels("part_labels", part_labels, pos.shape[:2], parts, copy=False)
            if categories == "recommended":
                (chosen,) = take_arrays(file, ("recommended_categories",))
                categories = check_names("recommended_categories", chosen)
        category_parts = {
            name: np.flatnonzero(row).tolist() for name, row in zip(names, has_part, strict=True)
        }
        arrays = (pos, y, category, names, parts, category_parts)
        return cls(*arrays, categories=categories, copy=False, **kwargs)

    def _restrict(
        self, categories: str | Sequence[str], pos: Tensor, category: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keeps the clouds of some categories, and numbers these and their parts densely."""
        chosen = [categories] if isinstance(categories, str) else list(categories)
        known = set(chosen) <= set(self.class_names)
        if not known or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"'categories' must be different names among {self.class_names}, got {categories!r}"
            )
        old = [part for name in chosen for part in self.category_parts[name]]
        new_category = _inverse([self.class_names.index(name) for name in chosen], self.class_names)
        new_part = _inverse(old, self.part_names)
        keep = new_category[category] >= 0
        if not bool(keep.any()):
            raise ValueError(f"'categories' {chosen} left no cloud")
        self.class_names = chosen
        self.part_names = [self.part_names[part] for part in old]
        self.category_parts = {
            name: new_part[self.category_parts[name]].tolist() for name in chosen
        }
        return pos[keep], new_category[category[keep]], new_part[y[keep]]


def _inverse(index: list[int], names: list[str]) -> Tensor:
    """Where each of the names comes in the index, or -1."""
    place = torch.full((len(names),), -1)
    place[index] = torch.arange(len(index))
    return place


def _check_parts(space: PartSpace, category: Tensor, y: Tensor, names: list[str]) -> None:
    fits = space.mask()[category[:, None], y]
    if not bool(fits.all()):
        i = int((~fits.all(dim=1)).nonzero()[0])
        label = int(category[i])
        raise ValueError(
            f"'part_labels' of cloud {i} ({names[label]}) must be among "
            f"{list(space.category_parts[label])}, got {y[i][~fits[i]].unique().tolist()}"
        )
