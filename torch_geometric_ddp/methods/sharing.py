"""What chunks and ranks ask of a method: that a class touches nothing but its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.matching import Matching
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.parameterization import Parameterization

__all__ = ["check_chunk", "check_counts", "check_rows", "share_rows", "shares_of"]


def check_chunk(classes_per_chunk: int | None, matching: Matching) -> int | None:
    """Returns how many classes are computed at a time, if so many may be."""
    if classes_per_chunk is None:
        return None
    classes_per_chunk = check_int("classes_per_chunk", classes_per_chunk)
    if not matching.per_class:
        raise ValueError(
            f"'classes_per_chunk' must not be given, as {type(matching).__name__} compares all "
            f"classes at once, got {classes_per_chunk}"
        )
    return classes_per_chunk


def check_counts(matching: Matching, name: str) -> None:
    """Raises unless a matching can compare classes of different numbers of clouds.

    One that treats every class by itself is given classes of the same number at a time.

    Args:
        matching (Matching): The matching.
        name (str): The argument that such numbers come from.
    """
    if not (matching.per_class or matching.unequal):
        raise ValueError(
            f"'{name}' must give all classes as many clouds, as {type(matching).__name__} compares "
            "all classes at once and does not say that their numbers may differ ('unequal')"
        )


def shares_of(
    ranks: Ranks, matching: Matching, num_classes: int, classes_per_chunk: int | None
) -> list[slice]:
    """The classes of every rank.

    With :obj:`classes_per_chunk` a chunk is the same classes on any number of ranks, and so is what
    is computed of it.

    Raises:
        ValueError: If so many ranks cannot share them.
    """
    if not ranks.alone and not matching.per_class:
        raise ValueError(
            f"{type(matching).__name__} compares all classes at once, which {ranks.size} ranks "
            "cannot share: start one process"
        )
    return ranks.split(num_classes, classes_per_chunk or 1)


def check_rows(ranks: Ranks, parameterization: Parameterization) -> None:
    """Raises if several ranks would each change what all classes share."""
    groups = parameterization.num_groups
    for name, parameter in parameterization.named_parameters():
        if not ranks.alone and parameter.shape[:1] != (groups,):
            raise ValueError(
                f"the parameter '{name}' must have a row for each of {groups} groups, so that "
                f"{ranks.size} ranks can share them, got shape {list(parameter.shape)}"
            )


def share_rows(
    ranks: Ranks,
    shares: Sequence[slice],
    parameterization: Parameterization,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Gives every rank the parameters of all classes, and what the optimiser keeps of them.

    Raises:
        ValueError: If the optimiser keeps what does not belong to one class.
    """
    if ranks.alone:
        return
    rows = [parameterization.groups_of(classes) for classes in shares]
    for parameter in parameterization.parameters():
        ranks.share(parameter.detach(), rows)
        for name, state in optimizer.state.get(parameter, {}).items():
            if not isinstance(state, Tensor) or state.dim() == 0:
                continue  # The same on every rank, such as a number of steps.
            if len(state) != len(parameter):
                raise ValueError(
                    "'optimizer' must keep a row for each group, so that several ranks can share "
                    f"it, got '{name}' of shape {list(state.shape)} for a parameter of shape "
                    f"{list(parameter.shape)}"
                )
            ranks.share(state, rows)
