"""Optimisers of a distillation, and learning rates that halve."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

__all__ = ["SGD", "MakeOptimizer", "halve_rates", "optimizer_of"]

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


def halve_rates(optimizer: torch.optim.Optimizer, num_steps: int) -> None:
    """Sets the learning rates of the groups that have a :obj:`halve_every` for the next step.

    Args:
        optimizer (torch.optim.Optimizer): The optimiser.
        num_steps (int): The number of steps taken so far. A rate is halved after every
            :obj:`halve_every` of them.
    """
    for group in optimizer.param_groups:
        if "halve_every" in group:
            group["lr"] = group["initial_lr"] * 0.5 ** (num_steps // group["halve_every"])
