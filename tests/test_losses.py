"""Losses that stay on the device until somebody looks at them."""

import math

import pytest
import torch
from helpers import TinyNet, toy_set

from torch_geometric_ddp import Distillation
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching import Matching
from torch_geometric_ddp.methods import losses
from torch_geometric_ddp.methods.losses import Losses
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.parameterization import FullResolution


class Poisoned(Matching):
    """No number in one step."""

    def __init__(self, step):
        super().__init__()
        self.step, self.calls = step, 0

    def forward(self, network, real, synthetic):
        self.calls += 1
        loss = synthetic.pos.view(len(real["pos"]), -1).square().mean(dim=1)
        return loss * (math.nan if self.calls == self.step else 1)


def loop_of(step=0):
    bank = PointCloudBank.from_dataset(toy_set())
    shape = FullResolution(bank.dense()[::6], 3)
    return Distillation(bank, shape, Poisoned(step), TinyNet, 2, classes_per_chunk=3)


@pytest.fixture
def unseen(monkeypatch):
    """A bar that shows its first loss and no other."""
    monkeypatch.setattr(losses, "_SHOW_EVERY", math.inf)


@pytest.mark.usefixtures("unseen")
def test_what_nobody_looks_at_is_read_at_the_end(monkeypatch):
    seen, read = [], Losses.read
    monkeypatch.setattr(Losses, "read", lambda self: seen.append(len(self)) or read(self))
    loop, other = loop_of(), loop_of()
    loop.run(5, progress=False)
    assert seen == [1, 5]
    assert [other.step() for _ in range(5)] == loop.losses
    seen.clear()
    # Somebody may look after every step.
    loop.run(8, progress=False, callback=lambda loop: seen.append(len(loop.losses)))
    assert seen == [6, 6, 7, 7, 8, 8]


@pytest.mark.usefixtures("unseen")
def test_the_step_of_a_loss_that_is_none_is_known_later():
    loop = loop_of(3)
    with pytest.raises(FloatingPointError, match="the loss of step 3 is nan"):
        loop.run(6, progress=False)
    assert (loop.num_steps, loop._losses.values) == (2, loop.losses)
    loop = loop_of(3)
    loop.run(6, progress=False, retries=1)
    assert (loop.num_steps, loop.num_retries, len(loop.losses)) == (6, 1, 6)
    assert all(map(math.isfinite, loop.losses))


def test_the_last_loss_can_be_left_out():
    kept = Losses(Ranks(), [slice(0, 2)])
    kept.read()
    kept.add(torch.tensor([1.0, 2.0]))
    kept.forget()
    assert len(kept) == 0
    kept.add(torch.tensor([1.0, 3.0]))
    kept.read()
    kept.add(torch.tensor([1.0, 4.0]))
    assert (len(kept), kept.values) == (2, [4.0])
    kept.read()
    kept.forget()
    assert kept.values == [4.0]
