"""Means of the steps of a distillation, which are stored in the place of its last parameters."""

import pytest
import torch
from helpers import TinyNet, toy_set
from test_codecs import ToySet

from torch_geometric_ddp import SyntheticPointCloudDataset
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.methods import SGD, AveragedSGD, ddp
from torch_geometric_ddp.methods.optimizers import averaged
from torch_geometric_ddp.parameterization import PointSet


def steps_of(method, num=5, **kwargs):
    """A run, and its anchors after every step."""
    bank = PointCloudBank.from_dataset(toy_set()).normalize()
    loop, anchors = method.begin(bank, network=TinyNet, **kwargs), []
    keep = lambda loop: anchors.append(loop.parameterization.anchors.detach().clone())  # noqa: E731
    loop.run(num, progress=False, callback=keep)
    return loop, anchors


def mean_of(anchors, eta):
    """The mean with the weights that the recursion stands for, as rising factorials."""
    weights = [
        torch.arange(t, t + eta, dtype=torch.float64).prod() for t in range(1, len(anchors) + 1)
    ]
    total = sum(weight * one.double() for weight, one in zip(weights, anchors, strict=True))
    return (total / sum(weights)).float()


def test_the_bits_that_are_told_are_those_of_what_is_stored():
    method = ddp(2, 8, 3, codec=ToySet(), optimizer=AveragedSGD, anchor_lr=0.5)
    loop, _ = steps_of(method, 4)
    last = loop.parameterization.storage_bits()
    made = method.finish(loop)
    assert made.provenance["bits"] == made.storage_bits != last


@pytest.mark.parametrize("eta", [0, 1, 3])
def test_what_is_stored_is_the_mean_of_the_steps(eta):
    def make(groups):
        return AveragedSGD(groups, eta=eta)

    method = ddp(2, 8, 3, optimizer=make)
    loop, anchors = steps_of(method)
    stored = method.finish(loop).parameterization.anchors
    torch.testing.assert_close(stored, mean_of(anchors, eta), rtol=1e-5, atol=1e-6)
    assert torch.equal(loop.stored().anchors, stored)
    # The run is where it was, and its steps are those without a mean.
    assert torch.equal(loop.parameterization.anchors, anchors[-1])
    for one, other in zip(anchors, steps_of(ddp(2, 8, 3))[1], strict=True):
        assert torch.equal(one, other)


def test_a_mean_of_one_step_is_that_step():
    method = ddp(2, 8, 3, optimizer=AveragedSGD)
    loop, anchors = steps_of(method, 1)
    assert torch.equal(method.finish(loop).parameterization.anchors, anchors[0])
    # Before the first step there is no mean yet.
    loop, _ = steps_of(method, 0)
    assert torch.equal(loop.stored().anchors, loop.parameterization.anchors)


def test_a_mean_goes_with_points_that_are_put_in_another_order():
    codec = PointSet(6)
    method = ddp(2, 8, 3, codec=codec, optimizer=AveragedSGD, anchor_lr=0.5)
    loop, _ = steps_of(method, 10)
    mean = loop.optimizer.state[loop.parameterization.anchors]["average"]
    # Before the eleventh step points are put in the order of a file: the mean with them.
    before, kept = loop.parameterization.anchors.detach().clone(), mean.clone()
    loop.parameterization.reorder(loop.optimizer)
    after = loop.parameterization.anchors.detach()
    place = torch.cdist(after, before).argmin(dim=-1, keepdim=True)
    assert torch.equal(after, before.take_along_dim(place, dim=-2))
    assert not torch.equal(after, before)
    assert torch.equal(mean, kept.take_along_dim(place, dim=-2))


def test_a_run_with_a_mean_goes_on_from_its_checkpoint(tmp_path):
    method = ddp(2, 8, 3, optimizer=AveragedSGD)
    made = method.distill(toy_set(), steps=6, network=TinyNet, progress=False)
    path = tmp_path / "state.safetensors"
    for steps in (3, 6):
        parts = method.distill(
            toy_set(), steps=steps, network=TinyNet, progress=False, checkpoint=path
        )
    assert torch.equal(parts.parameterization.anchors, made.parameterization.anchors)
    made.save(tmp_path / "set.safetensors")
    read = SyntheticPointCloudDataset(tmp_path / "set.safetensors")
    assert torch.equal(read.parameterization.anchors, made.parameterization.anchors)
    # A checkpoint of a run without a mean is that of another run.
    with pytest.raises(ValueError, match="it differs in optimizer"):
        ddp(2, 8, 3, optimizer=SGD).distill(
            toy_set(), steps=7, network=TinyNet, progress=False, checkpoint=path
        )


def test_parameters_come_back_where_something_fails():
    loop, anchors = steps_of(ddp(2, 8, 3, optimizer=AveragedSGD))
    seen = []

    def fail():
        seen.append(loop.parameterization.anchors.detach().clone())
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"), averaged(loop.optimizer):
        fail()
    assert not torch.equal(seen[0], anchors[-1])
    assert torch.equal(loop.parameterization.anchors, anchors[-1])


def test_a_parameter_of_no_gradient_keeps_its_value():
    moved, still = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = AveragedSGD([moved, still], lr=1.0)
    moved.grad = torch.ones(2)
    optimizer.step()
    with averaged(optimizer):
        assert moved.tolist() == [0, 0]
        assert still.tolist() == [1, 1]


def test_usual_settings():
    """The momentum of the published code, and a mean in which a step weighs about as its cube."""
    optimizer = AveragedSGD([torch.nn.Parameter(torch.ones(1))])
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], optimizer.eta) == (1e-3, 0.5, 3)


@pytest.mark.parametrize(("eta", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_bad_eta(eta, error):
    with pytest.raises(error, match="'eta'"):
        AveragedSGD([torch.nn.Parameter(torch.ones(1))], eta=eta)
