"""The part labels of stored clouds, as the lengths of their runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_ddp.clouds.part_space import PartSpace

__all__ = ["PartLabels"]


class PartLabels(nn.Module):
    r"""How many points of each part a cloud has, where the points are stored part by part.

    All clouds of a category that are computed from others share one row, as a morph's point mixes
    points of one part; clouds that are stored as they are may have a row each.

    Args:
        counts (torch.Tensor): The number of points of every part, :obj:`[C * R, P]`, :obj:`R`
            rows for each of :obj:`C` categories; all rows have the same sum.
        space (PartSpace): The parts of the categories.

    Raises:
        ValueError: If a shape does not fit, a count is negative, a category has points of a part
            that is not its own, or the sums differ.
    """

    def __init__(self, counts: Tensor, space: PartSpace) -> None:
        super().__init__()
        each = len(counts) // space.num_categories
        shape = (each * space.num_categories, space.num_parts)
        if each == 0 or counts.shape != shape or counts.dtype != torch.long:
            raise ValueError(
                f"'counts' must be integers (int64), a row of {space.num_parts} for each of "
                f"{space.num_categories} categories or several, got {counts.dtype} of shape "
                f"{list(counts.shape)}"
            )
        sums = counts.sum(dim=1)
        mine = space.mask(counts.device).repeat_interleave(each, dim=0)
        if bool((counts < 0).any() | (counts[~mine] != 0).any() | (sums != sums[0]).any()):
            raise ValueError(
                "'counts' must not be negative, lie in the parts of the category, and have the "
                f"same sum in every row, got sums {sums.tolist()}"
            )
        self.space, self.rows_per_class = space, each
        parts = torch.arange(space.num_parts, device=counts.device).repeat(len(counts))
        rows = parts.repeat_interleave(counts.flatten()).view(len(counts), -1)
        self.part: Tensor
        self.register_buffer("part", rows)

    @property
    def num_points(self) -> int:
        """The number of points of a cloud."""
        return self.part.size(1)

    def check_fit(self, num_classes: int, num_points: int, rows: tuple[int, ...]) -> None:
        """Refuses clouds that these are not the labels of.

        Args:
            num_classes (int): The number of their classes.
            num_points (int): The number of points of a cloud.
            rows (tuple of int): How many rows of labels a class may have.

        Raises:
            ValueError: If anything differs.
        """
        mine = (self.space.num_categories, self.num_points)
        if mine != (num_classes, num_points) or self.rows_per_class not in rows:
            raise ValueError(
                f"'labels' must be {' or '.join(map(str, rows))} rows of {num_points} points for "
                f"each of {num_classes} categories, got {self.rows_per_class} of {self.num_points} "
                f"for {self.space.num_categories}"
            )

    def forward(self, start: int, stop: int, clouds_per_class: int) -> Tensor:
        """The parts :obj:`[B, N]` of the clouds of the classes :obj:`start` to :obj:`stop`."""
        rows = self.part[start * self.rows_per_class : stop * self.rows_per_class]
        return rows.repeat_interleave(clouds_per_class // self.rows_per_class, dim=0)

    def storage(self) -> dict[str, Tensor]:
        """:obj:`part_counts`, one integer for every row and part of its category."""
        num = self.space.num_parts
        row = torch.arange(len(self.part), device=self.part.device)[:, None] * num
        counts = torch.bincount((row + self.part).flatten(), minlength=len(self.part) * num)
        mine = self.space.mask(self.part.device).repeat_interleave(self.rows_per_class, dim=0)
        return {"part_counts": counts.view(len(self.part), num)[mine].to(torch.int32)}

    def config(self) -> dict[str, Any]:
        """The parts, which are the same for every set of this data set."""
        return {"parts": self.space.to_dict()}

    @classmethod
    def from_storage(
        cls, storage: Mapping[str, Tensor], config: Mapping[str, Any], num_points: int
    ) -> PartLabels | None:
        """Restores what :meth:`storage` describes, :obj:`None` where points have no labels.

        Args:
            storage (dict of torch.Tensor): The tensors of a file.
            config (dict): Its header.
            num_points (int): The number of points of a cloud.

        Raises:
            ValueError: If the tensor is missing or does not fit.
        """
        if "parts" not in config:
            return None
        space = PartSpace.from_dict(config["parts"])
        mine, stored = space.mask(), storage.get("part_counts")
        num = int(mine.sum())
        fits = stored is not None and stored.dtype == torch.int32 and stored.dim() == 1
        if stored is None or not fits or stored.numel() % num:
            got = None if stored is None else f"{stored.dtype} of shape {list(stored.shape)}"
            raise ValueError(
                f"the tensor 'part_counts' must be int32 of a multiple of {num} parts, got {got}"
            )
        mine = mine.repeat_interleave(stored.numel() // num, dim=0)
        counts = torch.zeros(mine.shape, dtype=torch.long)
        counts[mine] = stored.long()
        sums = counts.sum(dim=1)
        if bool((sums != num_points).any()):  # Before as many labels are made.
            raise ValueError(
                f"the tensor 'part_counts' must give a shape {num_points} points, got "
                f"{int(sums[sums != num_points][0])}"
            )
        return cls(counts, space)
