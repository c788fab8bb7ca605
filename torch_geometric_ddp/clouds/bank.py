"""The bank: all clouds of a data set as tensors, read and checked once."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from torch_geometric_ddp import ops
from torch_geometric_ddp._bytes import bytes_of
from torch_geometric_ddp._checks import (
    check_dataset,
    check_device,
    check_finite,
    check_indices,
    check_int,
    check_names,
    check_points,
    check_tensor,
)
from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.clouds.class_index import ClassIndex
from torch_geometric_ddp.clouds.class_names import found_names, names_of, numbered_names
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.clouds.reading import label_of, read_clouds
from torch_geometric_ddp.clouds.view_cache import ViewCache
from torch_geometric_ddp.quotas import Quotas, weights_of
from torch_geometric_ddp.transforms import NormalizeSphere

__all__ = ["PointCloudBank"]

# Clouds that are worked on at a time, so that a large set shows its progress.
BLOCK = 256
T = TypeVar("T")


class PointCloudBank:
    r"""Holds the clouds of a data set on one device and hands out those of a step.

    Args:
        pos (torch.Tensor): The points of all clouds, one after the other, :obj:`[ΣN, 3]`.
        sizes (torch.Tensor): The number of points of every cloud, :obj:`[n]`.
        y (torch.Tensor): The labels :obj:`[n]`.
        class_names (sequence of str): The names of the classes; labels lie below their number.

    Raises:
        TypeError: If :obj:`class_names` are no list of strings, :obj:`pos` is no floating point
            tensor, or :obj:`sizes` or :obj:`y` are no tensors of integers.
        ValueError: If two names are the same, :obj:`sizes` is empty, holds a zero or does not add
            up to the points, :obj:`pos` or :obj:`sizes` has another shape, :obj:`pos` is not
            finite, or :obj:`y` is not a label below the number of classes for every cloud.
    """

    #: The parts that points are labelled with, in a :class:`LabelledBank`.
    space: PartSpace | None = None
    #: Whether points are labelled with parts.
    has_parts: ClassVar[bool] = False

    def __init__(self, pos: Tensor, sizes: Tensor, y: Tensor, class_names: Sequence[str]) -> None:
        sizes = check_indices("sizes", check_tensor("sizes", sizes, "n"))
        if sizes.dim() != 1:
            raise ValueError(f"'sizes' must have shape [n], got {list(sizes.shape)}")
        if len(sizes) == 0:
            raise ValueError("the data set must hold at least one cloud, got none")
        check_points("pos", pos, "ΣN 3")
        if int(sizes.min()) < 1:
            raise ValueError(f"every cloud must have points, cloud {int(sizes.argmin())} has none")
        if int(sizes.sum()) != len(pos):
            raise ValueError(
                f"'sizes' must add up to the {len(pos)} points of 'pos', got {int(sizes.sum())}"
            )
        check_finite("pos", pos)
        class_names = check_names("class_names", class_names)
        if check_tensor("y", y, "n").shape != sizes.shape:
            raise ValueError(
                f"'y' must have a label for each of the {len(sizes)} clouds, got {list(y.shape)}"
            )
        y = check_indices("y", y)
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= len(class_names):
            raise ValueError(
                f"labels must lie in 0..{len(class_names) - 1} ({len(class_names)} classes), got "
                f"{low}..{high}"
            )
        self.pos, self.sizes, self.y = pos, sizes, y
        #: The points in the type that they came in, where :attr:`pos` is of a shorter one that
        #: blurs them, so far from the origin do they lie; :meth:`normalize` takes these.
        self.exact: Tensor | None = None
        self.class_names = class_names
        #: The row of the first point of every cloud, :obj:`[n]`.
        self.offsets = sizes.cumsum(0) - sizes
        #: For how many centres the points are in farthest point order, where they are.
        self.ordered_for: int | None = None
        #: The size that all clouds share, or :obj:`None`.
        self.num_points = int(sizes[0]) if bool((sizes == sizes[0]).all()) else None
        self._views = ViewCache()
        self._sha256: str | None = None
        self.class_index = ClassIndex(y, self.class_names)

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

        Of a cloud only :obj:`pos` and its label are read: features, normals and colours are left
        out.

        A bank goes wherever a data set is read, so that a list of clouds, which names no classes,
        can be given names for everything that takes a data set:

        .. code-block:: python

            train_set = PointCloudBank.from_dataset(clouds, class_names=["chair", "table"])
            coreset = random_coreset(train_set, ppc=1)

        Args:
            dataset (Dataset or sequence): Items with :obj:`pos [N, 3]` and one label :obj:`y`. Its
                :obj:`class_names`, where it has them, name the classes and bound the labels; sets
                of PyG with a folder for each class, such as
                :class:`torch_geometric.datasets.ModelNet`, have the names of these.
            device (torch.device, optional): Where the clouds shall lie. (default: where they are)
            dtype (torch.dtype): The type of the points. What it blurs is kept beside it for
                :meth:`normalize`. (default: :obj:`torch.float32`)
            progress (bool): Whether to show the progress. (default: :obj:`False`)
            class_names (sequence of str, optional): The names of the classes by their labels, in
                the place of those of the data set. (default: those of the data set, else the
                numbers)

        Raises:
            TypeError: If the :obj:`pos` of an item is not floating point, or :obj:`class_names` are
                no list of strings.
            ValueError: If :obj:`device` is none that can be used, there is no item, the :obj:`pos`
                of one has another shape or is not finite, its :obj:`y` is not one integer, a label
                is out of range (where nothing names the classes, if it is 65,536 or more), or
                :obj:`class_names` are fewer than the classes or not as many as the data set has.
        """
        check_dataset("dataset", dataset)
        check_device("device", device)
        names = names_of(dataset)
        if class_names is not None:
            class_names = check_names("class_names", class_names)
            if names is not None and len(class_names) != len(names):
                raise ValueError(_too_few(len(names), class_names))
            names = class_names
        pos, exact, sizes, labels = read_clouds(dataset, label_of, device, dtype, progress)
        count = max(max(labels), 0) + 1
        if class_names is not None and len(class_names) < count:
            raise ValueError(_too_few(count, class_names))
        if names is None:
            names = found_names(dataset, count) or numbered_names(labels, count)
        bank = cls(pos, sizes, torch.tensor(labels, device=pos.device), names)
        bank.exact = exact
        return bank

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Data]:
        """Copies of the clouds one by one, so that a bank goes wherever a data set is read."""
        pos = self.pos if self.exact is None else self.exact
        clouds = pos.split(self.sizes.tolist())
        return (Data(pos=pos, y=y).clone() for pos, y in zip(clouds, self.y, strict=True))

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def device(self) -> torch.device:
        """Where the clouds lie."""
        return self.pos.device

    def normalize(self) -> Self:
        """The same clouds, each centred and scaled to the unit ball."""
        pos = NormalizeSphere.apply(self.pos if self.exact is None else self.exact, self.sizes)
        return self._like(pos.to(self.pos), self.sizes, slice(None), slice(None))

    def unscaled(self) -> Self:
        """This bank, to be used without :meth:`normalize`.

        Raises:
            ValueError: If the type of :attr:`pos` blurs its clouds.
        """
        if self.exact is not None:
            raise ValueError(
                f"'pos' must lie nearer to the origin to be used as {self.pos.dtype}, got "
                f"{self.exact.dtype} up to {float(self.exact.abs().max()):g}: subtract the mean of "
                "every cloud, or let clouds be normalised"
            )
        return self

    def select(self, index: Tensor) -> Self:
        """The clouds :obj:`index [B]` as a bank of their own, with the same classes."""
        index = index.to(self.device)
        rows, sizes = self._rows(index), self.sizes[index]
        bank = self._like(self.pos[rows], sizes, index, rows)
        bank.exact = None if self.exact is None else self.exact[rows]
        return bank

    def moved(self, pos: Tensor) -> Self:
        """The same clouds with their points elsewhere, which are not looked at.

        Args:
            pos (torch.Tensor): The points of all clouds, one after the other, :obj:`[ΣN, 3]`.

        Raises:
            ValueError: If there are more or fewer points than before.
        """
        if pos.shape != self.pos.shape:
            raise ValueError(
                f"'pos' must be of shape {list(self.pos.shape)}, got {list(pos.shape)}"
            )
        bank = copy.copy(self)
        bank.pos, bank.exact, bank._views, bank._sha256 = pos, None, ViewCache(), None
        bank.ordered_for = None
        return bank

    def farthest_points(self, num: int) -> Self:
        """The same clouds, each reduced to :obj:`num` points by farthest point sampling.

        Labelled points keep their labels.

        Raises:
            ValueError: If the clouds have different sizes, or :obj:`num` is not one to that size.
        """
        index = ops.farthest_point_sample(self.unscaled().dense(), num)
        rows = (index + self.offsets[:, None]).flatten()
        return self._like(self.pos[rows], torch.full_like(self.sizes, num), slice(None), rows)

    def dense(self) -> Tensor:
        """All clouds as :obj:`[n, N, 3]`.

        Raises:
            ValueError: If they have different sizes.
        """
        if self.num_points is None:
            raise ValueError(
                "all clouds must have the same number of points, got "
                f"{int(self.sizes.min())} to {int(self.sizes.max())}; sample them first, for "
                "example by the transform FarthestPointSample or PyG's FixedPoints"
            )
        return self.pos.view(-1, self.num_points, 3)

    def partition(self, num_subsets: int, num_points: int, progress: bool = False) -> Tensor:
        """Splits every cloud by :meth:`~torch_geometric_ddp.ops.farthest_point_partition`.

        Args:
            num_subsets (int): The number of subsets of a cloud.
            num_points (int): The number of points of a subset.
            progress (bool): Whether to show the progress. (default: :obj:`False`)

        Returns:
            The rows :obj:`[n, num_subsets, num_points]` of :attr:`pos`.

        Raises:
            ValueError: If the clouds have different sizes, a number is below one, or the subsets
                need more points than a cloud has.
        """
        blocks = tqdm(self.dense().split(BLOCK), "Partition", disable=not progress)
        index = [ops.farthest_point_partition(b, num_subsets, num_points) for b in blocks]
        return torch.cat(index) + self.offsets[:, None, None]

    def cached(self, function: Callable[..., T], *args: Hashable, **quiet: Any) -> T:
        """What a function computes of all clouds, computed once, so that runs share the work.

        The last few results of every function are kept, by the function and its arguments;
        :meth:`keep_at_least` keeps more, where more come in turn.

        .. code-block:: python

            subsets = bank.cached(subsets_of, 4, 252, progress=True)

        Args:
            function (callable): Takes this bank and the arguments, on which its result depends and
                on nothing else: a function of a module, whose result is not written to.
            *args: Its arguments, hashable.
            **quiet: Arguments that do not change the result, such as :obj:`progress`.

        Raises:
            TypeError: If an argument is not hashable.
        """
        return self._views.get(function, args, lambda: function(self, *args, **quiet))

    def keep_at_least(self, num: int) -> None:
        """Lets :meth:`cached` keep so many results of every function, in this process.

        Args:
            num (int): How many results of a function come again in turn.

        Raises:
            TypeError: If :obj:`num` is no integer.
            ValueError: If :obj:`num` is below one.
        """
        self._views.num = max(self._views.num, check_int("num", num))

    def keep_in(self, folder: str | os.PathLike[str]) -> None:
        """Lets :meth:`cached` keep the tensors that it computes in files, by all that is in clouds.

        They are mapped into memory, and another process finds them there, with the same versions of
        the packages and the same code of the function. A change in what that function calls is not
        seen: then take another folder. Clouds on another device than the CPU have nothing to keep.

        Args:
            folder (str or path): Where to.
        """
        if self.device.type == "cpu":
            self._views.folder, self._views.content = Path(folder), self.sha256()

    @property
    def kept_in(self) -> Path | None:
        """The folder of :meth:`keep_in`, if it was called."""
        return self._views.folder

    @property
    def network_sizes(self) -> tuple[int, ...]:
        """What a network for these clouds is made from, the number of classes."""
        return (self.num_classes,)

    def budget(self, ppc: float, quotas: Quotas = "uniform") -> StorageBudget:
        """The storage of :obj:`ppc` of these clouds per class.

        Args:
            ppc (float): The number of clouds per class.
            quotas (str or sequence of float): How it is divided among the classes, one of
                :obj:`~torch_geometric_ddp.quotas.QUOTAS` or a number for every class.
                (default: :obj:`"uniform"`)

        Raises:
            TypeError, ValueError: If one of them does not fit, or classes of labelled points shall
                have different quotas.
        """
        weights = weights_of(quotas, self.class_index.counts.tolist())
        if weights is not None and self.has_parts:
            raise ValueError(
                f"'quotas' must be 'uniform' where points are labelled with parts, got {quotas!r}"
            )
        num_points = self.dense().size(1)
        return StorageBudget(num_points, self.num_classes, ppc, self._label_bits, weights)

    def check_budget(self, budget: StorageBudget) -> StorageBudget:
        """Returns a budget, if it is at most the storage of all of these clouds.

        Args:
            budget (StorageBudget): The budget.

        Raises:
            ValueError: If it is larger.
        """
        whole = self.whole_bits()
        if budget.bits > whole:
            raise ValueError(
                f"'ppc' must not ask for more bits than the {whole} of the whole set of "
                f"{len(self)} clouds, got {budget.ppc} of them per class, {budget.bits} bits"
            )
        return budget

    @property
    def _label_bits(self) -> int:
        """What the labels of the points of one cloud of every class take together."""
        return 0

    def whole_bits(self) -> int:
        """The bits of all of these clouds as they are, in single precision."""
        return StorageBudget(self.dense().size(1), 1, len(self)).bits

    def sha256(self) -> str:
        """The first digits of a digest of all clouds and labels."""
        if self._sha256 is None:
            told = [self.pos, self.y]
            # Only where they say more, so that the digests of all other clouds stay.
            told += [] if self.exact is None else [self.exact]
            told += [] if self.num_points is not None else [self.sizes]
            digest = hashlib.sha256()
            for tensor in told:
                digest.update(bytes_of(tensor))
            self._sha256 = digest.hexdigest()[:16]
        return self._sha256

    def check_every_class(self) -> None:
        """Refuses classes without clouds, see :obj:`ClassIndex.check`."""
        self.class_index.check()

    def draw(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Random clouds of every class, :obj:`[C, num]`, see :obj:`ClassIndex.draw`."""
        return self.class_index.draw(num, generator)

    def smallest(self, keys: Tensor, num: int) -> Tensor:
        """Those with the smallest keys, :obj:`[C, num]`, see :obj:`ClassIndex.smallest`."""
        return self.class_index.smallest(keys, num)

    def cycle(self, index: Tensor, num: int) -> Tensor:
        """The first ones, again and again, :obj:`[C, num]`, see :obj:`ClassIndex.cycle`."""
        return self.class_index.cycle(index, num)

    def batch(self, index: Tensor) -> Batch:
        """The clouds :obj:`index [B]` as a PyG batch, whatever their sizes."""
        sizes = self.sizes[index]
        ptr = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
        # A number of times that is known needs no look at the device.
        times = sizes if self.num_points is None else self.num_points
        owner = torch.arange(len(index), device=self.device).repeat_interleave(times)
        extra: dict[str, Any] = {} if self.num_points is None else {"num_points": self.num_points}
        if self.ordered_for is not None:
            extra["in_order_for"] = self.ordered_for
        rows = self._rows(index)
        return Batch(pos=self.pos[rows], batch=owner, ptr=ptr, **self._labels(index, rows), **extra)

    def _rows(self, index: Tensor) -> Tensor:
        """Where the points of the clouds :obj:`index [B]` lie in :attr:`pos`."""
        if self.num_points is not None:
            points = torch.arange(self.num_points, device=self.device)
            return (self.offsets[index][:, None] + points).flatten()
        sizes = self.sizes[index]
        first = self.offsets[index] - (sizes.cumsum(0) - sizes)
        return first.repeat_interleave(sizes) + torch.arange(int(sizes.sum()), device=self.device)

    def _labels(self, index: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """The labels in a batch of the clouds :obj:`index [B]` with their points :obj:`rows`."""
        return {"y": self.y[index]}

    def _like(
        self, pos: Tensor, sizes: Tensor, index: Tensor | slice, rows: Tensor | slice
    ) -> Self:
        """A bank of the clouds :obj:`index` with the labels of the points :obj:`rows`."""
        return type(self)(pos, sizes, self.y[index], self.class_names)

    def batches(self, max_points: int = 1 << 15) -> Iterator[Batch]:
        """All clouds in their order, as batches of :obj:`max_points` points or of one cloud.

        Args:
            max_points (int): The most points of a batch of several clouds. (default:
                :obj:`32768`, for networks that need no gradient)
        """
        clouds = max(1, max_points // int(self.sizes.max()))
        for index in torch.arange(len(self), device=self.device).split(clouds):
            yield self.batch(index)


def _too_few(count: int, names: list[str]) -> str:
    return f"'class_names' must name {count} classes, got {len(names)}: {names!s:.80}"
