"""Optimisers of a distillation, and the schedules of their learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

__all__ = ["SGD", "MakeOptimizer", "cosine", "optimizer_of", "set_rates"]

#: Makes an optimiser from groups of parameters, each with its learning rate.
MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]

#: The optimiser of the published codes.
SGD: MakeOptimizer = partial(torch.optim.SGD, momentum=0.5)


def optimizer_of(make: MakeOptimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Makes an optimiser whose groups remember the learning rates that they start with.

    Args:
        make (callable): Makes it from the groups.
        groups (list of dict): The groups of parameters, see
            :meth:`~torch_geometric_ddp.parameterization.Parameterization.parameter_groups`.

    Raises:
        TypeError: If :obj:`make` is not callable.
    """
    if not callable(make):
        raise TypeError(
            "'optimizer' must make a torch.optim.Optimizer from groups of parameters, got "
            f"{type(make).__name__}"
        )
    return make([{**group, "initial_lr": group["lr"]} for group in groups])


def set_rates(
    optimizer: torch.optim.Optimizer,
    num_steps: int,
    schedule: Callable[[int], float] | None = None,
) -> None:
    """Sets the learning rates of a step.

    A group with :obj:`halve_every` has half of its rate after every so many steps, and every retry
    halves those of all groups.

    Args:
        optimizer (torch.optim.Optimizer): The optimiser, see :func:`optimizer_of`.
        num_steps (int): The steps that were taken before.
        schedule (callable, optional): The factor of all rates, from :obj:`num_steps`.
            (default: one)
    """
    factor = 1.0 if schedule is None else schedule(num_steps)
    for group in optimizer.param_groups:
        halvings = num_steps // group["halve_every"] if "halve_every" in group else 0
        halvings += group.get("retries", 0)  # Kept here, as a checkpoint keeps what groups have.
        group["lr"] = group["initial_lr"] * 0.5**halvings * factor


def cosine(num_steps: int, steps: int) -> float:
    """Half a cosine, from one before the first step to nearly zero before the last.

    Args:
        num_steps (int): The steps that were taken before.
        steps (int): The steps of the whole run.
    """
    return 0.5 * (1 + math.cos(math.pi * num_steps / steps))
