"""Division: how many groups every class of a synthetic set has, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from torch_geometric_ddp._checks import check_int

__all__ = ["check_counts", "counts_of_header", "groups_per_class", "mean_count"]


def groups_per_class(name: str, groups: Tensor, num_classes: int, what: str = "groups") -> int:
    """The number of rows of a tensor for each class.

    Raises:
        TypeError, ValueError: If there is none, or not as many for every class.
    """
    num_classes = check_int("num_classes", num_classes)
    if len(groups) == 0 or len(groups) % num_classes != 0:
        raise ValueError(
            f"'{name}' must hold as many {what} for each of {num_classes} classes, got "
            f"{len(groups)} {what}"
        )
    return len(groups) // num_classes


def mean_count(counts: Sequence[int]) -> int:
    """The number of groups of a class in the mean, rounded up."""
    return -(-sum(counts) // len(counts))


def check_counts(counts: Sequence[int], num_groups: int) -> tuple[int, ...]:
    """Returns the groups of every class, if they add up to all.

    Raises:
        TypeError, ValueError: If one is no such number, or they do not add up.
    """
    counts = tuple(check_int("counts", count) for count in counts)
    if not counts or sum(counts) != num_groups:
        raise ValueError(f"'counts' must add up to the {num_groups} groups, got {list(counts)}")
    return counts


def counts_of_header(config: Mapping[str, Any], num_classes: int, ppc: int) -> list[int] | None:
    """The groups of every class in a header, :obj:`None` where all classes have :obj:`ppc`.

    Raises:
        TypeError, ValueError: If they are no such numbers, or do not agree with the other two.
    """
    if "class_groups" not in config:
        return None
    if not isinstance(config["class_groups"], list | tuple):
        raise TypeError(f"'class_groups' must be numbers, got {config['class_groups']!r:.80}")
    counts = [check_int("class_groups", count) for count in config["class_groups"]]
    if len(counts) != num_classes or mean_count(counts) != ppc:
        raise ValueError(
            f"'class_groups' must be those of {num_classes} classes with {ppc} groups in the mean, "
            f"got {counts!r:.80}"
        )
    return counts
