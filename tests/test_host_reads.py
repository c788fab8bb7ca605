"""What a step reads back from the device: every read waits for all that a GPU was asked before."""

import collections

import pytest
import torch
from helpers import toy_set
from torch.utils._python_dispatch import TorchDispatchMode

from torch_geometric_ddp import nn
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching import (
    SADM,
    DistributionMatching,
    GradientMatching,
    UniformityAwareSADM,
)
from torch_geometric_ddp.methods import dc, ddp, dm, sadm
from torch_geometric_ddp.parameterization import FullResolution, ShapeMorphing

# Operations whose result, or whose shape, the host waits for.
READS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::bincount",
    "aten::is_nonzero",
    "aten::equal",
    "aten::repeat_interleave",
}


class Reads(TorchDispatchMode):
    """Counts what a GPU would have to hand to the host, by operation.

    Numbers of tensors without data, on the device "meta", are taken to be one.
    """

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split(".")[0]
        sized = name == "aten::repeat_interleave" and (kwargs or {}).get("output_size") is not None
        masked = name == "aten::index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if masked or (name in READS and not sized):
            self.counts[name] += 1
        if name == "aten::_local_scalar_dense" and args[0].is_meta:
            return True if args[0].dtype == torch.bool else 1
        return func(*args, **(kwargs or {}))


def reads_of_a_step(method, **kwargs):
    bank = PointCloudBank.from_dataset(toy_set(3, 4, num_points=48)).normalize()
    loop = method.begin(bank, 1, network=nn.PointNet, **kwargs)
    loop.step()  # The views are computed and chunks measured once.
    with Reads() as reads:
        loop.step()
    return reads.counts


def test_reads_are_counted():
    x = torch.ones(3)
    with Reads() as reads:
        x[:2] + x.repeat_interleave(2)[:2]
        assert not reads.counts
        float(x.sum()), bool((x > 0).all()), x[x > 0], x.nonzero()
    assert sum(reads.counts.values()) == 4


METHODS = {
    "ddp": ddp(num_anchors=2, num_morphs=3, anchor_points=16),
    "sadm": sadm(),
    "dm": dm(),
    "dc": dc(),
}


@pytest.mark.parametrize("name", METHODS)
def test_step_reads_the_loss_and_a_seed(name):
    # The seed of the network is drawn on the CPU wherever the step is computed.
    assert reads_of_a_step(METHODS[name]) == {"aten::_local_scalar_dense": 2}


# Tensors without data, computed as on any device but a CPU ########################################

CLASSES, SIZE = 2, 256


def meta(*shape):
    return torch.randn(*shape, device="meta", requires_grad=True)


PARAMETERIZATIONS = {
    "anchors": lambda: ShapeMorphing(meta(CLASSES, 2, SIZE, 3), CLASSES, 3),
    "clouds": lambda: FullResolution(meta(CLASSES, SIZE, 3), CLASSES),
    "turned": lambda: FullResolution(meta(CLASSES, SIZE, 3), CLASSES, rotation_lr=0.1),
}
MATCHINGS = {
    "ddp": UniformityAwareSADM(),
    "sadm": SADM(False, 2.0, 1.0),
    "dm": DistributionMatching(),
    "dc": GradientMatching(),
}


def real_views():
    return {
        "pos": meta(CLASSES, 3, SIZE, 3),
        "subset_pos": meta(CLASSES, 3, 2, SIZE, 3),
        "uniformity": meta(CLASSES, 3),
        "subset_uniformity": meta(CLASSES, 3, 2),
    }


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize("stored", PARAMETERIZATIONS)
def test_matching_reads_nothing(stored, matching):
    network = nn.PointNet(CLASSES).to("meta").requires_grad_(False)
    parameterization = PARAMETERIZATIONS[stored]()
    with Reads() as reads:
        loss = MATCHINGS[matching](network, real_views(), parameterization())
        loss.sum().backward()
    assert loss.shape == (CLASSES,)
    assert not reads.counts
    assert all(p.grad.shape == p.shape for p in parameterization.parameters())


# Searches of neighbours check that what they are given is finite.
BACKBONES = {
    "PointNet": 0,
    "PointNet2SSG": 7,
    "PointNet2MSG": 19,
    "DGCNN": 4,
    "PointConv": 5,
    "PointTransformer": 19,
    "PointMamba": 3,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_reads_no_more_than(name):
    network = getattr(nn, name)(CLASSES).to("meta").eval().requires_grad_(False)
    pos = meta(3, SIZE, 3)
    with Reads() as reads:
        network.point_features(from_dense(pos)).sum().backward()
    assert pos.grad.shape == pos.shape
    assert sum(reads.counts.values()) <= BACKBONES[name]
