"""Quotas: how the groups that a budget has room for are divided among the classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_float, check_int, shown

__all__ = [
    "QUOTAS",
    "Quotas",
    "check_quotas",
    "check_weights",
    "first_of_each",
    "largest_remainders",
    "told_quotas",
    "weights_of",
]

#: The names that quotas can have: equally many of every class, proportional to the square root of
#: its number of real clouds, and proportional to that number.
QUOTAS = ("uniform", "sqrt-size", "size")

#: One of these names, or a number for every class to which its quota is proportional.
Quotas = str | Sequence[float]


def check_quotas(
    quotas: Any, num_classes: int | None = None, name: str = "quotas"
) -> str | tuple[float, ...]:
    """Returns quotas as a name or as numbers, which JSON can hold.

    Args:
        quotas (str or sequence of float): One of :obj:`QUOTAS` or a number above 0 for every class.
        num_classes (int, optional): How many numbers there must be. (default: any)
        name (str): What an error calls them. (default: :obj:`"quotas"`)

    Raises:
        TypeError: If they are no text and no sequence of numbers.
        ValueError: If the name is not known, a number is not above 0, or there is not one for
            every class.
    """
    if isinstance(quotas, np.ndarray | Tensor):
        quotas = quotas.tolist()
    if isinstance(quotas, str):
        if quotas not in QUOTAS:
            names = ", ".join(map(repr, QUOTAS))
            raise ValueError(f"'{name}' must be one of {names} or numbers, got {quotas!r:.80}")
        return quotas
    if not isinstance(quotas, Sequence) or isinstance(quotas, bytes):
        raise TypeError(f"'{name}' must be a name or a number for every class, got {shown(quotas)}")
    return check_weights(name, quotas, num_classes)


def check_weights(name: str, weights: Any, num_classes: int | None = None) -> tuple[float, ...]:
    """Returns a number above 0 for every class, if these are such."""
    if isinstance(weights, np.ndarray | Tensor):
        weights = weights.tolist()
    if not isinstance(weights, Sequence) or isinstance(weights, str | bytes):
        raise TypeError(f"'{name}' must be a number for every class, got {shown(weights)}")
    numbers = tuple(check_float(name, value, exclusive=True) for value in weights)
    if not numbers or (num_classes is not None and len(numbers) != num_classes):
        classes = "every class" if num_classes is None else f"each of {num_classes} classes"
        raise ValueError(f"'{name}' must have a number for {classes}, got {len(numbers)}")
    return numbers


def told_quotas(quotas: Quotas) -> dict[str, Any]:
    """What a set, a run and its line tell of quotas, as JSON: nothing where they are uniform."""
    checked = check_quotas(quotas)
    if checked == "uniform":
        return {}
    return {"quotas": checked if isinstance(checked, str) else list(checked)}


def weights_of(quotas: Quotas, sizes: Sequence[int]) -> tuple[float, ...] | None:
    """The numbers to which the quotas of the classes are proportional.

    Args:
        quotas (str or sequence of float): A name or the numbers themselves, checked.
        sizes (sequence of int): The number of real clouds of every class.

    Returns:
        A number for every class, :obj:`None` where all have the same.
    """
    checked = check_quotas(quotas, len(sizes))
    if not isinstance(checked, str):
        weights = checked
    elif checked == "sqrt-size":
        weights = tuple(math.sqrt(max(size, 1)) for size in sizes)
    else:
        weights = tuple(float(max(size, 1)) for size in sizes)
    return None if checked == "uniform" or len({*weights}) == 1 else weights


def largest_remainders(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    r"""Divides units among classes in proportion to their weights, at least one to each.

    A class whose share :math:`n \, w_c / \sum_j w_j` is below one unit gets one, and the others
    divide the rest in the same way. Shares are rounded down, and the units that are left go to the
    classes with the largest remainders (Hamilton's method), of equal ones to the first. A class of
    a larger weight never gets fewer. It is computed exactly, so that no rounding decides.

    Args:
        total (int): The number of units :math:`n`.
        weights (sequence of float): A number :math:`w_c` above 0 for every class.

    Raises:
        TypeError: If :obj:`weights` are no numbers, or :obj:`total` no integer.
        ValueError: If there is no weight, one is not above 0, or there are fewer units than
            classes.
    """
    weights, total = check_weights("weights", weights), check_int("total", total)
    if total < len(weights):
        raise ValueError(
            f"'total' must be at least one for each of {len(weights)} classes, got {total}"
        )
    exact, least = [Fraction(weight) for weight in weights], set[int]()
    while True:
        free = [c for c in range(len(exact)) if c not in least]
        unit = (total - len(least)) / sum((exact[c] for c in free), Fraction())
        small = [c for c in free if exact[c] * unit < 1]
        if not small:
            break
        least.update(small)
    counts = [1 if c in least else math.floor(exact[c] * unit) for c in range(len(exact))]
    left = sorted(free, key=lambda c: counts[c] - exact[c] * unit)  # Stable: the first come first.
    for c in left[: total - sum(counts)]:
        counts[c] += 1
    return tuple(counts)


def first_of_each(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """The first :obj:`counts[c]` of the rows of every class, class by class, :obj:`[sum, *]`.

    Args:
        rows (torch.Tensor): As many of every class, :obj:`[C, most, *]`.
        counts (sequence of int): How many are kept of every class, at most :obj:`most`.
    """
    if {*counts} == {rows.size(1)}:
        return rows.flatten(0, 1)
    kept = torch.arange(rows.size(1)) < torch.tensor(counts)[:, None]
    return rows[kept.to(rows.device)]
