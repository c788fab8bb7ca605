"""Going back to the last good state of a distillation that diverges."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_geometric_ddp.methods.losses import Losses

__all__ = ["LastGood", "retries_of"]


class _State(NamedTuple):
    parameters: list[Tensor]
    optimizer: dict[str, Any]
    generator: Tensor
    num_steps: int


class LastGood:
    """The state of a distillation to which it goes back where it diverges.

    Whether a state is good the loss of the step from it tells, so that the one before it is kept,
    too: it goes back to that where this loss is not finite for a second time.

    Args:
        retries (int): How many times it may go back, the times before its checkpoint included; at
            0 nothing is kept.
        module (torch.nn.Module): What is optimised.
        optimizer (torch.optim.Optimizer): Its optimiser.
        generator (torch.Generator): The source of all randomness.
        losses (Losses): The losses so far.
    """

    def __init__(
        self,
        retries: int,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        losses: Losses,
    ) -> None:
        self.retries, self.module, self.optimizer = retries, module, optimizer
        self.generator, self.losses = generator, losses
        self._states: list[_State] = []
        self._was_tried = False
        self.keep()

    def keep(self) -> None:
        """Makes the state of now the good one."""
        if self.retries:
            state = _State(
                [p.detach().clone() for p in self.module.parameters()],
                copy.deepcopy(self.optimizer.state_dict()),
                self.generator.get_state(),
                len(self.losses),
            )
            self._states, self._was_tried = [*self._states[-1:], state], False

    def go_back(self, error: FloatingPointError) -> str:
        """Brings everything to the good state, with half the learning rates, and says so.

        Args:
            error (FloatingPointError): Why.

        Raises:
            FloatingPointError: That error, if no retry is left.
        """
        retry = retries_of(self.optimizer) + 1
        if retry > self.retries:
            raise error
        at_once = len(self.losses.values) == self._states[-1].num_steps
        if at_once and self._was_tried:  # No learning rate helps.
            del self._states[1:]
        state, self._was_tried = self._states[-1], at_once
        with torch.no_grad():
            for parameter, value in zip(self.module.parameters(), state.parameters, strict=True):
                parameter.copy_(value)
        # Loading takes tensors over as they are, and the next step would write into them.
        self.optimizer.load_state_dict(copy.deepcopy(state.optimizer))
        for group in self.optimizer.param_groups:
            group["retries"] = retry
        self.generator.set_state(state.generator)
        self.losses.cut(state.num_steps)
        return (
            f"Retry {retry} of {self.retries} after step {state.num_steps}, with half the learning "
            f"rates: {error}"
        )


def retries_of(optimizer: torch.optim.Optimizer) -> int:
    """How many times the learning rates of an optimiser were halved."""
    return int(optimizer.param_groups[0].get("retries", 0))
