"""Optimisers of a distillation, the schedules of their learning rates and means of their steps."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from torch_geometric_ddp._checks import check_int

__all__ = [
    "SGD",
    "AveragedSGD",
    "MakeOptimizer",
    "averaged",
    "check_optimizer",
    "cosine",
    "late_share",
    "optimizer_of",
    "set_rates",
]

#: Makes an optimiser from groups of parameters, each with its learning rate.
MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]

#: The optimiser of the published codes.
SGD: MakeOptimizer = partial(torch.optim.SGD, momentum=0.5)


class AveragedSGD(torch.optim.SGD):
    r"""SGD whose result is a mean of its steps, in which later ones weigh more.

    The steps :math:`x_t` are those of :class:`torch.optim.SGD`. Beside them runs the mean

    .. math::
        \bar{x}_t = \bar{x}_{t-1} + \frac{\eta + 1}{t + \eta} (x_t - \bar{x}_{t-1}),

    in which a step weighs about as :math:`t^\eta` (polynomial-decay averaging, Shamir and Zhang,
    *Stochastic Gradient Descent for Non-smooth Optimization*, ICML 2013, section 4). It needs not
    be told how many steps there will be. A constant learning rate goes around a good place in the
    end, and the mean comes nearer to it. What is stored is the mean
    (:meth:`Distillation.stored <torch_geometric_ddp.Distillation.stored>`).

    .. code-block:: python

        synthetic = distill(dataset, 1, ddp(optimizer=AveragedSGD))

    Args:
        params (iterable): The parameters, or groups of them.
        lr (float): The learning rate. (default: :obj:`1e-3`)
        momentum (float): The momentum. (default: :obj:`0.5`, as in the published code of DDP)
        eta (int): How much more later steps weigh, :math:`\eta`; 0 is the mean of all.
            (default: :obj:`3`)
        **kwargs: Further arguments of :class:`torch.optim.SGD`.

    Raises:
        TypeError: If :obj:`eta` is no integer.
        ValueError: If :obj:`eta` is negative.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, momentum: float = 0.5, eta: int = 3, **kwargs: Any
    ) -> None:
        super().__init__(params, lr, momentum, **kwargs)
        self.eta = check_int("eta", eta, minimum=0)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Takes a step and brings the mean up to date."""
        loss = super().step(closure)
        for group in self.param_groups:
            # Kept here, as a checkpoint keeps what groups have.
            group["num_averaged"] = steps = group.get("num_averaged", 0) + 1
            for parameter in group["params"]:
                state = self.state[parameter]
                if "average" not in state:
                    state["average"] = torch.zeros_like(parameter)
                state["average"].lerp_(parameter, late_share(steps, self.eta))
        return loss


def late_share(num_steps: int, eta: int = 3) -> float:
    """The share of the last of so many steps in their mean, see :class:`AveragedSGD`."""
    return (eta + 1) / (num_steps + eta)


@contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Puts the means that an optimiser keeps in the place of the parameters, for a while.

    They are what its state of a parameter calls :obj:`"average"`, as that of :class:`AveragedSGD`
    does; a parameter without one stays as it is.
    """
    pairs = [(p, state["average"]) for p, state in optimizer.state.items() if "average" in state]

    @torch.no_grad()
    def swap() -> None:
        for parameter, mean in pairs:
            value = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(value)

    swap()
    try:
        yield
    finally:
        swap()


_EXPECTED = "'optimizer' must make a torch.optim.Optimizer from groups of parameters"


def check_optimizer(make: Any) -> None:
    """Raises unless it can be called, as what makes an optimiser can."""
    if not callable(make):
        raise TypeError(f"{_EXPECTED}, got {type(make).__name__}")


def optimizer_of(make: MakeOptimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Makes an optimiser whose groups remember the learning rates that they start with.

    Args:
        make (callable): Makes it from the groups.
        groups (list of dict): The groups of parameters, see
            :meth:`~torch_geometric_ddp.parameterization.Parameterization.parameter_groups`.

    Raises:
        TypeError: If :obj:`make` is not callable, or what it makes is no optimiser or one whose
            step needs a closure.
    """
    check_optimizer(make)
    optimizer = make([{**group, "initial_lr": group["lr"]} for group in groups])
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"{_EXPECTED}, got one of {type(optimizer).__name__}")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise TypeError(f"{_EXPECTED} whose step needs no closure, got {type(optimizer).__name__}")
    for settings in optimizer.param_groups:
        for key, value in settings.items():
            if isinstance(value, np.generic):  # Which no checkpoint can hold.
                settings[key] = value.item()
    return optimizer


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
