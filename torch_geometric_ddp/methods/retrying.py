"""Going back to the last good state of a distillation that diverges."""

from __future__ import annotations

import copy

import torch
from torch import nn

from torch_geometric_ddp.methods.losses import Losses

__all__ = ["LastGood", "retries_of"]


class LastGood:
    """The state of a distillation to which it goes back where it diverges.

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
        self.keep()

    def keep(self) -> None:
        """Makes the state of now the good one."""
        if self.retries:
            self._parameters = [p.detach().clone() for p in self.module.parameters()]
            self._optimizer = copy.deepcopy(self.optimizer.state_dict())
            self._generator = self.generator.get_state()
            self._num_steps = len(self.losses)

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
        with torch.no_grad():
            for parameter, value in zip(self.module.parameters(), self._parameters, strict=True):
                parameter.copy_(value)
        # Loading takes tensors over as they are, and the next step would write into them.
        self.optimizer.load_state_dict(copy.deepcopy(self._optimizer))
        for group in self.optimizer.param_groups:
            group["retries"] = retry
        self.generator.set_state(self._generator)
        self.losses.cut(self._num_steps)
        return (
            f"Retry {retry} of {self.retries} after step {self._num_steps}, with half the learning "
            f"rates: {error}"
        )


def retries_of(optimizer: torch.optim.Optimizer) -> int:
    """How many times the learning rates of an optimiser were halved."""
    return int(optimizer.param_groups[0].get("retries", 0))
