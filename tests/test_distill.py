"""The loop from end to end, on small clouds and a small network."""

import dataclasses
import functools
import inspect
import itertools
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import NormNet, TinyNet, relative, toy_arrays, toy_parts, toy_set
from torch import nn
from torch_geometric.data import Data

from torch_geometric_ddp import (
    SMOKE,
    Distillation,
    Method,
    StorageBudget,
    SyntheticPointCloudDataset,
    distill,
    evaluate,
)
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.coreset import observe
from torch_geometric_ddp.datasets import ParametricShapes, PointCloudArrays
from torch_geometric_ddp.edges import knn
from torch_geometric_ddp.matching import SADM, Matching, UniformityAwareSADM
from torch_geometric_ddp.methods import SGD, NetworkSource, ddp, losses, memory_plan, morphing
from torch_geometric_ddp.methods.retrying import LastGood
from torch_geometric_ddp.nn import PointNetBN, PointNetSegmentation
from torch_geometric_ddp.parameterization import FullResolution, ShapeMorphing
from torch_geometric_ddp.visualize import plot_distilled

SMALL = {"num_anchors": 2, "num_morphs": 3, "batch_size": 2}
OF_DISTILL = set(inspect.signature(distill).parameters)


def run(dataset=None, network=TinyNet, **kwargs):
    """Distils by DDP, with all settings in one place, those of the method and those of the run."""
    dataset = toy_set() if dataset is None else dataset
    of_run = {"steps": 3, "progress": False}
    of_run.update({key: value for key, value in kwargs.items() if key in OF_DISTILL})
    method = {key: value for key, value in kwargs.items() if key not in OF_DISTILL}
    return distill(dataset, method=ddp(**{**SMALL, **method}), network=network, **of_run)


def parameters(dataset):
    return {k: v.detach() for k, v in dataset.parameterization.named_parameters()}


def same(first, second):
    first, second = parameters(first), parameters(second)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def loop_of(dtype=torch.float32, network=TinyNet, device="cpu", seed=0, matching=None, **kwargs):
    """A loop with all its pieces at hand, as distill makes it."""
    bank = PointCloudBank.from_dataset(toy_set(), device, dtype).normalize()
    generator = torch.Generator().manual_seed(seed)
    clouds = bank.dense()[bank.draw(2, generator)]
    shape = ShapeMorphing.from_clouds(clouds, 2, 15, 3, generator)
    matching = matching or UniformityAwareSADM()
    return Distillation(bank, shape, matching, network, 2, generator=generator, **kwargs)


# The result #######################################################################################


@pytest.mark.parametrize(
    ("ppc", "adaptive", "anchor_points"), [(1, True, 15), (2, True, 15), (1, False, 16)]
)
def test_result(device, ppc, adaptive, anchor_points):
    synthetic = run(ppc=ppc, adaptive=adaptive, device=device)
    assert len(synthetic) == 3 * ppc * 5
    assert synthetic.class_names == ["class0", "class1", "class2"]
    assert synthetic[0].pos.shape == (anchor_points, 3)
    assert synthetic[0].pos.device.type == "cpu"
    assert synthetic.parameterization.ppc == ppc
    assert synthetic.storage_bits <= StorageBudget(32, 3, ppc).bits
    assert all(bool(data.pos.isfinite().all()) for data in synthetic)


def test_names_of_classes_go_with_a_list_of_clouds_to_the_file_and_its_pictures(tmp_path):
    names = ["chair", "table", "lamp"]
    clouds = list(toy_set())
    assert run(clouds).class_names == ["0", "1", "2"]
    run(clouds, class_names=names).save(tmp_path / "set.safetensors")
    read = SyntheticPointCloudDataset(tmp_path / "set.safetensors")
    assert read.class_names == names
    assert "classes=3 (chair, table, lamp)" in repr(read)
    figure = plot_distilled(clouds, read, num_real=1, num_anchors=1, num_morphs=1)
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == names
    # Names change nothing else, and those of the data set give way.
    assert same(read, run(clouds))
    assert run(class_names=names).class_names == names


def test_it_says_first_what_it_is_going_to_do(capsys, tmp_path):
    where = {"checkpoint": tmp_path / "run.safetensors", "progress": True}
    bits = run(steps=2, **where).storage_bits
    told = f"To do: DDP of 3 classes, from 18 clouds to 15 in {bits:,} of 9,216 bits (PPC 1); "
    said = capsys.readouterr()
    assert f"{told}2 steps.\n" in said.err
    assert said.err.index(told) < said.err.index("Distill")
    assert said.out == ""
    run(steps=3, **where)
    assert f"{told}3 steps, of which 2 are taken.\n" in capsys.readouterr().err
    run(steps=3, **where)
    assert "To do" not in capsys.readouterr().err
    run(steps=1)
    assert capsys.readouterr() == ("", "")


def test_more_names_than_classes_are_refused():
    with pytest.raises(ValueError, match=r"got none of class 3 \(lamp\)"):
        run(list(toy_set()), class_names=["chair", "table", "stool", "lamp"])


def test_anchor_points_of_ones_own():
    assert run(anchor_points=7)[0].pos.shape == (7, 3)


def test_provenance():
    synthetic = run(seed=5, source="toys", uniformity_lambda=10.0)
    expected = {
        "method": "DDP",
        "source": "toys",
        "num_points": 32,
        "ppc": 1,
        "bits": synthetic.storage_bits,
        "budget_bits": 96 * 32 * 3,
        "steps": 3,
        "seed": 5,
        "uniformity_lambda": 10.0,
        "matching": "UniformityAwareSADM",
        "network": "helpers.TinyNet",
        "batch_size": 2,
        "optimizer": {"partial": "torch.optim.sgd.SGD", "keywords": {"momentum": 0.5}},
        "learning_rates": [2.5, 0.25],
        "num_real_clouds": 18,
        "num_anchors": 2,
        "anchor_points": 15,
        "num_morphs": 3,
        "adaptive": True,
    }
    assert {key: synthetic.provenance[key] for key in expected} == expected
    assert synthetic.provenance["versions"]["torch"] == torch.__version__


def test_provenance_of_static_morphs():
    assert run(adaptive=False).provenance["method"] == "DDP-static"


def test_source_is_the_name_of_the_data_set():
    assert run().provenance["source"] == "PointCloudArrays"
    shapes = ParametricShapes(num_per_class=2, num_points=32)
    shapes.name = "shapes"
    assert run(shapes, steps=1).provenance["source"] == "shapes"


def test_no_steps_give_the_initial_set():
    ours, theirs = run(steps=0).parameterization.storage(), loop_of().parameterization.storage()
    assert set(ours) == set(theirs) == {"anchors", "weights"}
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_what_is_handed_out_is_what_is_stored(tmp_path):
    synthetic = run(steps=2)
    synthetic.save(tmp_path / "set")
    again = SyntheticPointCloudDataset(tmp_path / "set")
    assert all(torch.equal(a.pos, b.pos) for a, b in zip(again, synthetic, strict=True))


def points_of(clouds):
    return {tuple(point) for point in clouds.detach().flatten(0, -2).tolist()}


@pytest.mark.parametrize("normalize", [True, False])
def test_anchors_start_from_real_clouds(normalize):
    bank = PointCloudBank.from_dataset(toy_set())
    real = bank.normalize().dense() if normalize else bank.dense()
    anchors = run(steps=0, normalize=normalize).parameterization.anchors
    for c in range(3):
        assert points_of(anchors[c]) <= points_of(real[bank.y == c])


def test_size_and_place_of_the_clouds_do_not_matter():
    dataset = [Data(pos=8 * data.pos, y=data.y) for data in toy_set()]
    assert same(run(dataset), run())
    assert not same(run(dataset, normalize=False), run(normalize=False))


def test_class_smaller_than_its_anchors():
    points, labels = toy_arrays(per_class=3)
    synthetic = run(PointCloudArrays(points, labels), ppc=3, steps=1)
    assert len(synthetic) == 3 * 3 * 5


def test_class_of_a_single_cloud():
    # All that is drawn of it, real or synthetic, is the same cloud.
    synthetic = run(toy_set(per_class=1))
    assert all(bool(data.pos.isfinite().all()) for data in synthetic)


def test_any_sequence_of_data_will_do():
    dataset = [Data(pos=data.pos, y=data.y) for data in toy_set()]
    assert same(run(dataset), run())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_dataset_of_another_precision(dtype):
    dataset = [Data(pos=data.pos.to(dtype), y=data.y) for data in toy_set()]
    assert run(dataset, steps=1)[0].pos.dtype == torch.float32


# What a step does #################################################################################


def losses_of_easy_problem(anchor_lr, weight_lr):
    """Every class starts from the clouds of another one."""
    bank = PointCloudBank.from_dataset(toy_set(per_class=8)).normalize()
    generator = torch.Generator().manual_seed(0)
    clouds = bank.dense()[bank.draw(2, generator)].roll(1, dims=0)
    rates = {"anchor_lr": anchor_lr, "weight_lr": weight_lr}
    shape = ShapeMorphing.from_clouds(clouds, 2, 15, 3, generator, **rates)
    loop = Distillation(bank, shape, UniformityAwareSADM(), TinyNet, 8, generator=generator)
    loop.run(30, progress=False)
    return loop.losses


def test_loss_decreases_on_an_easy_problem():
    # The same draws and the same networks, with steps and without.
    learned, still = losses_of_easy_problem(8.0, 0.8), losses_of_easy_problem(0.0, 0.0)
    assert learned[0] == still[0]
    assert sum(still[-5:]) > 0.8 * sum(still[:5])
    assert sum(learned[-5:]) < 0.5 * sum(still[-5:])


def test_step_is_sgd_on_the_sum_of_the_class_losses():
    loop = loop_of(torch.float64)
    shape = loop.parameterization
    before = {k: v.detach().clone() for k, v in shape.named_parameters()}
    state = loop.generator.get_state()
    loss = loop.step()

    twin = loop_of(torch.float64)
    twin.generator.set_state(state)
    seed = int(torch.randint(2**62, (), generator=twin.generator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = TinyNet(3).double().requires_grad_(False)
    index = twin.bank.draw(2, twin.generator)
    views = UniformityAwareSADM().prepare(twin.bank, 15)
    views = {key: view[index] for key, view in views.items()}
    losses = UniformityAwareSADM()(network, views, twin.parameterization())
    losses.sum().backward()
    assert loss == pytest.approx(losses.sum().item(), rel=1e-12)
    for name, parameter in twin.parameterization.named_parameters():
        lr = {"anchors": 2.5, "weights": 0.25}[name]
        moved = before[name] - lr * parameter.grad
        torch.testing.assert_close(dict(shape.named_parameters())[name].detach(), moved)


def test_momentum():
    loop = loop_of(torch.float64)
    before = loop.parameterization.anchors.detach().clone()
    loop.step()
    first = loop.parameterization.anchors.detach() - before
    buffer = loop.optimizer.state[loop.parameterization.anchors]["momentum_buffer"].clone()
    loop.step()
    second = loop.parameterization.anchors.detach() - before - first
    gradient = loop.parameterization.anchors.grad
    torch.testing.assert_close(second, -2.5 * (0.5 * buffer + gradient))


@pytest.mark.parametrize("network", [TinyNet, NormNet])
@pytest.mark.parametrize("size", [1, 2])
def test_chunks_of_classes_give_the_same_gradient(network, size, device):
    whole, chunked = (
        loop_of(torch.float64, network, device, classes_per_chunk=n) for n in (None, size)
    )
    assert whole.step() == pytest.approx(chunked.step(), rel=1e-12)
    assert relative(chunked.parameterization.anchors.grad, whole.parameterization.anchors.grad) < (
        1e-10
    )
    assert relative(chunked.parameterization.weights.grad, whole.parameterization.weights.grad) < (
        1e-10
    )


@pytest.mark.parametrize(("allowed", "chunks"), [(1, 3), (1 << 40, 1)])
def test_chunks_hold_so_many_bytes_unless_told(monkeypatch, allowed, chunks):
    monkeypatch.setattr(memory_plan, "_BYTES", allowed)
    sizes = []

    class Recorder(TinyNet):
        def cloud_features(self, data):
            sizes.append(data.num_graphs)
            return super().cloud_features(data)

    loop_of(network=Recorder).step()
    assert len(sizes) == 2 * chunks  # The real and the synthetic clouds of every chunk.
    sizes.clear()
    loop_of(network=Recorder, classes_per_chunk=2).step()
    assert len(sizes) == 2 * 2


class Spy:
    """Makes networks and keeps them."""

    __name__ = "Spy"

    def __init__(self, kind):
        self.kind, self.made = kind, []

    def __call__(self, num_classes):
        self.made.append(self.kind(num_classes))
        return self.made[-1]


def test_every_step_has_a_network_of_its_own():
    spy = Spy(TinyNet)
    loop_of(network=spy).run(3, progress=False)
    assert len(spy.made) == 3
    assert not torch.equal(spy.made[0].head.weight, spy.made[1].head.weight)
    assert not any(p.requires_grad for net in spy.made for p in net.parameters())


def test_batch_norm_is_warmed_up_and_fixed():
    seen = []

    class Recorder(NormNet):
        def point_features(self, data):
            norm = self.mlp[1]
            mean = norm.running_mean.clone()
            out = super().point_features(data)
            seen.append((norm.training, data.num_graphs, mean, norm.running_mean.clone()))
            return out

    loop = loop_of(network=Recorder)
    loop.step()
    warm, *rest = seen
    assert warm[:2] == (True, 6)  # Two real clouds of each of three classes.
    assert bool((warm[2] == 0).all())
    assert bool((warm[3] != 0).any())
    assert len(rest) >= 2
    for training, _, before, after in rest:
        assert not training
        assert torch.equal(before, warm[3])
        assert torch.equal(after, warm[3])


def test_batch_norm_behind_the_pool_is_warmed_up_too():
    loop = loop_of(network=PointNetBN)
    network = loop.networks.fresh()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert {*norms} & {*network.head.modules()}
    assert all(int(norm.num_batches_tracked) == 1 for norm in norms)


def test_network_without_batch_norm_draws_no_warm_up():
    calls = []

    class Recorder(TinyNet):
        def point_features(self, data):
            calls.append(data.num_graphs)
            return super().point_features(data)

    loop_of(network=Recorder, classes_per_chunk=3).step()
    assert sorted(calls) == [3 * 2 * 2, 3 * 5]  # Subsets of real clouds, and synthetic clouds.


def test_full_resolution_with_sadm():
    bank = PointCloudBank.from_dataset(toy_set())
    clouds = FullResolution(bank.dense()[bank.draw(1, torch.Generator())].flatten(0, 1), 3)
    loop = Distillation(bank, clouds, SADM(), TinyNet, 4)
    before = clouds.pos.detach().clone()
    loop.run(2, progress=False)
    assert bool((clouds.pos != before).any(dim=-1).any(dim=-1).all())


# Repeatability ####################################################################################


def test_same_seed_is_the_same_to_the_bit(device):
    losses = [], []
    sets = [
        run(seed=3, device=device, callback=lambda loop, own=own: own.append(loop.losses[-1]))
        for own in losses
    ]
    assert same(*sets)
    assert losses[0] == losses[1]


def test_other_seed_is_another_set():
    first, second = run(seed=0), run(seed=1)
    assert not torch.equal(first.parameterization.anchors, second.parameterization.anchors)
    assert not torch.equal(first.parameterization.weights, second.parameterization.weights)


def test_global_generators_are_left_alone(device):
    state = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    run(device=device, network=NormNet)
    assert torch.equal(torch.get_rng_state(), state)
    after = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    assert all(torch.equal(a, b) for a, b in zip(cuda, after, strict=True))


class DrawingNet(TinyNet):
    """Draws from the global generators before the features."""

    def point_features(self, data):
        return nn.functional.dropout(super().point_features(data), 0.5, self.training)


@pytest.mark.parametrize("network", [TinyNet, DrawingNet])
def test_global_generators_do_not_matter(network):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = run(network=network)
        torch.manual_seed(2)
        second = run(network=network)
    assert same(first, second)


class PlainSource(NetworkSource):
    """A source of one's own that simply makes its networks."""

    seen: ClassVar[list] = []

    def fresh(self):
        network = self.make(*self.bank.network_sizes).requires_grad_(False)
        self.seen.append(network.head.weight.clone())
        return network


def test_no_step_draws_what_the_evaluation_or_another_seed_draws():
    weights = []
    for seed in range(6):
        with seeded(seed, torch.device("cpu")):
            weights.append(TinyNet(3).head.weight)
    PlainSource.seen.clear()
    for seed in range(3):
        method = dataclasses.replace(ddp(**SMALL), networks=PlainSource)
        distill(toy_set(), method=method, steps=3, network=TinyNet, progress=False, seed=seed)
    weights += PlainSource.seen
    assert len(weights) == 6 + 9
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(weights, 2))


def test_callback_sees_every_step():
    steps = []
    run(callback=lambda loop: steps.append((loop.num_steps, len(loop.losses))))
    assert steps == [(1, 1), (2, 2), (3, 3)]


# Checkpoints ######################################################################################


@pytest.mark.parametrize("network", [TinyNet, NormNet, DrawingNet])
def test_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, network, device):
    path, losses = tmp_path / "checkpoint", []

    def keep(loop):
        losses.append(list(loop.losses))

    settings = {"network": network, "device": device, "callback": keep}
    whole = run(steps=6, **settings)
    run(steps=2, checkpoint=path, **settings)
    first_losses = losses[-1]
    resumed = run(steps=6, checkpoint=path, **settings)
    assert same(whole, resumed)
    assert len(losses) == 6 + 2 + 4
    assert losses[-1] == losses[5]
    assert losses[-1][:2] == first_losses
    assert resumed.provenance == whole.provenance


OPTIMIZERS = {
    "Adam": functools.partial(torch.optim.Adam, betas=(0.8, 0.9)),
    "AdamW": functools.partial(torch.optim.AdamW, amsgrad=True),
    "RMSprop": functools.partial(torch.optim.RMSprop, momentum=0.5, centered=True),
    "Adagrad": torch.optim.Adagrad,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_resumes_to_the_bit(tmp_path, name, device):
    path, settings = tmp_path / "checkpoint", {"optimizer": OPTIMIZERS[name], "anchor_lr": 0.01}
    whole = run(steps=6, device=device, **settings)
    run(steps=2, checkpoint=path, device=device, **settings)
    resumed = run(steps=6, checkpoint=path, device=device, **settings)
    assert same(whole, resumed)
    assert resumed.provenance == whole.provenance
    assert not same(whole, run(steps=6, device=device, anchor_lr=0.01))


def test_settings_of_an_optimizer_may_be_numbers_of_numpy(tmp_path):
    """Which a checkpoint takes as those of Python."""
    own = functools.partial(torch.optim.SGD, momentum=np.float32(0.5))
    whole = run(steps=4, optimizer=own)
    run(steps=2, checkpoint=tmp_path / "a", optimizer=own)
    assert same(run(steps=4, checkpoint=tmp_path / "a", optimizer=own), whole)
    assert same(whole, run(steps=4))


def test_optimizer_is_given_the_groups_with_their_rates():
    loop = loop_of(optimizer=torch.optim.Adam)
    assert isinstance(loop.optimizer, torch.optim.Adam)
    assert [group["lr"] for group in loop.optimizer.param_groups] == [2.5, 0.25]
    loop.step()
    moved = loop.optimizer.state[loop.parameterization.anchors]
    assert set(moved) == {"step", "exp_avg", "exp_avg_sq"}


class StopError(Exception):
    pass


def test_run_that_was_stopped_goes_on(tmp_path):
    path = tmp_path / "checkpoint"

    def stop(loop):
        if loop.num_steps == 60:
            raise StopError

    with pytest.raises(StopError):
        run(steps=70, checkpoint=path, callback=stop)
    steps = []
    resumed = run(steps=70, checkpoint=path, callback=lambda loop: steps.append(loop.num_steps))
    assert steps == list(range(51, 71))  # The last checkpoint was at 50.
    assert same(resumed, run(steps=70))


def test_finished_run_takes_no_more_steps(tmp_path):
    path, steps = tmp_path / "checkpoint", []
    first = run(checkpoint=path)
    again = run(checkpoint=path, callback=lambda loop: steps.append(loop.num_steps))
    assert steps == []
    assert same(first, again)


def test_fewer_steps_than_were_taken(tmp_path):
    run(steps=3, checkpoint=tmp_path / "a")
    with pytest.raises(ValueError, match="'steps' must be at least the 3 that were taken before"):
        run(steps=2, checkpoint=tmp_path / "a")


def test_checkpoint_every(tmp_path):
    loop, found = loop_of(), []

    def look(loop):
        other = loop_of()
        if (tmp_path / "a").exists():
            other.load_checkpoint(tmp_path / "a")
        found.append(other.num_steps)

    loop.run(5, False, tmp_path / "a", checkpoint_every=2, callback=look)
    assert found == [0, 2, 2, 4, 5]


def test_checkpoint_restores_everything(tmp_path):
    loop, other = loop_of(), loop_of(seed=0)
    loop.run(2, progress=False)
    loop.save_checkpoint(tmp_path / "a")
    other.load_checkpoint(tmp_path / "a")
    assert other.losses == loop.losses
    assert torch.equal(other.generator.get_state(), loop.generator.get_state())
    pairs = (x.parameterization.parameters() for x in (loop, other))
    for p, q in zip(*pairs, strict=True):
        assert torch.equal(p, q)
        buffers = [x.optimizer.state[y]["momentum_buffer"] for x, y in ((loop, p), (other, q))]
        assert torch.equal(*buffers)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"batch_size": 3}, "batch_size"),
        ({"optimizer": functools.partial(torch.optim.SGD, momentum=0.25)}, "optimizer"),
        ({"optimizer": torch.optim.Adam}, "optimizer"),
        ({"classes_per_chunk": 1}, "classes_per_chunk"),
        ({"anchor_lr": 1.0}, "learning_rates"),
        ({"weight_lr": 1.0}, "learning_rates"),
        ({"uniformity_lambda": 1.0}, "uniformity_lambda"),
        ({"num_morphs": 2}, "parameterization"),
        ({"num_anchors": 3}, "parameterization"),
        ({"anchor_points": 9}, "parameterization"),
        ({"ppc": 2}, "parameterization"),
        ({"adaptive": False, "anchor_points": 15}, "learning_rates"),
        ({"network": NormNet}, "network"),
        ({"seed": 1}, "seed"),
        ({"normalize": False}, "real_sha256"),
        ({"dataset": toy_set(seed=1)}, "real_sha256"),
        ({"dataset": toy_set(per_class=5)}, "num_real_clouds"),
    ],
    ids=str,
)
def test_resuming_with_other_settings_is_refused(tmp_path, settings, name):
    path = tmp_path / "checkpoint"
    run(checkpoint=path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=rf"is of another run: it differs in .*\b{name} \("):
        run(checkpoint=path, **settings)
    assert path.read_bytes() == content


def test_resuming_with_other_labels_is_refused(tmp_path):
    points, labels = toy_arrays()
    names = ["class0", "class1", "class2"]
    run(checkpoint=tmp_path / "a")
    other = PointCloudArrays(points, (labels + 1) % 3, class_names=names)
    with pytest.raises(ValueError, match="is of another run"):
        run(other, checkpoint=tmp_path / "a")


def test_resuming_with_a_network_of_another_width_is_refused(tmp_path):
    """The settings of a partial tell its networks apart, as its function does."""

    def run_width(width, steps):
        return distill(
            toy_parts(),
            method=ddp(num_anchors=2, num_morphs=1, batch_size=2),
            steps=steps,
            network=functools.partial(PointNetSegmentation, width=width),
            task="segmentation",
            checkpoint=tmp_path / "a",
            progress=False,
        )

    run_width(0.0625, 1)
    with pytest.raises(ValueError, match=r"is of another run: it differs in network \("):
        run_width(0.03125, 2)
    assert run_width(0.0625, 2).provenance["network"] == {
        "partial": "PointNetSegmentation",
        "keywords": {"width": 0.0625},
    }


class Scaled(Matching):
    """A matching of one's own, which says of itself only what it holds."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor, self.calls = factor, 0

    def prepare(self, bank, num_points, progress=False):
        return {"pos": self.factor * bank.dense()}

    def forward(self, network, real, synthetic):
        self.calls += 1  # What changes while it is used is no other run.
        y = synthetic.pos.view(len(real["pos"]), -1, 3).mean(dim=1)
        return (y - real["pos"].mean(dim=(1, 2))).square().sum(dim=1)


def run_scaled(factor, **kwargs):
    method = Method("scaled", morphing(2, num_morphs=1), functools.partial(Scaled, factor), 2)
    return distill(toy_set(), method=method, network=TinyNet, progress=False, **kwargs)


def test_checkpoint_of_a_matching_of_ones_own(tmp_path):
    run_scaled(2.0, checkpoint=tmp_path / "a")
    with pytest.raises(ValueError, match=r"it differs in factor \(2.0, now 3.0\)"):
        run_scaled(3.0, checkpoint=tmp_path / "a")
    resumed = run_scaled(2.0, checkpoint=tmp_path / "a", steps=4)
    assert same(resumed, run_scaled(2.0, steps=4))
    assert resumed.provenance["factor"] == 2.0
    assert resumed.provenance["matching"] == "test_distill.Scaled"


def test_what_a_matching_of_ones_own_prepares_is_its_own():
    """Its tensors are those of its settings on its bank, whatever ran there before."""
    bank = PointCloudBank.from_dataset(toy_set()).normalize()
    for matching in (SADM(), UniformityAwareSADM(), Scaled(2.0), Scaled(3.0)):
        clouds = FullResolution(bank.dense()[:3], 3)
        loop = Distillation(bank, clouds, matching, TinyNet)
        loop.step()
        expected = matching.prepare(bank, 32)
        assert loop.views.keys() == expected.keys()
        assert all(torch.equal(loop.views[key], expected[key]) for key in expected)


class Shaped(Matching):
    """Losses of another shape, from nothing that is prepared."""

    def __init__(self, change=lambda loss: loss):
        super().__init__()
        self.change, self.prepared = change, 0

    def prepare(self, bank, num_points, progress=False):
        self.prepared += 1
        return {}

    def forward(self, network, real, synthetic):
        return self.change(synthetic.pos.view(len(synthetic.y.unique()), -1).square().sum(dim=1))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda loss: loss.mean(), r"\[\] of Shaped"),
        (lambda loss: loss[:1], r"\[1\] of Shaped"),
        (lambda loss: loss[:, None], r"\[3, 1\] of Shaped"),
        (lambda loss: 3.0, "float of Shaped"),
    ],
)
def test_losses_of_another_shape_are_refused(change, got):
    message = rf"'matching' must give a loss for each class, of shape \[3\], got {got}"
    with pytest.raises(ValueError, match=message):
        loop_of(matching=Shaped(change)).step()


def test_a_loss_without_a_gradient_is_refused():
    message = "depends on the synthetic clouds, that of Shaped has no gradient"
    with pytest.raises(ValueError, match=message):
        loop_of(matching=Shaped(lambda loss: loss.detach())).step()


@pytest.mark.parametrize(
    ("views", "error", "message"),
    [
        (torch.zeros(3), TypeError, "tensors by name, got Tensor"),
        (None, TypeError, "tensors by name, got None"),
        ({"pos": [1]}, TypeError, "tensors by name, got list .* as 'pos'"),
        (
            {"pos": torch.zeros(2, 4)},
            ValueError,
            r"a row for each of 18 clouds, got \[2, 4\]",
        ),
        (
            {"pos": torch.tensor(1.0)},
            ValueError,
            r"a row for each of 18 clouds, got \[\]",
        ),
    ],
)
def test_what_a_matching_prepares_is_looked_at(views, error, message):
    matching = Shaped()
    matching.prepare = lambda *_: views
    with pytest.raises(error, match=f"'prepare' of Shaped must give .*{message}"):
        loop_of(matching=matching).step()


class Projected(SADM):
    """Sorts what a layer of random weights makes of the features."""

    def __init__(self):
        super().__init__()
        self.directions = torch.randn(8)

    def config(self):
        return {**super().config(), "directions": self.directions.tolist()}

    def forward(self, network, real, synthetic):
        return super().forward(network, real, synthetic) * self.directions[0].square()


def test_random_layers_of_a_matching_are_those_of_the_seed(tmp_path):
    method = Method("projected", morphing(2, 8, 3), Projected, 2)

    def made(seed, steps=2, **kwargs):
        settings = {"seed": seed, "steps": steps, "network": TinyNet, "progress": False}
        return distill(toy_set(), method=method, **settings, **kwargs)

    first = made(0, checkpoint=tmp_path / "state")
    torch.randn(3)
    assert same(first, made(0))
    assert first.provenance["directions"] != made(1).provenance["directions"]
    assert same(made(0, 4), made(0, 4, checkpoint=tmp_path / "state"))


def test_a_storing_that_makes_no_parameterization_is_refused():
    method = Method("none", lambda *_: None, SADM, 2)
    with pytest.raises(TypeError, match="'storing' must give a Parameterization, got None"):
        distill(toy_set(), method=method, network=TinyNet, progress=False)


class Powers(FullResolution):
    """Clouds that are stretched by a setting which a file does not tell."""

    def __init__(self, pos, num_classes, lr=1.0, power=1.0):
        super().__init__(pos, num_classes, lr)
        self.power = power

    def clouds(self, pos):
        return pos * self.power


class Doubled(FullResolution):
    """More clouds than it says."""

    def clouds(self, pos):
        return torch.cat([pos, pos])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda pos: Powers(pos, 3, power=2.0), "does 'sizes' name all that its constructor takes"),
        (
            lambda pos: Doubled(pos, 3),
            r"clouds_per_group=1 clouds of 32 points .* got \[2, 32",
        ),
    ],
)
def test_a_parameterization_that_its_file_does_not_give_back_is_refused(make, message):
    pos = PointCloudBank.from_dataset(toy_set()).normalize().dense()[:3]
    with pytest.raises(ValueError, match=message):
        Distillation(PointCloudBank.from_dataset(toy_set()).normalize(), make(pos), SADM(), TinyNet)


def test_what_a_matching_prepares_may_be_nothing():
    loop = loop_of(matching=Shaped(), classes_per_chunk=2)
    loop.run(3, progress=False)
    assert loop.matching.prepared == 1
    assert loop.views == {}


@pytest.mark.parametrize("matching", [lambda: 3, lambda: SADM])
def test_what_makes_no_matching_is_refused(matching):
    method = Method("none", morphing(2, num_morphs=1), matching, 2)
    with pytest.raises(TypeError, match="'matching' must make a Matching, got "):
        distill(toy_set(), method=method, network=untouchable, progress=False)


def test_setting_with_a_name_of_the_loop_is_not_lost():
    first, second = (loop_of(matching=Scaled()), loop_of(matching=Scaled()))
    for loop, size in ((first, 3), (second, 4)):
        loop.matching.batch_size = size
    configs = [loop_of(matching=loop.matching).config() for loop in (first, second)]
    assert [config["batch_size"] for config in configs] == [2, 2]
    assert [config["matching.batch_size"] for config in configs] == [3, 4]


def test_network_that_is_a_partial_can_be_resumed(tmp_path):
    # A function made anew is the same network, as in another process.
    first, second = (
        functools.partial(lambda num_classes, net: net(num_classes), net=TinyNet) for _ in range(2)
    )
    run(steps=2, checkpoint=tmp_path / "a", network=first)
    assert same(run(steps=3, checkpoint=tmp_path / "a", network=second), run(network=first))


def test_damaged_checkpoint(tmp_path):
    path = tmp_path / "checkpoint"
    run(checkpoint=path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is truncated"):
        run(checkpoint=path)


def test_distilled_set_instead_of_a_checkpoint(tmp_path):
    run().save(tmp_path / "set")
    with pytest.raises(ValueError, match="must hold a distillation checkpoint"):
        run(checkpoint=tmp_path / "set")


def test_missing_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="'path' must be an existing file"):
        loop_of().load_checkpoint(tmp_path / "none")


# Errors ###########################################################################################


def untouchable(num_classes):
    raise AssertionError("a network was made before the arguments were checked")


def dataset_with(change):
    dataset = [data.clone() for data in toy_set()]
    change(dataset)
    return dataset


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"ppc": 0}, ValueError, "'ppc' must be finite and above 0, got 0"),
        (
            {"ppc": 1e5},
            ValueError,
            r"'ppc' must not ask for more bits than the \d+ of the whole set",
        ),
        ({"ppc": "1"}, TypeError, "'ppc' must be a number, got str"),
        ({"num_anchors": 0}, ValueError, "'num_anchors' must be at least 1, got 0"),
        ({"anchor_points": 0}, ValueError, "'anchor_points' must be at least 1, got 0"),
        ({"anchor_points": 16}, ValueError, r"'anchor_points'=16 does not fit .* at most 15"),
        ({"num_anchors": 33}, ValueError, r"'num_anchors'=33 and 'num_morphs'=3 do not fit"),
        ({"num_morphs": -1}, ValueError, "'num_morphs' must be at least 0, got -1"),
        ({"num_morphs": 500}, ValueError, r"'num_morphs'=500 do not fit"),
        ({"uniformity_lambda": -1.0}, ValueError, "'uniformity_lambda' must be finite and at"),
        ({"steps": -1}, ValueError, "'steps' must be at least 0, got -1"),
        ({"steps": 2.0}, TypeError, "'steps' must be an integer"),
        ({"batch_size": 0}, ValueError, "'batch_size' must be at least 1, got 0"),
        ({"anchor_lr": -1.0}, ValueError, "'anchor_lr' must be finite and at least 0"),
        ({"weight_lr": math.inf}, ValueError, "'weight_lr' must be finite and at least 0"),
        ({"optimizer": "Adam"}, TypeError, "'optimizer' must make a torch.optim.Optimizer .* str"),
        ({"classes_per_chunk": 0}, ValueError, "'classes_per_chunk' must be at least 1, got 0"),
        ({"classes_per_chunk": 1.0}, TypeError, "'classes_per_chunk' must be an integer"),
        ({"seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
        ({"seed": None}, TypeError, "'seed' must be an integer"),
        ({"dataset": []}, ValueError, "must hold at least one cloud"),
        ({"dataset": toy_set()[:6]}, ValueError, r"got none of class 1 \(class1\), 2 \(class2\)"),
        (
            {"dataset": dataset_with(lambda d: d[3].update({"pos": d[3].pos[:20]}))},
            ValueError,
            "all clouds must have the same number of points, got 20 to 32",
        ),
        (
            {"dataset": dataset_with(lambda d: d[3].update({"pos": d[3].pos / 0}))},
            ValueError,
            "'pos' must be finite",
        ),
        (
            {"dataset": dataset_with(lambda d: d[3].update({"y": -1}))},
            ValueError,
            "labels must lie in 0..2",
        ),
        ({"dataset": toy_set(num_points=3), "num_anchors": 4}, ValueError, "'num_anchors'=4"),
    ],
    ids=str,
)
def test_bad_arguments_raise_before_any_step(kwargs, error, message):
    with pytest.raises(error, match=message):
        run(network=untouchable, **kwargs)


def test_class_count_of_the_parameterization():
    bank = PointCloudBank.from_dataset(toy_set())
    clouds = FullResolution(torch.zeros(2, 32, 3), 2)
    with pytest.raises(ValueError, match=r"'parameterization' is for 2 classes, .* has 3"):
        Distillation(bank, clouds, SADM(), untouchable)


@pytest.mark.parametrize("name", ["batch_size", "classes_per_chunk"])
def test_bad_sizes_of_the_loop(name):
    bank = PointCloudBank.from_dataset(toy_set())
    clouds = FullResolution(torch.zeros(3, 32, 3), 3)
    with pytest.raises(ValueError, match=f"'{name}' must be at least 1, got 0"):
        Distillation(bank, clouds, SADM(), untouchable, **{name: 0})


class Poisoned(Matching):
    """A matching whose second loss is no number, though its gradient may be one."""

    def __init__(self, value):
        super().__init__()
        self.value, self.calls = value, 0

    def forward(self, network, real, synthetic):
        self.calls += 1
        loss = synthetic.pos.view(len(real["pos"]), -1).mean(dim=1)
        return loss + (self.value if self.calls == 2 else 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_loss_that_is_not_finite(value):
    loop = loop_of(matching=Poisoned(value), classes_per_chunk=3)
    loop.step()
    before = [p.detach().clone() for p in loop.parameterization.parameters()]
    with pytest.raises(FloatingPointError, match=r"the loss of step 2 is .*: lower the learning"):
        loop.step()
    after = loop.parameterization.parameters()
    assert all(torch.equal(p, q) for p, q in zip(before, after, strict=True))
    assert loop.num_steps == 1


def test_learning_rate_that_is_too_large():
    with pytest.raises(FloatingPointError, match="lower the learning rates"):
        run(anchor_lr=1e38, steps=5)


class Steep(Matching):
    """A finite loss whose gradient is not, from a step on."""

    def __init__(self, step):
        super().__init__()
        self.step, self.calls = step, 0

    def forward(self, network, real, synthetic):
        self.calls += 1
        loss = synthetic.pos.view(len(real["pos"]), -1).mean(dim=1)
        return loss + ((loss - loss.detach()).sqrt() if self.calls == self.step else 0.0)


def test_an_update_that_ruins_the_last_step(tmp_path):
    """Its loss was finite, and no other loss would tell."""
    loop = loop_of(matching=Steep(3), classes_per_chunk=3)
    path = tmp_path / "run.safetensors"
    with pytest.raises(FloatingPointError, match=r"step 3 made the parameters .*'anchors'"):
        loop.run(3, progress=False, checkpoint=path, checkpoint_every=2)
    assert loop.num_steps == 3
    again = loop_of(matching=Steep(3), classes_per_chunk=3)
    again.load_checkpoint(path)
    assert again.num_steps == 2


def halved(loop):
    """A loop that goes on with half of its learning rates."""
    for group in loop.optimizer.param_groups:
        group["retries"] = 1
    return loop


@pytest.mark.parametrize("matching", [lambda: Poisoned(math.nan), lambda: Steep(2)])
@pytest.mark.parametrize("optimizer", [SGD, torch.optim.Adam])
def test_a_retry_goes_on_from_the_last_good_state(matching, optimizer, tmp_path, capsys):
    """As a run of other rates from there, and its checkpoint does the same."""
    sizes = {"classes_per_chunk": 3, "optimizer": optimizer}
    path = tmp_path / "run.safetensors"
    loop = loop_of(matching=matching(), **sizes)
    loop.run(4, progress=False, checkpoint=path, checkpoint_every=1, retries=1)
    assert (loop.num_steps, loop.num_retries) == (4, 1)
    assert "Retry 1 of 1 after step 1, with half the learning rates: " in capsys.readouterr().err
    expected = loop_of(matching=Steep(0), **sizes)
    expected.run(1, progress=False)
    halved(expected).run(4, progress=False)
    again = loop_of(matching=matching(), **sizes)
    again.load_checkpoint(path)
    assert (again.num_steps, again.num_retries) == (4, 1)
    for other in (expected, again):
        assert other.losses == loop.losses
        pairs = zip(
            loop.parameterization.parameters(), other.parameterization.parameters(), strict=True
        )
        assert all(torch.equal(p, q) for p, q in pairs)


def test_a_state_that_turns_out_ruined_is_given_up():
    """Its parameters are finite, but the loss from it is not, at any rate."""

    class Ruining(Steep):
        """From the second step on no loss, until it has gone back before the first one."""

        steps = 0

        def forward(self, network, real, synthetic):
            self.steps = self.steps + 1
            factor = math.nan if self.steps in (2, 3) else 1
            return factor * super().forward(network, real, synthetic)

    loop = loop_of(matching=Ruining(0), classes_per_chunk=3)
    loop.run(3, progress=False, checkpoint_every=1, retries=2)
    # Once from after step 1, and then from the start.
    assert (loop.num_steps, loop.num_retries, loop.matching.steps) == (3, 2, 6)
    expected = loop_of(matching=Steep(0), classes_per_chunk=3)
    for group in expected.optimizer.param_groups:
        group["retries"] = 2
    expected.run(3, progress=False)
    assert expected.losses == loop.losses


def test_a_run_goes_on_whose_own_settings_have_tuples(tmp_path):
    class Own(Steep):
        def config(self):
            return {**super().config(), "ends": (1, (2, 3))}

    path = tmp_path / "run.safetensors"
    loop_of(matching=Own(0), classes_per_chunk=3).run(2, progress=False, checkpoint=path)
    again = loop_of(matching=Own(0), classes_per_chunk=3)
    again.load_checkpoint(path)
    assert again.num_steps == 2


def test_steps_after_a_retry_draw_what_they_drew_before():
    drawn = []

    class Noting(Steep):
        def forward(self, network, real, synthetic):
            drawn.append(real["pos"])
            return super().forward(network, real, synthetic)

    loop = loop_of(matching=Noting(3), classes_per_chunk=3)
    loop.run(4, progress=False, checkpoint_every=2, retries=1)
    assert (loop.num_retries, len(drawn)) == (1, 6)
    assert torch.equal(torch.stack(drawn[4:]), torch.stack(drawn[2:4]))
    assert not torch.equal(drawn[2], drawn[3])


def test_a_second_retry_begins_like_the_first():
    loop, found = loop_of(), []
    loop.step()
    good = LastGood(2, loop.parameterization, loop.optimizer, loop.generator, loop._losses)
    for _ in range(2):
        good.go_back(FloatingPointError())
        states = [loop.optimizer.state[p] for p in loop.parameterization.parameters()]
        found.append(torch.cat([state["momentum_buffer"].flatten() for state in states]))
        loop.step()
    assert torch.equal(*found)


class Near(Steep):
    """Looks for neighbours, as networks do, which points that are not finite do not have."""

    def forward(self, network, real, synthetic):
        knn(synthetic.pos.view(synthetic.num_graphs, -1, 3), 1)
        return super().forward(network, real, synthetic)


@pytest.mark.parametrize("retries", [0, 1])
def test_points_that_diverged_are_no_wrong_argument(retries, monkeypatch):
    monkeypatch.setattr(losses, "_SHOW_EVERY", math.inf)  # No loss is read but the first.
    loop = loop_of(matching=Near(2), classes_per_chunk=3)
    if retries:
        loop.run(4, progress=False, checkpoint_every=4, retries=1)
        assert (loop.num_steps, loop.num_retries) == (4, 1)
        expected = halved(loop_of(matching=Steep(0), classes_per_chunk=3))
        expected.run(4, progress=False)
        assert loop.losses == expected.losses
        assert torch.equal(loop.parameterization.anchors, expected.parameterization.anchors)
    else:
        with pytest.raises(FloatingPointError, match="'pos' must be finite"):
            loop.run(4, progress=False, checkpoint_every=4)


def test_retries_end(tmp_path):
    """Those before a checkpoint count too, and what is made says how many there were."""
    path = tmp_path / "run.safetensors"
    sizes = {"classes_per_chunk": 3}
    halved(loop_of(matching=Poisoned(math.inf), **sizes)).save_checkpoint(path)
    loop = loop_of(matching=Poisoned(math.inf), **sizes)
    loop.load_checkpoint(path)
    with pytest.raises(FloatingPointError, match="the loss of step 2 is inf"):
        loop.run(3, progress=False, retries=1)
    with pytest.raises(ValueError, match="'retries' must be at least 0, got -1"):
        loop.run(3, retries=-1)
    synthetic = run(anchor_lr=1e38, steps=2, retries=400)
    assert 1 <= synthetic.provenance["retries"] <= 400
    assert "retries" not in run(steps=1).provenance


def test_what_is_not_finite_is_never_written(tmp_path):
    path = tmp_path / "run.safetensors"
    loop = loop_of()
    loop.save_checkpoint(path)
    before = path.read_bytes()
    with torch.no_grad():
        loop.parameterization.anchors[0, 0, 0, 0] = math.inf
    with pytest.raises(FloatingPointError, match=r"made the parameters \['anchors'\] NaN or inf"):
        loop.save_checkpoint(path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="'anchors' must be finite"):
        ddp().finish(loop)
    synthetic = run(steps=1)
    with torch.no_grad():
        synthetic.parameterization.anchors[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"'parameterization.anchors' must be finite"):
        synthetic.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_that_a_caller_turned_off(mode):
    """As the functions that test a network in PyG do."""
    expected = distill(toy_set(), method="dm", network=TinyNet, steps=1, progress=False)
    with mode():
        made = distill(toy_set(), method="dm", network=TinyNet, steps=1, progress=False)
        reached = evaluate(made, toy_set(), TinyNet, SMOKE, 1, progress=False)
        seen = observe(toy_set(), TinyNet, SMOKE, progress=False)
    assert all(torch.equal(a.pos, b.pos) for a, b in zip(made, expected, strict=True))
    again = evaluate(made, toy_set(), TinyNet, SMOKE, 1, progress=False)
    assert torch.equal(reached.values, again.values)
    assert torch.isfinite(seen.features).all()


def test_losses_are_a_copy():
    seen = []

    def callback(loop):
        seen.append([*loop.losses])
        loop.losses.clear()

    distill(toy_set(), method="dm", network=TinyNet, steps=3, progress=False, callback=callback)
    assert [len(losses) for losses in seen] == [1, 2, 3]
