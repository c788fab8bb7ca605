"""Checks of arguments, so that every error names the argument, what was expected and what came."""

from __future__ import annotations

import json
import math
import numbers
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.data.data import BaseData

# Clouds per class, beyond which a storage is a mistake.
_MOST_CLOUDS = 10**9


def _integer(value: Any) -> int | None:
    """The integer that a value is, if it is one; a tensor of one number may be."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def check_int(name: str, value: Any, minimum: int = 1, maximum: int | None = None) -> int:
    """Returns :obj:`value` as an :obj:`int` from :obj:`minimum` to :obj:`maximum`."""
    number = _integer(value)
    if number is None:
        raise TypeError(f"'{name}' must be an integer, got {shown(value)}")
    if number < minimum:
        raise ValueError(f"'{name}' must be at least {minimum}, got {value}")
    if maximum is not None and number > maximum:
        raise ValueError(f"'{name}' must be at most {maximum}, got {value}")
    return number


def check_seed(name: str, value: Any) -> int:
    """Returns :obj:`value` as a seed that every generator takes, from 0 to 2**63 - 1."""
    return check_int(name, value, minimum=0, maximum=2**63 - 1)


def check_float(name: str, value: Any, minimum: float = 0.0, exclusive: bool = False) -> float:
    """Returns :obj:`value` as a finite :obj:`float` of at least (or above) :obj:`minimum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"'{name}' must be a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # Of an integer.
        number = math.inf
    if not math.isfinite(number) or number < minimum or (exclusive and number == minimum):
        bound = "above" if exclusive else "at least"
        raise ValueError(f"'{name}' must be finite and {bound} {minimum:g}, got {value}")
    return number


def check_number(name: str, value: Any, exclusive: bool = False) -> float:
    """The same from zero; an :obj:`int` stays one, as the runs that were made before tell it."""
    number = check_float(name, value, exclusive=exclusive)
    return value if isinstance(value, int) else number


def check_ppc(value: Any) -> float:
    """Returns a storage in clouds per class, a number above 0; an :obj:`int` where it is whole."""
    whole = _integer(value)
    if whole is not None and whole > 0:
        return check_int("ppc", value, maximum=_MOST_CLOUDS)
    number = check_float("ppc", value, exclusive=True)
    if number > _MOST_CLOUDS:
        raise ValueError(f"'ppc' must be at most {_MOST_CLOUDS}, got {value}")
    return int(number) if number.is_integer() else number


def check_flag(name: str, value: Any) -> bool:
    """Returns :obj:`value` if it is true or false, and not what only counts as such."""
    if not isinstance(value, bool):
        raise TypeError(f"'{name}' must be True or False, got {shown(value)}")
    return value


def check_callable(name: str, value: Any, optional: bool = True) -> None:
    """Raises unless :obj:`value` can be called or, where it is optional, is :obj:`None`."""
    if not callable(value) and not (optional and value is None):
        raise TypeError(f"'{name}' must be callable, got {shown(value)}")


def check_maker(name: str, value: Any, optional: bool = True) -> None:
    """Raises unless :obj:`value` can make a network, which one that is made cannot."""
    if isinstance(value, nn.Module):
        raise TypeError(
            f"'{name}' must make a network, such as PointNet, got one that is made, a "
            f"{type(value).__name__}"
        )
    check_callable(name, value, optional)


def check_text(name: str, value: Any, optional: bool = False) -> None:
    """Raises unless :obj:`value` is text or, where it is optional, :obj:`None`."""
    if not isinstance(value, str) and not (optional and value is None):
        raise TypeError(f"'{name}' must be text, got {shown(value)}")


def check_json(name: str, value: Any) -> None:
    """Raises unless JSON can hold :obj:`value`, as it will in the header of a file."""
    try:
        json.dumps(value, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"'{name}' must be what JSON can hold: {error}") from error


def check_dataset(name: str, value: Any) -> None:
    """Raises unless :obj:`value` can hold clouds one after the other."""
    if isinstance(value, BaseData):  # Going through it gives its attributes.
        hint = "give batch.to_data_list()" if isinstance(value, Batch) else "put it into a list"
        raise TypeError(
            f"'{name}' must be a data set or a sequence of Data, got one {type(value).__name__}: "
            f"{hint}"
        )
    other = isinstance(value, str | bytes | Mapping | Tensor | np.ndarray | type)
    if other or not (hasattr(value, "__iter__") or hasattr(value, "__getitem__")):
        raise TypeError(f"'{name}' must be a data set or a sequence of Data, got {shown(value)}")


def check_device(name: str, value: Any) -> None:
    """Raises unless :obj:`value` names a device that this machine computes on, or is None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, str | int | torch.device):
        raise TypeError(f"'{name}' must be a device or its name, got {shown(value)}")
    try:
        float(torch.zeros((), device=value))
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"'{name}' must be a device that can be used here, got {value!r}: {error}"
        ) from error


def check_names(name: str, names: object) -> list[str]:
    """The names of classes or parts, which NumPy may hold as bytes, as a list of text."""
    if isinstance(names, np.ndarray):
        names = names.tolist()
    if isinstance(names, str | bytes) or not isinstance(names, Sequence):
        raise TypeError(f"'{name}' must be a list of strings, got {type(names).__name__}")
    for text in names:
        if not isinstance(text, str | bytes):
            raise TypeError(f"'{name}' must be a list of strings, got {text!r:.80} in it")
    texts = [text.decode("utf-8") if isinstance(text, bytes) else str(text) for text in names]
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise ValueError(f"'{name}' must differ, got '{twice:.80}' twice")
    return texts


def check_classes(names: Sequence[str], classes: Any) -> list[int]:
    """The labels of the classes that are chosen by their names or labels, of none given all."""
    if classes is None:
        return list(range(len(names)))
    if isinstance(classes, str | bytes) or not isinstance(classes, Iterable):
        raise TypeError(f"'classes' must be a sequence of names or labels, got {shown(classes)}")
    known: dict[str | int, int] = {name: i for i, name in enumerate(names)}
    known |= {i: i for i in range(len(names))}
    labels = []
    for one in classes:
        label = _integer(one)
        key = one if label is None and isinstance(one, str) else label
        if key not in known:
            raise ValueError(
                f"'classes' must be of {list(names)}, or labels below {len(names)}, got {one!r:.80}"
            )
        labels.append(known[key])
    if not labels:
        raise ValueError("'classes' must name at least one class, got none")
    return labels


def check_tensor(name: str, value: Any, dims: str) -> Tensor:
    """Returns :obj:`value` if it is a tensor; :obj:`dims` spells which shape it shall have."""
    if not isinstance(value, Tensor):
        raise TypeError(f"'{name}' must be a tensor of shape [{dims}], got {type(value).__name__}")
    return value


def check_points(name: str, pos: Any, dims: str = "B N 3", min_points: int = 1) -> Tensor:
    """Returns :obj:`pos` if it is a floating point tensor of the shape that :obj:`dims` spells."""
    pos = check_tensor(name, pos, dims)
    if pos.dim() != len(dims.split()) or pos.size(-1) != 3:
        raise ValueError(f"'{name}' must have shape [{dims}], got {list(pos.shape)}")
    if not pos.is_floating_point():
        raise TypeError(f"'{name}' must have a floating point dtype, got {pos.dtype}")
    if pos.size(-2) < min_points:
        raise ValueError(
            f"'{name}' must have at least {min_points} point(s) per cloud, got {pos.size(-2)}"
        )
    return pos


def check_indices(name: str, value: Tensor, copy: bool = False) -> Tensor:
    """Returns a tensor of integers as :obj:`int64`, in which any of them can be an index."""
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"'{name}' must have an integer type, got {value.dtype}")
    return value.to(torch.int64, copy=copy)


class NotFiniteError(ValueError, FloatingPointError):
    """Numbers are NaN or infinite: those of an argument, or what a run made that diverges."""


def check_finite(name: str, value: Tensor) -> None:
    """Raises if :obj:`value` holds NaN or infinite entries."""
    if not bool(torch.isfinite(value).all()):
        count = int((~torch.isfinite(value)).sum())
        raise NotFiniteError(f"'{name}' must be finite, got {count} NaN or infinite value(s)")


def check_finite_on_cpu(name: str, value: Tensor) -> None:
    """The same on a CPU. To look at another device waits for it, in every layer of a network."""
    if value.device.type == "cpu":
        check_finite(name, value)


def check_sizes(pos: Tensor, sizes: Any) -> None:
    """Raises unless :obj:`sizes` says, if it is given, how many points each of the clouds has."""
    if sizes is None:
        return
    fits = check_indices("sizes", check_tensor("sizes", sizes, "B")).shape == pos.shape[:1]
    # To look at another device waits for it.
    on_cpu = fits and sizes.device.type == "cpu"
    if not fits or (on_cpu and bool(((sizes < 1) | (sizes > pos.size(1))).any())):
        got = sizes.tolist() if fits else f"shape {list(sizes.shape)}"
        raise ValueError(f"'sizes' must be {len(pos)} numbers from 1 to {pos.size(1)}, got {got}")


def is_blurred(pos: Tensor, dtype: torch.dtype, share: float = 1e-5) -> bool:
    """Whether a shorter type moves points :obj:`[N, 3]` by more than a share of their extent.

    What it also does to centred points, in a type of few digits, does not count.
    """
    step = torch.finfo(dtype).eps
    if len(pos) == 0 or torch.finfo(pos.dtype).eps >= step:
        return False
    low, high = pos.aminmax(dim=0)
    extent = float((high - low).amax())
    # Four extents from the origin, such a type has two bits less than for centred points.
    return 0 < max(share, 4 * step) * extent < step * float(pos.abs().amax())


def shown(value: Any) -> str:
    """What came, for an error: its type and how it is written."""
    return f"{type(value).__name__} ({value!r:.80})"
