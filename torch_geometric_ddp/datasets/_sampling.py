"""Sampling: which points of a cloud a data set keeps."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_int

Sampling = Literal["first", "fps", "random"]


def check_sampling(num_points: int | None, sampling: Sampling) -> None:
    """Raises unless the number is positive or :obj:`None`, and the sampling one there is."""
    if num_points is not None:
        check_int("num_points", num_points)
    if sampling not in get_args(Sampling):
        raise ValueError(f"'sampling' must be one of {get_args(Sampling)}, got {sampling!r}")


def choose_points(
    pos: Tensor, num: int, sampling: Sampling, generator: torch.Generator | None = None
) -> Tensor:
    """The indices :obj:`[B, num]` of the points to keep of the clouds :obj:`pos [B, N, 3]`.

    The first ones, those of farthest point sampling, or a random subset. Where there are fewer
    than :obj:`num` all are taken, and then again from the beginning.
    """
    batch_size, available = pos.shape[:2]
    kept = min(num, available)
    if sampling == "fps":
        index = ops.farthest_point_sample(pos, kept)
    elif sampling == "random":
        index = torch.rand(batch_size, available, generator=generator).argsort(dim=1)[:, :kept]
    else:
        index = torch.arange(kept).expand(batch_size, kept)
    return index[:, torch.arange(num) % kept]
