"""Checks of arguments, so that every error names the argument, what was expected and what came."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def check_int(name: str, value: Any, minimum: int = 1) -> int:
    """Returns :obj:`value` as an :obj:`int` of at least :obj:`minimum`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"'{name}' must be an integer, got {type(value).__name__} ({value!r})")
    if value.__index__() < minimum:
        raise ValueError(f"'{name}' must be at least {minimum}, got {value}")
    return int(value)


def check_float(name: str, value: Any, minimum: float = 0.0, exclusive: bool = False) -> float:
    """Returns :obj:`value` as a finite :obj:`float` of at least (or above) :obj:`minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"'{name}' must be a number, got {type(value).__name__} ({value!r})")
    if not math.isfinite(value) or value < minimum or (exclusive and value == minimum):
        bound = "above" if exclusive else "at least"
        raise ValueError(f"'{name}' must be finite and {bound} {minimum:g}, got {value}")
    return float(value)


def check_ppc(value: Any, name: str = "ppc") -> float:
    """Returns a storage in clouds per class, a number above 0; an :obj:`int` where it is whole."""
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return check_int(name, value)
    number = check_float(name, value, exclusive=True)
    return int(number) if number.is_integer() else number


def check_points(name: str, pos: Any, dims: str = "B N 3", min_points: int = 1) -> Tensor:
    """Returns :obj:`pos` if it is a floating point tensor of the shape that :obj:`dims` spells."""
    if not isinstance(pos, Tensor):
        raise TypeError(f"'{name}' must be a tensor of shape [{dims}], got {type(pos).__name__}")
    if pos.dim() != len(dims.split()) or pos.size(-1) != 3:
        raise ValueError(f"'{name}' must have shape [{dims}], got {list(pos.shape)}")
    if not pos.is_floating_point():
        raise TypeError(f"'{name}' must have a floating point dtype, got {pos.dtype}")
    if pos.size(-2) < min_points:
        raise ValueError(
            f"'{name}' must have at least {min_points} point(s) per cloud, got {pos.size(-2)}"
        )
    return pos


def check_finite(name: str, value: Tensor) -> None:
    """Raises if :obj:`value` holds NaN or infinite entries."""
    if not bool(torch.isfinite(value).all()):
        count = int((~torch.isfinite(value)).sum())
        raise ValueError(f"'{name}' must be finite, got {count} NaN or infinite value(s)")


def is_blurred(pos: Tensor, dtype: torch.dtype, share: float = 1e-5) -> bool:
    """Whether a shorter type moves points :obj:`[N, 3]` by more than a share of their extent."""
    step = torch.finfo(dtype).eps
    if len(pos) == 0 or torch.finfo(pos.dtype).eps >= step:
        return False
    low, high = pos.aminmax(dim=0)
    extent = float((high - low).amax())
    return 0 < share * extent < step * float(pos.abs().amax())
