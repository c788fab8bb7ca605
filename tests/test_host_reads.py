"""What a step reads back from the device: every read waits for all that a GPU was asked before."""

import collections
import copy
import functools
import weakref

import pytest
import torch
from helpers import TinyNet, toy_parts, toy_set
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from torch_geometric_ddp import edges, nn, ops
from torch_geometric_ddp.batching import Layout, from_dense
from torch_geometric_ddp.evaluation import SMOKE, fit
from torch_geometric_ddp.matching import (
    SADM,
    DistributionMatching,
    GradientMatching,
    KernelRegression,
    UniformityAwareSADM,
)
from torch_geometric_ddp.matching.discrepancy import mmd
from torch_geometric_ddp.methods import Method, dc, ddp, dm, packed, pkr, sadm, trained_networks
from torch_geometric_ddp.methods.loop import Distillation
from torch_geometric_ddp.methods.starts import real_clouds
from torch_geometric_ddp.parameterization import FullResolution, PointSet, ShapeMorphing
from torch_geometric_ddp.tasks import TASKS
from torch_geometric_ddp.transforms import NormalizeSphere

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
    """Counts what a device would have to hand to the host, by operation.

    Numbers of tensors without data, on the device "meta", are taken to be one.

    Args:
        only: The device whose tensors count, all if it is None.
    """

    def __init__(self, only=None):
        super().__init__()
        self.only, self.counts = only, collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.name().split(".")[0], kwargs or {}
        sized = name == "aten::repeat_interleave" and kwargs.get("output_size") is not None
        masked = name == "aten::index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        first = args[0] if args else None
        there = isinstance(first, torch.Tensor) and self.only in (None, first.device.type)
        copied = name == "aten::_to_copy" and kwargs.get("device") == torch.device("cpu")
        copied &= there and first.device.type != "cpu"
        if there and (masked or copied or (name in READS and not sized)):
            self.counts[name] += 1
        if there and first.is_meta and name == "aten::_local_scalar_dense":
            return True if first.dtype == torch.bool else 1
        if copied and first.is_meta:
            return torch.ones(first.shape, dtype=kwargs.get("dtype") or first.dtype)
        return func(*args, **kwargs)


class Room(TorchDispatchMode):
    """Refuses more than so many bytes of tensors without data, as a small device would."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.taken, self.most, self.known = limit, 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tree_map(self.note, out)
        return out

    def note(self, tensor):
        if not isinstance(tensor, torch.Tensor) or not tensor.is_meta:
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.taken += size
            self.most = max(self.most, self.taken)
            weakref.finalize(storage, self.forget, key, size)
            if self.taken > self.limit:
                raise torch.OutOfMemoryError(f"{self.taken} bytes, {self.limit} are there")

    def forget(self, key, size):
        self.known.discard(key)
        self.taken -= size


def test_reads_are_counted():
    x = torch.ones(3)
    with Reads() as reads:
        x[:2] + x.repeat_interleave(2)[:2]
        assert not reads.counts
        float(x.sum()), bool((x > 0).all()), x[x > 0], x.nonzero()
    assert sum(reads.counts.values()) == 4
    with Reads("meta") as reads:
        float(x.sum())
        assert not reads.counts
        x.to("meta")
        assert x.to("meta").cpu().tolist() == [1, 1, 1]
    assert sum(reads.counts.values()) == 1


def test_room_is_that_of_what_lives():
    with Room(1000) as room:
        x = torch.zeros(100, device="meta")
        for _ in range(10):
            x = x[:50] * 2 if len(x) > 50 else x * 2
        assert 400 < room.most < 1000
        with pytest.raises(torch.OutOfMemoryError):
            torch.zeros(250, device="meta")


# Whole steps on a device that is not that of the real clouds ######################################

SMALL = {"num_anchors": 2, "num_morphs": 3, "anchor_points": 16}
SETS = Method("sets", packed(16, PointSet(5), 0.01), DistributionMatching, 4)
METHODS = {
    "ddp": (ddp(**SMALL), nn.PointNet),
    "ddp, static": (ddp(**SMALL, adaptive=False), nn.PointNet),
    "sadm": (sadm(), nn.PointNet),
    "dm": (dm(), nn.PointNet),
    "dc": (dc(), nn.PointNet),
    "sets": (SETS, nn.PointNet),
    **{f"ddp, {name}": (ddp(**SMALL), made) for name, made in nn.BACKBONES.items()},
    "tiny": (ddp(**SMALL), TinyNet),
    "parts": (ddp(**SMALL), nn.PointNetSegmentation),
    "parts, PointNet2": (ddp(**SMALL, grouped=False), nn.PointNet2Segmentation),
}


def loop_elsewhere(name, num_points=48, per_class=4, **kwargs):
    """A loop whose real clouds are on the CPU, and everything else on the device "meta"."""
    method, network = METHODS[name]
    task = "segmentation" if name.startswith("parts") else "classification"
    if task == "segmentation":
        data = toy_parts(per_class, num_points)
    else:
        data = toy_set(3, per_class, num_points)
    bank = TASKS[task].read(data).normalize()
    return method.begin(bank, network=network, task=task, device="meta", **kwargs)


def check_reads_its_loss_alone(loop):
    with Reads("meta") as unseen:
        loop._step(read=False)
    assert not unseen.counts
    with Reads("meta") as seen:
        loop.step()
    assert seen.counts == {"aten::_to_copy": 1}


@pytest.mark.parametrize("name", METHODS)
def test_a_step_reads_its_loss_where_somebody_looks(name):
    loop = loop_elsewhere(name)
    with Reads("meta"):
        loop.step()  # The views are computed and chunks measured once.
    check_reads_its_loss_alone(loop)
    assert loop.losses == [1.0] * 3
    assert all(p.is_meta for p in loop.parameterization.parameters())
    learned = [p for p in loop.parameterization.parameters() if p.requires_grad]
    assert all(p.grad.is_meta for p in learned)


def test_only_the_clouds_of_a_step_come_to_the_device():
    """In less room than all of them take, chunk after chunk."""
    loop = loop_elsewhere("tiny", 256, 200, classes_per_chunk=1)
    with Reads("meta"):
        loop.prepare()
        whole = sum(view.nbytes for view in loop.views.values())
        with Room(whole // 2) as room:
            loop.step()
    assert 0 < room.most < whole // 2


def on_meta(bank):
    """A bank without data."""
    bank = copy.copy(bank)
    for name, value in vars(bank).items():
        if isinstance(value, torch.Tensor):
            setattr(bank, name, value.to("meta"))
    return bank


def without_passes(**kwargs):
    """SGD, which on "meta" alone lacks what it does in one pass elsewhere."""
    return functools.partial(torch.optim.SGD, **kwargs)


def test_a_step_with_several_updates_reads_a_loss_for_each_training(monkeypatch):
    """DC trains its network on the synthetic set between two updates, an epoch each."""
    bank = TASKS["classification"].read(toy_set(3, 4, 48)).normalize()
    loop = dc().begin(bank, 2, network=nn.PointNet, device="meta")
    assert (loop.outer_loops, loop.inner_epochs) == (5, 1)
    plain = without_passes()
    monkeypatch.setattr(torch.optim, "SGD", lambda *a, fused, **k: plain(*a, **k))
    # The sizes and labels of the synthetic set are looked at once, for which there must be data.
    loop._made = on_meta(bank.select(torch.tensor([0, 1, 4, 5, 8, 9])))
    with Reads("meta"):
        loop.step()
    with Reads("meta") as unseen:
        loop._step(read=False)
    assert unseen.counts == {"aten::_local_scalar_dense": 4}


def test_a_step_of_regression_reads_its_loss(monkeypatch):
    """PKR: networks that were trained on the real clouds, a kernel and its factor, and Adam."""
    method = pkr(num_points=16, depth=5, visits=0, ages=(0, 2), num_trained=1, real_per_class=2)
    task = TASKS["classification"]
    bank, generator = task.read(toy_set(3, 4, 48)).normalize(), torch.Generator().manual_seed(0)
    # What fits is counted from what is written, for which there must be data.
    budget = bank.budget(1 / 4)
    stored = method.storing(bank, budget, real_clouds, generator, task)
    networks = method.networks(nn.PointNet, on_meta(bank), method.batch_size, generator)
    monkeypatch.setattr(trained_networks, "_SGD", without_passes(lr=0.01, momentum=0.9))
    with Reads("meta") as training:
        assert len(networks.members()) == 2
    # Whether clouds are of the unit ball and points finite, and what either network makes of them.
    assert training.counts == {"aten::_local_scalar_dense": 4}
    loop = Distillation(
        on_meta(bank),
        stored,
        method.matching(),
        nn.PointNet,
        method.batch_size,
        method.optimizer,
        generator,
        networks=networks,
        schedule=functools.partial(method.schedule, steps=9),
        budget=budget,
        device="meta",
    )
    with Reads("meta"):
        loop.step()
    check_reads_its_loss_alone(loop)
    assert all(p.is_meta for p in stored.parameters())
    assert [p.grad.is_meta for p in stored.parameters() if p.grad is not None] == [True]


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
    "pkr": KernelRegression(),
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


@pytest.mark.parametrize("name", nn.BACKBONES)
def test_backbone_reads_nothing(name):
    network = getattr(nn, name)(CLASSES).to("meta").eval().requires_grad_(False)
    pos = meta(3, SIZE, 3)
    with Reads() as reads:
        network.point_features(from_dense(pos)).sum().backward()
    assert pos.grad.shape == pos.shape
    assert not reads.counts


# To look whether what is given is finite reads once.
OPS = {
    "farthest_point_sample": (1, lambda pos: ops.farthest_point_sample(pos, 8)),
    "farthest_point_order": (0, lambda pos: ops.farthest_point_order(pos, 8)),
    "farthest_point_partition": (1, lambda pos: ops.farthest_point_partition(pos, 4, 8)),
    "knn_distance": (1, lambda pos: ops.knn_distance(pos, 4)),
    "uniformity_score": (2, lambda pos: ops.uniformity_score(pos, 4)),
    "morph": (0, lambda pos: ops.morph(pos, meta(2, 3))),
    "knn": (0, lambda pos: edges.knn(pos, 4)),
    "ball_query": (0, lambda pos: edges.ball_query(pos, 0.5, 4)),
    "edge_index": (2, lambda pos: edges.edge_index(edges.knn(pos, 4), Layout(3, SIZE))),
    "mmd": (0, lambda pos: mmd(pos, pos)),
    "NormalizeSphere": (
        1,
        lambda pos: NormalizeSphere.apply(pos.flatten(0, 1), torch.full((3,), SIZE, device="meta")),
    ),
}


@pytest.mark.parametrize("name", OPS)
def test_op_reads_no_more_than(name):
    most, function = OPS[name]
    with Reads() as reads:
        try:
            out = function(meta(3, SIZE, 3))
        except NotImplementedError:  # As many edges as there are, which no tensor says.
            assert name == "edge_index"
        else:
            assert out.is_meta
    assert sum(reads.counts.values()) <= most


@pytest.mark.parametrize(
    "name", nn.BACKBONES | {"PointNetSegmentation": 0, "PointNet2Segmentation": 0}
)
def test_an_epoch_reads_its_loss(name, monkeypatch):
    parts = name.endswith("Segmentation")
    task = TASKS["segmentation" if parts else "classification"]
    real = task.read(toy_parts(2, 48) if parts else toy_set(3, 2, 48)).normalize()
    bank, network = on_meta(real), getattr(nn, name)(*real.network_sizes).to("meta")
    plain = without_passes()
    monkeypatch.setattr(torch.optim, "SGD", lambda *a, fused, **k: plain(*a, **k))
    with Reads("meta") as reads:
        fit(network, bank, SMOKE)
    assert reads.counts == {"aten::_local_scalar_dense": SMOKE.epochs}
