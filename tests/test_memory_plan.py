"""What a step takes: what is computed at a time, and what the plan says of it."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from helpers import NormNet, TinyNet, TinySegmenter, relative, toy_parts, toy_set

from torch_geometric_ddp import ops
from torch_geometric_ddp.clouds import LabelledBank
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching import sadm as sadm_module
from torch_geometric_ddp.methods import NetworkSource, ddp, memory_plan, networks
from torch_geometric_ddp.methods.memory_plan import class_bytes
from torch_geometric_ddp.nn import PointNet
from torch_geometric_ddp.parameterization import ShapeMorphing

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
table = importlib.import_module("memory_table")
warm_up = importlib.import_module("warm_up")

SMALL = ddp(num_anchors=2, num_morphs=3, batch_size=2)


@pytest.mark.parametrize("most", [1, 40, 24 * 24, 3 * 24 * 24])
def test_all_pairs_come_in_blocks(most, device):
    pos = torch.rand(5, 24, 3, generator=torch.Generator().manual_seed(0)).to(device)
    blocks = ops._dense_knn_distance(pos, 4, most)
    assert torch.equal(blocks, ops._dense_knn_distance(pos, 4))
    torch.testing.assert_close(blocks, ops.knn_distance(pos, 4), rtol=1e-5, atol=1e-6)


def step_of(bank, network, task):
    loop = SMALL.begin(bank, 3, network=network, task=task)
    loss = loop.step()
    return loss, [p.grad for p in loop.parameterization.parameters()]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_class_is_split_where_it_is_large(task, device, monkeypatch):
    """With the gradient of the whole, and never more clouds at a time than a block has."""
    seen = []

    class Recorder(TinyNet if task == "classification" else TinySegmenter):
        def cloud_features(self, data):
            seen.append(data.num_graphs)
            return super().cloud_features(data)

    if task == "classification":
        bank = PointCloudBank.from_dataset(toy_set(), device, torch.float64)
    else:
        bank = LabelledBank.from_dataset(toy_parts(), device, torch.float64)
    bank = bank.normalize()
    loss, grads = step_of(bank, Recorder, task)
    assert max(seen) == 3 * 3 * 5
    seen.clear()
    monkeypatch.setattr(sadm_module, "MOST_FEATURES", 1)
    monkeypatch.setattr(sadm_module, "BLOCK_FEATURES", 1500)
    split, split_grads = step_of(bank, Recorder, task)
    assert split == pytest.approx(loss, rel=1e-12)
    for ours, whole in zip(split_grads, grads, strict=True):
        assert relative(ours, whole) < 1e-10
    _, *ours = seen
    assert max(ours) < 20
    assert sum(ours) == 2 * 3 * 3 * 5  # There and, once more, back.


@pytest.mark.parametrize(("points", "clouds"), [(1 << 19, 12), (12 * 32, 12), (300, 9), (64, 2)])
def test_batch_norm_sees_no_more_points_than_fit(points, clouds, monkeypatch):
    monkeypatch.setattr(networks, "WARM_UP_POINTS", points)
    bank = PointCloudBank.from_dataset(toy_set(3))
    seen = []

    class Recorder(NormNet):
        def point_features(self, data):
            seen.append(data.pos)
            return super().point_features(data)

    generator, other = (torch.Generator().manual_seed(0) for _ in range(2))
    source = NetworkSource(Recorder, bank, 4, generator)
    source.fresh()
    assert len(seen[0]) == 32 * clouds
    # What is drawn afterwards does not depend on it.
    source._seed(), other.set_state(generator.get_state())
    owners = (seen[0].view(clouds, 1, 96) == bank.dense().flatten(1)).all(dim=-1)
    of_class = owners.float() @ torch.nn.functional.one_hot(bank.y).float()
    assert len(set(of_class.sum(dim=0).tolist())) <= 2
    assert float(of_class.sum()) == clouds


@pytest.mark.parametrize(("name", "make"), [*warm_up.makers()])
def test_what_batch_norm_sees_takes_no_more_than_a_chunk(name, make):
    takes = warm_up.warm_up_bytes(make, networks.WARM_UP_POINTS // warm_up.POINTS)
    more = 2 if name == "PointNet2Segmentation" else 1  # As docs/scaling.rst says.
    assert 1 << 29 < takes < more * memory_plan._BYTES


def test_the_plan_needs_no_memory_to_say_what_a_class_takes():
    def parts(device, ppc):
        with torch.device(device):
            shape = ShapeMorphing(torch.rand(2 * ppc, 2, 20, 3), 2, 3)
            return PointNet(2).requires_grad_(False), shape, {"pos": torch.rand(4, 20, 3)}, 8

    assert class_bytes(*parts("meta", 1)) == class_bytes(*parts("cpu", 1))
    assert class_bytes(*parts("meta", 2)) > 1.5 * class_bytes(*parts("meta", 1))


@pytest.mark.parametrize("num_classes", table.CLASSES)
@pytest.mark.parametrize("ppc", table.PPCS)
def test_a_step_fits_eight_gigabytes(num_classes, ppc):
    found = table.calculated(num_classes, ppc)
    assert found["step"] + found["real"] + found["synthetic"] < 8e9
    assert found["together"] >= 1
