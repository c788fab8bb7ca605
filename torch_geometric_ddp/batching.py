"""From dense tensors :obj:`[B, N, F]` to PyG's flat batches :obj:`[ΣN, F]` and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

__all__ = ["Layout", "from_dense"]


def from_dense(pos: Tensor, **attributes: Any) -> Batch:
    """Makes a PyG batch of clouds of one size, without a copy and without a Python loop.

    Args:
        pos (torch.Tensor): The clouds :obj:`[B, N, 3]`.
        **attributes: Further attributes of the batch, such as the labels :obj:`y [B]`.

    Returns:
        A batch with :obj:`pos [B * N, 3]`, :obj:`batch`, :obj:`ptr` and the size :obj:`num_points`
        that the clouds share.

    Raises:
        ValueError: If :obj:`pos` has another number of dimensions.
    """
    if pos.dim() != 3:
        raise ValueError(f"'pos' must have shape [B, N, 3], got {list(pos.shape)}")
    size, num_points = pos.shape[:2]
    ptr = torch.arange(size + 1, device=pos.device) * num_points
    batch = torch.arange(size, device=pos.device).repeat_interleave(num_points)
    pos = pos.reshape(-1, pos.size(-1))
    return Batch(pos=pos, batch=batch, ptr=ptr, num_points=num_points, **attributes)


@dataclass(frozen=True)
class Layout:
    """How the points of a batch lie in :obj:`[B, N, ...]`, where N is the largest cloud.

    Clouds of one size are a view. Smaller clouds are filled up with copies of their last point,
    which changes no maximum over the points, and which :meth:`flat` leaves out again.
    """

    num_clouds: int
    num_points: int
    index: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def of(cls, data: Data) -> Layout:
        """The layout of a :obj:`Batch`, or of a single cloud in a :obj:`Data`.

        Raises:
            TypeError: If the points are not floating point.
            ValueError: If there are no points :obj:`pos [ΣN, 3]`, :obj:`batch` has another length
                or, on a CPU, falls, or a cloud is empty.
        """
        pos, batch, ptr, num_points = data.pos, data.batch, data.get("ptr"), data.get("num_points")
        if pos is None or pos.dim() != 2 or pos.size(0) == 0 or pos.size(1) != 3:
            shape = None if pos is None else list(pos.shape)
            raise ValueError(f"'data.pos' must have shape [N, 3] with N > 0, got {shape}")
        if not pos.is_floating_point():
            raise TypeError(f"'data.pos' must have a floating point dtype, got {pos.dtype}")
        if batch is None:
            return cls(1, pos.size(0))
        told = isinstance(num_points, int)
        if told and ptr is not None and num_points * (ptr.numel() - 1) == pos.size(0):
            return cls(ptr.numel() - 1, num_points)
        if batch.shape != pos.shape[:1]:
            raise ValueError(f"'data.batch' must have shape [{len(pos)}], got {list(batch.shape)}")
        on_cpu = batch.device.type == "cpu"  # To look at another device waits for it.
        if on_cpu and bool((batch[1:] < batch[:-1]).any()):
            raise ValueError("'data.batch' must be sorted, cloud by cloud, got one that falls")
        # What resamples the points leaves the bounds that the clouds had before.
        if ptr is None or told or (on_cpu and int(ptr[-1]) != pos.size(0)):
            sizes = torch.bincount(batch)
        else:
            sizes = ptr.diff()
        if int(sizes.min()) == 0:
            raise ValueError(f"'data' must hold no empty cloud, cloud {int(sizes.argmin())} is")
        return cls.of_sizes(sizes)

    @classmethod
    def of_sizes(cls, sizes: Tensor) -> Layout:
        """The layout of clouds of :obj:`sizes [B]` points, at least one each."""
        smallest, largest = int(sizes.min()), int(sizes.max())
        if smallest == largest:
            return cls(sizes.numel(), largest)
        steps = torch.arange(largest, device=sizes.device)
        start = (sizes.cumsum(0) - sizes)[:, None]
        index = start + torch.minimum(steps, sizes[:, None] - 1)
        return cls(sizes.numel(), largest, index, steps < sizes[:, None])

    @property
    def sizes(self) -> Tensor | None:
        """How many points each cloud has, :obj:`[B]`; :obj:`None` if all have as many."""
        return None if self.mask is None else self.mask.sum(dim=1)

    def first(self, num: int) -> Layout:
        """The layout of the first :obj:`num` points of every cloud, or all that it has."""
        if self.mask is None:
            return Layout(self.num_clouds, min(num, self.num_points))
        return Layout.of_sizes(self.mask[:, :num].sum(dim=1))

    def rows(self, index: Tensor) -> Tensor:
        """Where the points :obj:`index [B, ...]` of each cloud lie in the flat batch."""
        if self.index is None:
            start = torch.arange(self.num_clouds, device=index.device) * self.num_points
            return index + start.view(-1, *[1] * (index.dim() - 1))
        return self.index.gather(1, index.flatten(1)).view_as(index)

    def dense(self, x: Tensor) -> Tensor:
        """:obj:`[ΣN, F]` to :obj:`[B, N, F]`."""
        if self.index is None:
            return x.view(self.num_clouds, self.num_points, *x.shape[1:])
        return x[self.index]

    def flat(self, x: Tensor) -> Tensor:
        """:obj:`[B, N, F]` to :obj:`[ΣN, F]`."""
        return x.flatten(0, 1) if self.mask is None else x[self.mask]
