"""The clouds of a data set whose points are labelled with parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import torch
from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_ddp import ops
from torch_geometric_ddp._bytes import bytes_of
from torch_geometric_ddp._checks import check_dataset, check_device, check_int
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.clouds.reading import label_of, read_clouds

__all__ = ["LabelledBank"]


class LabelledBank(PointCloudBank):
    r"""A :class:`PointCloudBank` for part segmentation: its classes are the categories of shapes.

    Synthetic clouds of a category share one *arrangement*, so many points of each part one after
    the other, and what is compared with them is brought into it: :meth:`partition` takes the points
    of every part by farthest point sampling within the part. Where a cloud has fewer points of a
    part than are taken they come again; where it lacks a part, the next cloud of its category that
    has the part lends its own, so that every arrangement is one of genuine points with genuine
    labels.

    Args:
        pos (torch.Tensor): The points of all clouds, one after the other, :obj:`[ΣN, 3]`.
        sizes (torch.Tensor): The number of points of every cloud, :obj:`[n]`.
        y (torch.Tensor): The categories :obj:`[n]`.
        class_names (sequence of str): The names of the categories.
        part (torch.Tensor): The part of every point, :obj:`[ΣN]`.
        space (PartSpace): The parts of the categories.

    Raises:
        ValueError: If :obj:`space` has other than as many categories, :obj:`part` is not int64 of
            shape :obj:`[ΣN]`, a point has a part that the category of its cloud has not, or one of
            the other arguments does not fit a :class:`PointCloudBank`.
    """

    space: PartSpace
    has_parts = True

    def __init__(
        self,
        pos: Tensor,
        sizes: Tensor,
        y: Tensor,
        class_names: Sequence[str],
        part: Tensor,
        space: PartSpace,
    ) -> None:
        super().__init__(pos, sizes, y, class_names)
        if space.num_categories != self.num_classes:
            raise ValueError(
                f"'space' must be of {self.num_classes} categories, got {space.num_categories}"
            )
        if part.shape != pos.shape[:1] or part.dtype != torch.long:
            raise ValueError(
                f"'part' must be integers (int64) of shape [{len(pos)}], got {part.dtype} of "
                f"shape {list(part.shape)}"
            )
        self.part, self.space = part, space
        owner = self._owner
        known = (part >= 0) & (part < space.num_parts)
        allowed = space.mask(self.device)
        bad = ~(known & allowed[y[owner], part.clamp(0, space.num_parts - 1)])
        if bool(bad.any()):
            i = int(bad.nonzero()[0])
            cloud = int(owner[i])
            name = self.class_names[int(y[cloud])]
            parts = space.category_parts[int(y[cloud])]
            raise ValueError(
                f"the parts of cloud {cloud} of category '{name}' must be among {list(parts)}, "
                f"got {int(part[i])}"
            )

    @classmethod
    def from_dataset(
        cls,
        dataset: Iterable[Data],
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        progress: bool = False,
        class_names: Sequence[str] | None = None,
    ) -> Self:
        """Reads every cloud of a data set once, with its transform.

        Args:
            dataset (Dataset or sequence): Items with :obj:`pos [N, 3]`, the parts :obj:`y [N]` and
                one :obj:`category`, as those of :class:`torch_geometric.datasets.ShapeNet`, and the
                attributes that :meth:`PartSpace.of` needs.
            device (torch.device, optional): Where the clouds shall lie. (default: where they are)
            dtype (torch.dtype): The type of the points. (default: :obj:`torch.float32`)
            progress (bool): Whether to show the progress. (default: :obj:`False`)
            class_names (None): The data set names its categories itself, and the parts of each by
                that name. (default: :obj:`None`)

        Raises:
            TypeError: If the :obj:`pos` of an item is not floating point.
            ValueError: If :obj:`device` is none that can be used, :obj:`class_names` are given, an
                attribute that :meth:`PartSpace.of` needs is missing, there is no item, the
                :obj:`pos` of one has another shape or is not finite, its :obj:`y` is not a part for
                every point, its :obj:`category` is not one integer, or a point has a part that the
                category has not.
        """
        check_dataset("dataset", dataset)
        check_device("device", device)
        if class_names is not None:
            raise ValueError(
                "'class_names' must be None where points have parts, since the data set names its "
                f"categories with them, got {class_names!r:.80}"
            )
        if isinstance(dataset, cls):
            names, space = dataset.class_names, dataset.space
        else:
            names, space = PartSpace.named(dataset)
        pos, exact, sizes, labels = read_clouds(dataset, _labels_of, device, dtype, progress)
        parts, categories = zip(*labels, strict=True)
        y = torch.tensor(categories, device=pos.device)
        part = torch.cat(parts).to(pos.device, torch.long)
        bank = cls(pos, sizes, y, names, part, space)
        bank.exact = exact
        return bank

    def __iter__(self) -> Iterator[Data]:
        """Copies of the clouds one by one, so that a bank goes wherever a data set is read."""
        sizes = self.sizes.tolist()
        points = self.pos if self.exact is None else self.exact
        triples = zip(points.split(sizes), self.part.split(sizes), self.y, strict=True)
        return (Data(pos=pos, y=y, category=c.view(1)).clone() for pos, y, c in triples)

    @property
    def network_sizes(self) -> tuple[int, ...]:
        """What a network for these clouds is made from, the numbers of parts and categories."""
        return self.space.num_parts, self.num_classes

    @property
    def _owner(self) -> Tensor:
        """The cloud of every point, :obj:`[ΣN]`."""
        return torch.arange(len(self), device=self.device).repeat_interleave(self.sizes)

    @property
    def _label_bits(self) -> int:
        return self.space.label_bits

    def whole_bits(self) -> int:
        """The bits of all of these clouds, each with the lengths of the runs of its parts."""
        own = self.space.mask(self.device).sum(dim=1)[self.y]
        return super().whole_bits() + 32 * int(own.sum())

    def sha256(self) -> str:
        """The first digits of a digest of all clouds and labels."""
        digest = hashlib.sha256(super().sha256().encode())
        digest.update(bytes_of(self.part))
        return digest.hexdigest()[:16]

    def arrangement(self, num_points: int) -> Tensor:
        """How many of :obj:`num_points` points each part has, :obj:`[C, P]` (:obj:`int64`).

        The mean shares of the parts over the clouds of a category, rounded by the method of the
        largest remainder; a part of too small a share gets no point.
        """
        check_int("num_points", num_points)
        mean = torch.zeros(self.num_classes, self.space.num_parts, dtype=torch.float64)
        share = self.part_sizes().double() / self.sizes[:, None]
        mean.index_add_(0, self.y.cpu(), share.cpu())
        exact = mean / self.class_index.counts.cpu().clamp_min(1)[:, None] * num_points
        whole = exact.floor()
        rank = (whole - exact).argsort(dim=1, stable=True).argsort(dim=1)
        left = (num_points - whole.sum(dim=1, keepdim=True)) * (self.class_index.counts.cpu() > 0)[
            :, None
        ]
        return (whole + (rank < left)).long()

    def partition(self, num_subsets: int, num_points: int, progress: bool = False) -> Tensor:
        """Splits every cloud into subsets in the :meth:`arrangement` of its category.

        Args:
            num_subsets (int): The number of subsets of a cloud.
            num_points (int): The number of points of a subset.
            progress (bool): Whether to show the progress. (default: :obj:`False`)

        Returns:
            The rows :obj:`[n, num_subsets, num_points]` of :attr:`pos`, part by part; none twice in
            a cloud that has enough points of every part.
        """
        counts, sizes = self.arrangement(num_points), self.part_sizes()
        out = self.offsets.new_empty(len(self), num_subsets, num_points)
        # The points of all clouds, each cloud's part by part.
        order = (self._owner * self.space.num_parts + self.part).argsort(stable=True)
        first = self.offsets[:, None] + sizes.cumsum(1) - sizes
        places = counts.cumsum(1) - counts
        blocks = tqdm(counts.nonzero().tolist(), "Partition", unit="part", disable=not progress)
        for category, part in blocks:
            members = (self.y == category).nonzero().flatten()
            lenders = members[_next_with(sizes[members, part] > 0)]
            num, begin = int(counts[category, part]), int(places[category, part])
            size = sizes[lenders, part]
            nth = torch.arange(int(size.max()), device=self.device)
            rows = order[first[lenders, part][:, None] + nth.minimum(size[:, None] - 1)]
            index = ops.farthest_point_partition(self.pos[rows], num_subsets, num, size)
            chosen = rows.gather(1, index.flatten(1)).view_as(index)
            out[members, :, begin : begin + num] = chosen
        return out

    def arranged(self, num_points: int) -> LabelledBank:
        """Clouds of :obj:`num_points` points each, in the :meth:`arrangement` of their category."""
        rows = self.partition(1, num_points).flatten()
        sizes = torch.full_like(self.sizes, num_points)
        # Also what was lent has the part that its place in the arrangement says.
        return self._like(self.pos[rows], sizes, slice(None), rows)

    def part_sizes(self) -> Tensor:
        """How many points of each part every cloud has, :obj:`[n, P]`."""
        num = self.space.num_parts
        flat = torch.bincount(self._owner * num + self.part, minlength=len(self) * num)
        return flat.view(len(self), num)

    def _labels(self, index: Tensor, rows: Tensor) -> dict[str, Tensor]:
        return {"y": self.part[rows], "category": self.y[index]}

    def _like(
        self, pos: Tensor, sizes: Tensor, index: Tensor | slice, rows: Tensor | slice
    ) -> Self:
        return type(self)(pos, sizes, self.y[index], self.class_names, self.part[rows], self.space)


def _labels_of(data: Data, i: int) -> tuple[Tensor, int]:
    """The parts :obj:`[N]` and the category of item :obj:`i` of a data set, checked."""
    y, num = data.get("y"), len(data.pos)
    plain = isinstance(y, Tensor) and not y.is_floating_point() and y.dtype != torch.bool
    if not plain or y.shape != (num,):
        got = f"{y.dtype} of shape {list(y.shape)}" if isinstance(y, Tensor) else repr(y)
        raise ValueError(f"'y' of cloud {i} must be a part for each of its {num} points, got {got}")
    return y, label_of(data, i, "category")


def _next_with(has: Tensor) -> Tensor:
    """For every place the next one, in a circle, where :obj:`has [k]` is true, itself first."""
    num = len(has)
    twice = torch.cat([has, has])
    place = torch.where(twice, torch.arange(2 * num, device=has.device), 2 * num)
    return place.flip(0).cummin(0).values.flip(0)[:num] % num
