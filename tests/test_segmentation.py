"""Part segmentation from end to end: matching within parts, distillation, evaluation."""

import inspect
import json
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import (
    TOY_PARTS,
    LabelledClouds,
    TinyNet,
    TinySegmenter,
    check_labelled,
    mmd_loop,
    relative,
    toy_parts,
    toy_set,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Subset
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import MLP

from torch_geometric_ddp import (
    Distillation,
    Evaluation,
    Method,
    Protocol,
    SyntheticPointCloudDataset,
    distill,
    evaluate,
    ops,
)
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.evaluation import RandomRotation, fit, percent
from torch_geometric_ddp.matching import (
    SADM,
    DistributionMatching,
    GradientMatching,
    UniformityAwareSADM,
    sorted_features,
)
from torch_geometric_ddp.methods import dc, ddp, dm, morphing, sadm
from torch_geometric_ddp.nn import BACKBONES, SEGMENTERS, PointNet2Segmentation
from torch_geometric_ddp.parameterization import FullResolution, PartLabels, ShapeMorphing
from torch_geometric_ddp.tasks import MeanIoU
from torch_geometric_ddp.tasks.iou import restrict

SPACE = PartSpace.of(toy_parts())
NUM_POINTS = 10


def rand(*shape, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


def parts(*shape, num=4, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num, shape, generator=generator).to(device)


def bank_of(dataset=None, device="cpu", dtype=torch.float64):
    dataset = toy_parts() if dataset is None else dataset
    return LabelledBank.from_dataset(dataset, device, dtype).normalize()


# Sorted features ##################################################################################


def sort_groups(x, group, absolute=True):
    """Cloud by cloud, channel by channel and group by group, by torch.sort and plain autograd."""
    rows = []
    for cloud, part in zip(x.abs() if absolute else x, group, strict=True):
        runs = [
            channel[part == value].sort(stable=True).values
            for channel in cloud.unbind(dim=1)
            for value in part.unique(sorted=True)
        ]
        rows.append(torch.cat(runs))
    return torch.stack(rows)


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 5), (2, 40, 300), (5, 3, 1)])
def test_sorting_within_groups_is_the_loop(device, absolute, dtype, keep, shape):
    x = rand(*shape, dtype=dtype, device=device).requires_grad_(keep)
    group = parts(*shape[:2], device=device)
    out = sorted_features(x, absolute, group=group)
    assert out.dtype == dtype
    assert torch.equal(out, sort_groups(x, group, absolute))


@given(seed=st.integers(0, 2**16), num=st.integers(1, 30), groups=st.integers(1, 6))
def test_sorting_within_any_groups_is_the_loop(device, dtype, seed, num, groups):
    # Whole numbers, so that many are equal, of both signs.
    x = (2 * rand(2, num, 3, seed=seed, dtype=dtype, device=device)).round()
    group = parts(2, num, num=groups, seed=seed, device=device)
    for absolute in (True, False):
        out = sorted_features(x, absolute, group=group)
        assert torch.equal(out, sort_groups(x, group, absolute))


TIES = {
    "equal": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "pairs": [2.0, 1.0, 2.0, 1.0, 2.0, 2.0],
    "signs": [-1.0, 1.0, -1.0, 1.0, 1.0, -1.0],
    "negative": [-2.0, -2.0, -3.0, -2.0, -3.0, -2.0],
    "zeros of both signs": [0.0, -0.0, 0.0, -0.0, -0.0, 0.0],
    "small": [1e-45, -1e-45, 1e-38, 0.0, -0.0, -1e-38],
    "large": [3e38, -3e38, 3e38, 1.0, -1.0, math.inf],
}


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("values", TIES.values(), ids=TIES)
@pytest.mark.parametrize("group", [[0, 1, 0, 1, 0, 1], [2, 0, 0, 2, 2, 0], [0, 0, 0, 0, 0, 0]])
def test_ties_within_groups_keep_the_order_of_the_points(device, dtype, absolute, values, group):
    x = torch.tensor(values, dtype=dtype, device=device)[None, :, None]
    group = torch.tensor([group], device=device)
    weight = torch.arange(6.0, dtype=dtype, device=device)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out = sorted_features(ours, absolute, group=group)
    assert torch.equal(out, sort_groups(theirs, group, absolute))
    assert torch.equal(sorted_features(x, absolute, group=group), out)
    (out * weight).sum().backward()
    (sort_groups(theirs, group, absolute) * weight).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("absolute", [True, False])
def test_gradient_within_groups_is_that_of_plain_autograd(device, dtype, absolute):
    ours = rand(3, 33, 20, dtype=dtype, device=device).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    weight = rand(3, 20 * 33, seed=1, dtype=dtype, device=device)
    group = parts(3, 33, device=device)
    (sorted_features(ours, absolute, group=group) * weight).sum().backward()
    (sort_groups(theirs, group, absolute) * weight).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("absolute", [True, False])
def test_sorting_within_groups_gradcheck(absolute):
    x, group = rand(2, 6, 3).requires_grad_(), parts(2, 6, num=2)
    assert torch.autograd.gradcheck(lambda x: sorted_features(x, absolute, group=group), (x,))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_one_group_is_none(device, dtype, absolute, keep):
    x = rand(3, 17, 5, dtype=dtype, device=device).requires_grad_(keep)
    for value in (0, 5):
        group = torch.full((3, 17), value, device=device)
        out = sorted_features(x, absolute, group=group)
        assert torch.equal(out, sorted_features(x, absolute))


@pytest.mark.parametrize("absolute", [True, False])
def test_single_precision_within_groups_is_sorted_as_double(device, absolute):
    x, group = rand(4, 100, 7, dtype=torch.float32, device=device), parts(4, 100, device=device)
    ours = sorted_features(x, absolute, group=group)
    assert torch.equal(ours.double(), sorted_features(x.double(), absolute, group=group))


def test_groups_of_the_largest_numbers(dtype, device):
    x = torch.tensor([-math.inf, 3e38, -1.0, math.inf, 0.0, -3e38], dtype=dtype, device=device)
    group = torch.tensor([[32767, 0, 32767, 32766, 32766, 0]], device=device)
    out = sorted_features(x[None, :, None], absolute=False, group=group)
    assert out[0].tolist() == x[[5, 1, 4, 3, 0, 2]].tolist()


@pytest.mark.parametrize("num", [32767, 32768, 65536, 65537])
def test_very_large_clouds_within_groups(device, num):
    ours = rand(1, num, 1, dtype=torch.float32, device=device).requires_grad_()
    theirs, group = ours.detach().clone().requires_grad_(), parts(1, num, device=device)
    weight = rand(1, num, seed=1, dtype=torch.float32, device=device)
    out, expected = sorted_features(ours, group=group), sort_groups(theirs, group)
    assert torch.equal(out, expected)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


LAYOUTS = {
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "points first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every other": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "wider": lambda x: torch.cat([x, x], dim=2)[..., : x.size(2)],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("keep", [True, False])
def test_noncontiguous_features_and_groups(device, dtype, layout, keep):
    x, group = rand(3, 10, 6, dtype=dtype, device=device), parts(3, 10, device=device)
    other, expanded = layout(x), group[:1].expand(3, -1)
    assert not other.is_contiguous()
    for which in (group, group.T.contiguous().T, expanded):
        out = sorted_features(other.detach().requires_grad_(keep), group=which)
        assert torch.equal(out, sort_groups(x, which))


@pytest.mark.parametrize("keep", [True, False])
def test_shift_within_groups_and_untouched_input(device, dtype, keep):
    x, group = rand(3, 10, 300, dtype=dtype, device=device), parts(3, 10, device=device)
    before, groups = x.clone(), group.clone()
    shift = rand(3000, seed=1, dtype=dtype, device=device)
    for absolute in (True, False):
        out = sorted_features(x.requires_grad_(keep), absolute, shift, group)
        assert torch.equal(out, sort_groups(before, group, absolute) - shift)
        assert torch.equal(x.detach(), before)
        assert torch.equal(group, groups)


@given(seed=st.integers(0, 2**16))
def test_order_of_points_and_their_groups_is_ignored(device, dtype, seed):
    x, group = rand(2, 12, 5, seed=seed, dtype=dtype, device=device), parts(2, 12, seed=seed)
    group = group.to(device)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    ours = sorted_features(x[:, order], group=group[:, order])
    assert torch.equal(ours, sorted_features(x, group=group))


# The losses #######################################################################################


def network_of(device="cpu", dtype=torch.float64, seed=0):
    with seeded(seed, torch.device(device)):
        network = TinySegmenter(7, 3)
    return network.to(device, dtype).requires_grad_(False)


def anchors_of(bank, num_points=NUM_POINTS, seed=0, num_morphs=1):
    """Anchors and morphs in the arrangement of a bank, as distill makes them."""
    labels = PartLabels(bank.arrangement(num_points), bank.space).to(bank.device)
    generator = torch.Generator().manual_seed(seed)
    bank = bank.arranged(num_points)
    clouds = bank.dense()[bank.draw(2, generator)]
    return ShapeMorphing.from_clouds(clouds, 2, num_points, num_morphs, generator, labels=labels)


def views_of(matching, bank, num_points=NUM_POINTS):
    """What is matched of four clouds of every class."""
    views = matching.prepare(bank, num_points)
    return {key: view.view(bank.num_classes, 4, *view.shape[1:]) for key, view in views.items()}


def with_pos(batch, pos):
    return from_dense(pos.view(-1, batch.num_points, 3), y=batch.y, category=batch.category)


def loss_loop(network, bank, batch, absolute=True, uniformity_lambda=None, num_subsets=1):
    """The loss class by class, subset by subset and cloud by cloud, sorted within parts."""
    size, losses = batch.num_points, []
    rows, arrangement = bank.partition(num_subsets, size), bank.arrangement(size)
    for c in range(bank.num_classes):
        part = torch.arange(7).repeat_interleave(arrangement[c])[None]

        def features(clouds, part=part):
            made = [network.mlp(cloud)[None] for cloud in clouds]
            return torch.cat([sort_groups(x, part, absolute) for x in made])

        y = features(batch.pos.view(bank.num_classes, -1, size, 3)[c])
        mine = (bank.y == c).nonzero().flatten()
        whole = ops.uniformity_score(bank.dense()[mine]).mean()
        etas, distances = [], []
        for m in range(num_subsets):
            clouds = bank.pos[rows[mine, m]]
            gap = whole - ops.uniformity_score(clouds).mean()
            etas.append((-(uniformity_lambda or 0.0) * gap**2).exp())
            distances.append(mmd_loop(features(clouds), y))
        pairs = zip(etas, distances, strict=True)
        losses.append(sum(eta / sum(etas) * distance for eta, distance in pairs))
    return torch.stack(losses)


def both_losses(matching, device, **kwargs):
    """Ours and the loop's, with the gradients of the synthetic points."""
    bank, network = bank_of(device=device), network_of(device)
    batch = anchors_of(bank)()
    ours, theirs = (batch.pos.detach().clone().requires_grad_() for _ in range(2))
    loss = matching(network, views_of(matching, bank), with_pos(batch, ours))
    expected = loss_loop(network, bank, with_pos(batch, theirs), **kwargs)
    loss.sum().backward()
    expected.sum().backward()
    return loss, expected, ours.grad, theirs.grad


@pytest.mark.parametrize("absolute", [True, False])
def test_sadm_within_parts_is_the_loop(device, absolute):
    loss, expected, *grads = both_losses(SADM(absolute), device, absolute=absolute)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    assert relative(*grads) < 1e-8


@pytest.mark.parametrize("uniformity_lambda", [0.0, 3.0])
def test_uniformity_aware_loss_within_parts_is_the_loop(device, uniformity_lambda):
    loss, expected, *grads = both_losses(
        UniformityAwareSADM(uniformity_lambda),
        device,
        uniformity_lambda=uniformity_lambda,
        num_subsets=2,
    )
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    assert relative(*grads) < 1e-8


def test_gradient_within_parts_against_finite_differences():
    # No gradient flows through the bandwidth, which finite differences must hold fixed.
    bank, network = bank_of(), network_of()
    batch = anchors_of(bank)()
    part, rows = batch.y.view(3, -1, NUM_POINTS), bank.partition(1, NUM_POINTS)[:, 0]

    def sorted_rows(clouds, c):
        return sort_groups(network.mlp(clouds), part[c, :1].expand(len(clouds), -1))

    pos = batch.pos.detach().clone().requires_grad_()
    SADM()(network, views_of(SADM(), bank), with_pos(batch, pos)).sum().backward()
    step, flat = 1e-6, pos.detach().view(3, -1)
    for c in range(3):
        x = sorted_rows(bank.pos[rows[4 * c : 4 * c + 4]], c)
        y = sorted_rows(flat[c].view(3, NUM_POINTS, 3), c)
        z = torch.cat([x, y])
        bandwidth = torch.cdist(z, z).square().sum() / (49 - 7)
        for i in range(0, 90, 7):
            values = []
            for sign in (1, -1):
                moved = flat[c].clone()
                moved[i] += sign * step
                y = sorted_rows(moved.view(3, NUM_POINTS, 3), c)
                values.append(mmd_loop(x, y, bandwidth=bandwidth))
            slope = (values[0] - values[1]) / (2 * step)
            torch.testing.assert_close(pos.grad.view(3, -1)[c, i], slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("matching", [SADM, partial(UniformityAwareSADM, k=4)])
def test_one_part_matches_as_if_unlabelled(device, matching):
    clouds = toy_parts()[8:]
    for data in clouds:
        data.category = torch.tensor([0])
    bank = bank_of(LabelledClouds(clouds, {"ball": [3]}), device)
    plain = PointCloudBank(bank.pos, bank.sizes, bank.y, bank.class_names)
    with seeded(0, device):
        network = TinySegmenter(4, 1).double().to(device)
    batch = anchors_of(bank)()
    ours = matching()(network, views_of(matching(), bank), batch)
    bare = from_dense(batch.pos.view(-1, NUM_POINTS, 3), y=batch.category)
    theirs = matching()(network, views_of(matching(), plain), bare)
    torch.testing.assert_close(ours, theirs)
    ungrouped = partial(matching, grouped=False)()
    torch.testing.assert_close(ungrouped(network, views_of(ungrouped, bank), batch), ours)


def shuffled(batch, seed, within):
    """The points of every cloud in another order, of its parts alone or of all."""
    pos = batch.pos.detach().view(-1, batch.num_points, 3).clone()
    generator = torch.Generator().manual_seed(seed)
    for cloud, part in zip(pos, batch.y.view(len(pos), -1), strict=True):
        for value in part.unique() if within else [None]:
            rows = ((part == value) if within else torch.ones_like(part)).nonzero().flatten()
            order = torch.randperm(len(rows), generator=generator).to(rows.device)
            cloud[rows] = cloud[rows[order]]
    return with_pos(batch, pos)


@given(seed=st.integers(0, 2**16))
def test_only_the_order_within_parts_does_not_matter(device, seed):
    bank, network, matching = bank_of(device=device), network_of(device), SADM()
    batch, real = anchors_of(bank)(), views_of(SADM(), bank)
    loss = matching(network, real, batch)
    same = matching(network, real, shuffled(batch, seed, within=True))
    torch.testing.assert_close(same, loss, rtol=1e-9, atol=1e-12)
    other = shuffled(batch, seed, within=False)
    changed = matching(network, real, other)
    # Without parts, or in the category of one, nothing changes.
    assert bool(((changed - loss)[:2].abs() > 1e-6).all())
    torch.testing.assert_close(changed[2], loss[2], rtol=1e-9, atol=1e-12)
    free = SADM(grouped=False)
    torch.testing.assert_close(free(network, real, other), free(network, real, batch))


@pytest.mark.parametrize("matching", [SADM(), UniformityAwareSADM(num_subsets=2)], ids=["1", "2"])
def test_rows_are_in_the_arrangement_of_the_class(device, matching):
    """Features that tell the part of a point must be the same in all rows of a class."""

    class Telling(TinySegmenter):
        def point_features(self, data):
            return data.pos

    bank = bank_of(device=device)
    # Large numbers for small parts, so that a sort that knew no parts would turn the order round.
    told = (10.0 - bank.part)[:, None].expand(-1, 3).contiguous()
    bank = LabelledBank(told.double(), bank.sizes, bank.y, bank.class_names, bank.part, bank.space)
    batch = anchors_of(bank)()
    key = "subset_pos" if isinstance(matching, UniformityAwareSADM) else "pos"
    real = views_of(matching, bank)[key]
    real = real.transpose(1, 2) if real.dim() == 5 else real
    with torch.no_grad():
        network = Telling(7, 3).double()
        network.point_channels = 3
        x, y = matching.rows(network, real, batch)
    # All rows are less the first one.
    first = 10.0 - batch.y[:NUM_POINTS]
    for c in range(3):
        part = torch.arange(7, device=device).repeat_interleave(bank.arrangement(10)[c].to(device))
        expected = (10.0 - part - first).repeat(3).double()
        for rows in (x[c], y[c]):
            torch.testing.assert_close(rows, expected.expand_as(rows))


def test_prepared_clouds_are_in_the_arrangement(device):
    bank = bank_of(device=device)
    rows = bank.partition(2, NUM_POINTS)
    assert torch.equal(SADM().prepare(bank, NUM_POINTS)["pos"], bank.pos[rows[:, 0]])
    assert torch.equal(UniformityAwareSADM(0.0).prepare(bank, 10)["subset_pos"], bank.pos[rows])
    # Also where no point is left out.
    whole = SADM().prepare(bank, 24)["pos"]
    assert torch.equal(whole, bank.pos[bank.partition(1, 24)[:, 0]])


@pytest.mark.parametrize("network", [*BACKBONES.values(), *SEGMENTERS.values()])
def test_networks_say_whether_their_rows_are_the_points(network):
    with seeded(0, torch.device("cpu")):
        network = network(4, 2) if network in SEGMENTERS.values() else network(4)
    network = network.double().eval().requires_grad_(False)
    pos, order = rand(1, 16, 3), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    pos = pos / pos.norm(dim=-1).amax()
    rows, moved = (network.point_features(from_dense(p)) for p in (pos, pos[:, order]))
    follows = len(rows) == 16 and torch.allclose(moved, rows[order], atol=1e-9)
    assert follows == network.per_point


@pytest.mark.parametrize("num_points", [10, 160])
def test_centres_are_not_sorted_within_parts(num_points):
    bank = bank_of(toy_parts(num_points=200, per_class=2), dtype=torch.float32)
    batch = anchors_of(bank, num_points)()
    network = PointNet2Segmentation(7, 3).eval().requires_grad_(False)
    views = SADM().prepare(bank, num_points)
    real = {"pos": views["pos"].view(3, 2, num_points, 3)}
    with pytest.raises(ValueError, match=r"PointNet2Segmentation gives .* match with grouped=Fa"):
        SADM()(network, real, batch)
    assert bool(SADM(grouped=False)(network, real, batch).isfinite().all())


def test_top_row_is_not_known_within_parts():
    bank, network = bank_of(), network_of()
    matching, free = (SADM(top_weight=1.0, grouped=grouped) for grouped in (True, False))
    aware = UniformityAwareSADM(top_weight=1.0)
    real, batch = views_of(free, bank), anchors_of(bank)()
    for refused in (
        lambda: matching.prepare(bank, NUM_POINTS),
        lambda: aware.prepare(bank, NUM_POINTS),
        lambda: matching(network, real, batch),
    ):
        with pytest.raises(
            ValueError, match="for segmentation 'top_weight' must be 0 or 'grouped' False"
        ):
            refused()
    assert bool((free(network, real, batch) > 0).all())


def test_distribution_matching_of_labelled_clouds_is_the_loop(device):
    bank, network, matching = bank_of(device=device), network_of(device), DistributionMatching()
    batch = anchors_of(bank)()
    loss = matching(network, views_of(matching, bank), batch)
    clouds = batch.pos.view(3, 3, NUM_POINTS, 3)
    for c in range(3):
        pooled = [
            torch.stack([network.mlp(cloud).amax(dim=0) for cloud in some]).mean(dim=0)
            for some in (bank.dense()[bank.y == c], clouds[c])
        ]
        torch.testing.assert_close(loss[c], (pooled[0] - pooled[1]).square().sum())


def test_gradient_matching_refuses_labelled_clouds():
    with pytest.raises(ValueError, match="gradients are matched for classification only"):
        GradientMatching().prepare(bank_of(), NUM_POINTS)


# The loop #########################################################################################

SMALL = {"num_anchors": 2, "num_morphs": 2, "batch_size": 2}
OF_DISTILL = set(inspect.signature(distill).parameters)


def run(dataset=None, network=TinySegmenter, **kwargs):
    dataset = toy_parts() if dataset is None else dataset
    kwargs = {**SMALL, "steps": 2, "task": "segmentation", "progress": False, **kwargs}
    of_run = {key: value for key, value in kwargs.items() if key in OF_DISTILL}
    method = {key: value for key, value in kwargs.items() if key not in OF_DISTILL}
    return distill(dataset, method=ddp(**method), network=network, **of_run)


def tensors(dataset):
    return {k: v.detach() for k, v in dataset.parameterization.named_parameters()}


def same(first, second):
    first, second = tensors(first), tensors(second)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("ppc", [1, 2])
@pytest.mark.parametrize("adaptive", [True, False])
def test_distilled_set(device, ppc, adaptive):
    losses = []
    start, synthetic = (
        run(
            ppc=ppc,
            adaptive=adaptive,
            device=device,
            steps=steps,
            callback=lambda loop: losses.append(loop.losses[-1]),
        )
        for steps in (0, 2)
    )
    assert len(losses) == 2
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    check_labelled(synthetic)
    assert (len(synthetic), synthetic.category_parts) == (12 * ppc, TOY_PARTS)
    budget = bank_of().budget(ppc)
    assert synthetic.storage_bits <= budget.bits
    expected = {"bits": synthetic.storage_bits, "budget_bits": budget.bits, "grouped": True}
    assert expected.items() <= synthetic.provenance.items()
    # Every anchor and every weight moves, no label does.
    before, after = tensors(start), tensors(synthetic)
    assert bool((before["anchors"] != after["anchors"]).any(-1).any(-1).all())
    if adaptive:
        assert bool((before["weights"] != after["weights"]).any(-1).all())
    assert all(torch.equal(a.y, b.y) for a, b in zip(start, synthetic, strict=True))
    arrangement = bank_of().arrangement(synthetic[0].num_nodes)
    for data in synthetic:
        assert torch.equal(torch.bincount(data.y, minlength=7), arrangement[data.category.item()])


def test_the_start_are_real_points_with_their_parts():
    anchors = SyntheticPointCloudDataset(run(steps=0).parameterization, split="anchors")
    bank = bank_of(dtype=torch.float32)
    for data in anchors:
        for point, part in zip(data.pos, data.y, strict=True):
            there = (bank.pos == point).all(dim=1)
            assert set(bank.part[there].tolist()) == {int(part)}


def test_distillation_comes_nearer_to_the_real_clouds():
    losses = [], []
    for rate, own in zip((0.0, 0.03), losses, strict=True):
        keep = lambda loop, own=own: own.append(loop.losses[-1])  # noqa: E731
        run(steps=40, anchor_lr=rate, weight_lr=rate, callback=keep)
    # The same networks and real clouds in every step.
    still, learned = losses
    assert still[0] == learned[0]
    assert sum(learned[-20:]) < 0.9 * sum(still[-20:])


def test_seed_repeats_the_run(device):
    first, again, other = (run(seed=seed, device=device) for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


def test_saved_and_loaded(tmp_path):
    synthetic = run(ppc=2)
    synthetic.save(tmp_path / "set")
    again = SyntheticPointCloudDataset(tmp_path / "set")
    assert again.provenance == synthetic.provenance
    for ours, theirs in zip(again, synthetic, strict=True):
        torch.testing.assert_close(ours.pos, theirs.pos)
        assert torch.equal(ours.y, theirs.y)


def test_resumed_run_is_the_uninterrupted_one(tmp_path):
    path, losses = tmp_path / "checkpoint", []
    callback = lambda loop: losses.append(loop.losses[-1])  # noqa: E731
    whole = run(steps=4, callback=callback)
    run(steps=2, checkpoint=path, callback=callback)
    resumed = run(steps=4, checkpoint=path, callback=callback)
    assert same(whole, resumed)
    assert losses[:4] == losses[4:]


def test_checkpoint_of_other_labels_is_refused(tmp_path):
    path, clouds = tmp_path / "checkpoint", toy_parts()
    run(checkpoint=path)
    # Two points change their parts, which leaves every arrangement as it is.
    y = clouds[1].y
    y[[int((y == part).nonzero()[0]) for part in (1, 4)]] = torch.tensor([4, 1])
    with pytest.raises(ValueError, match="is of another run: it differs in real_sha256"):
        run(clouds, checkpoint=path, steps=3)
    with pytest.raises(ValueError, match=r"is of another run: it differs in .*grouped"):
        free(network=TinySegmenter).distill(
            toy_parts(), task="segmentation", checkpoint=path, steps=3, progress=False
        )


def free(network):
    """DDP without regard to the parts."""
    settings = {"num_anchors": 2, "num_morphs": 2, "batch_size": 2}
    method = replace(ddp(**settings), matching=partial(UniformityAwareSADM, grouped=False))
    return replace(method, name=f"DDP, {network.__name__}")


def test_network_of_centres_is_matched_without_parts():
    method = free(PointNet2Segmentation)
    arguments = {"task": "segmentation", "steps": 2, "progress": False}
    synthetic = method.distill(toy_parts(), network=PointNet2Segmentation, **arguments)
    check_labelled(synthetic)
    assert synthetic.provenance["network"] == "PointNet2Segmentation"
    assert synthetic.provenance["grouped"] is False
    with pytest.raises(ValueError, match="match with grouped=False"):
        run(network=PointNet2Segmentation)


@pytest.mark.parametrize(
    "method",
    [
        dm(),
        replace(sadm(), matching=partial(SADM, absolute=False, top_weight=1.0, grouped=False)),
        replace(sadm(), matching=partial(SADM, absolute=False)),
        Method("DM on morphs", morphing(2, num_morphs=2), DistributionMatching, 2),
    ],
    ids=["DM", "SADM", "SADM within parts", "DM on morphs"],
)
def test_other_methods(method):
    synthetic = method.distill(
        toy_parts(), 2, task="segmentation", network=TinySegmenter, steps=2, progress=False
    )
    check_labelled(synthetic)
    assert synthetic.storage_bits <= bank_of().budget(2).bits
    assert all(bool(data.pos.isfinite().all()) for data in synthetic)


@pytest.mark.parametrize(
    ("method", "ppc", "message"),
    [
        (dc(), 1, "gradients are matched for classification only"),
        (dc(), 2, "gradients are matched for classification only"),
        (sadm(), 1, "the largest value of every channel is not known"),
    ],
)
def test_methods_for_classification_alone(method, ppc, message):
    def never(*args):
        raise AssertionError("a network was made")

    with pytest.raises(ValueError, match=message):
        method.distill(toy_parts(), ppc, task="segmentation", network=never, progress=False)


def test_networks_may_be_trained_between_the_steps():
    """On synthetic clouds whose points are labelled."""
    losses = {}
    for inner in (1, 5):
        method = replace(
            dm(), loops=lambda ppc, inner=inner: (2, inner), matching=UniformityAwareSADM
        )
        loop = method.begin(bank_of(dtype=torch.float32), 1, 0, TinySegmenter, "segmentation")
        loop.run(2, progress=False)
        losses[inner] = loop.losses
    assert all(math.isfinite(loss) for loss in [*losses[1], *losses[5]])
    assert losses[1] != losses[5]


def test_default_network_is_that_of_the_task():
    method, bank = ddp(num_anchors=2, num_morphs=2), bank_of(dtype=torch.float32)
    loop = method.begin(bank, task="segmentation")
    assert loop.config()["network"] == "PointNetSegmentation"


@pytest.mark.parametrize(
    ("dataset", "task", "message"),
    [
        (
            toy_parts,
            "segment",
            r"must be a Task or one of \['classification', 'segmentation'\], got 'seg",
        ),
        (toy_set, "segmentation", "'dataset' must have 'part_names', 'category_parts' and"),
        (toy_parts, "classification", r"'y' of cloud 0 must be one integer label, got .*\[24\]"),
        (lambda: Subset(toy_parts(), range(8)), "segmentation", r"got none of class 2 \(ball\)"),
        (
            lambda: toy_parts(sizes=[24, 17, 9, 30]),
            "segmentation",
            "all clouds must have the same number of points, got 9 to 30",
        ),
    ],
)
def test_data_that_do_not_fit_the_task(dataset, task, message):
    with pytest.raises(ValueError, match=message):
        run(dataset(), task=task)


def test_fewer_points_than_parts():
    synthetic = run(anchor_points=2)
    assert {data.num_nodes for data in synthetic} == {2}
    assert bank_of().arrangement(2)[1].count_nonzero() == 2  # Of three parts of a lamp.


def loop_of(bank, **kwargs):
    """A loop with all its pieces at hand."""
    shape = anchors_of(bank, num_morphs=3)
    generator = torch.Generator().manual_seed(0)
    matching = UniformityAwareSADM()
    kwargs = {"generator": generator, "task": "segmentation", **kwargs}
    return Distillation(bank, shape, matching, TinySegmenter, 3, **kwargs)


@pytest.mark.parametrize("size", [1, 2])
def test_chunks_of_classes_give_the_same_gradient(device, size):
    whole, chunked = (loop_of(bank_of(device=device), classes_per_chunk=n) for n in (None, size))
    for loop in (whole, chunked):
        # Away from the real clouds that they are: a distance of 0 is a rounding.
        anchors = next(loop.parameterization.parameters())
        anchors.data += 0.1 * rand(*anchors.shape, device=device)
    assert whole.step() == pytest.approx(chunked.step(), rel=1e-12)
    for ours, theirs in zip(
        chunked.parameterization.parameters(), whole.parameterization.parameters(), strict=True
    ):
        assert relative(ours.grad, theirs.grad) < 1e-10


def test_batch_norm_sees_the_real_clouds():
    class Normed(TinySegmenter):
        def __init__(self, *args):
            super().__init__(*args)
            self.mlp = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU())

    synthetic = run(network=Normed)
    assert all(bool(data.pos.isfinite().all()) for data in synthetic)


def test_labels_that_are_not_those_of_the_real_set_are_refused():
    bank, plain = bank_of(), PointCloudBank.from_dataset(toy_set(num_points=24))
    shape, pos = anchors_of(bank), rand(3, NUM_POINTS, 3)
    begin = partial(Distillation, matching=SADM(), network=TinyNet, task="segmentation")
    with pytest.raises(ValueError, match=r"labelled with the parts of .*'part0', .* got no parts"):
        begin(bank, FullResolution(pos, 3))
    with pytest.raises(ValueError, match=r"real clouds must be labelled with parts, got none"):
        begin(plain, shape)
    for clouds, stored, whose in (
        (plain, shape, "synthetic"),
        (bank, shape, "synthetic"),
        (bank, FullResolution(pos, 3), "real"),
    ):
        with pytest.raises(ValueError, match=f"points of the {whose} clouds are labelled with pa"):
            begin(clouds, stored, task="classification")
    renamed = PartSpace(tuple("abcdefg"), SPACE.category_parts)
    labels = PartLabels(bank.arrangement(NUM_POINTS), renamed)
    with pytest.raises(ValueError, match=r"\['part0', .* got parts \['a', 'b'"):
        begin(bank, FullResolution(pos, 3, labels=labels))
    moved = bank.arrangement(NUM_POINTS)
    moved[0, [1, 4]] += torch.tensor([1, -1])
    for counts in (moved, bank.arrangement(NUM_POINTS).repeat_interleave(2, dim=0)):
        labels = PartLabels(counts, SPACE)
        clouds = FullResolution(rand(len(counts), NUM_POINTS, 3), 3, labels=labels)
        with pytest.raises(
            ValueError, match=r"in the arrangement of the real set \('bank.arrangement\(10"
        ):
            begin(bank, clouds)


# The evaluation ###################################################################################

SHORT = Protocol("short", epochs=3, batch_size=4)
EASY = Protocol("easy", epochs=40, lr=0.1, batch_size=4, normalize=False)
AS_IT_IS = replace(SHORT, normalize=False)


def score(train=None, test=None, network=TinySegmenter, protocol=SHORT, seeds=2, **kwargs):
    train = toy_parts() if train is None else train
    test = toy_parts(seed=1) if test is None else test
    settings = {"progress": False, "task": "segmentation", **kwargs}
    return evaluate(train, test, network, protocol, seeds, **settings)


def halves(num_clouds=5, seed=0):
    """Clouds whose parts lie above and below the origin, and some with one part."""
    generator, clouds = torch.Generator().manual_seed(seed), []
    for i in range(num_clouds):
        pos = torch.randn(7 + i, 3, generator=generator)
        for category in (0, 1):
            y = torch.where(pos[:, 2] > 0, 1, 0) if category == 0 else torch.full((len(pos),), 2)
            clouds.append(Data(pos=pos, y=y, category=torch.tensor([category])))
    return LabelledClouds(clouds, {"halves": [0, 1], "whole": [2]})


class Knowing(nn.Module):
    """Tells the sign of z, and is sure that it is the part of the other category."""

    def __init__(self, num_parts, num_categories, sign=1.0):
        super().__init__()
        self.bias, self.sign = nn.Parameter(torch.zeros(num_parts)), sign

    def forward(self, data):
        z = self.sign * data.pos[:, 2]
        return torch.stack([-z, z, 0 * z + 100], dim=1) + 0 * self.bias


def test_network_that_knows_the_answer(device):
    result = score(halves(), halves(seed=1), Knowing, AS_IT_IS, device=device)
    assert result.scores.instance.tolist() == [1.0, 1.0]
    assert torch.equal(result.values, result.scores.instance)
    assert result.scores.per_category.tolist() == [[1.0, 1.0]] * 2
    assert result.scores.class_means.tolist() == [1.0, 1.0]
    assert str(result) == "100.0 ± 0.0 % (instance mIoU, short protocol, 2 seeds)"


def test_network_that_tells_the_opposite():
    result = score(halves(), halves(seed=1), partial(Knowing, sign=-1.0), AS_IT_IS, seeds=[7])
    # One of the categories has no point right, the other has all.
    assert result.scores.per_category.tolist() == [[0.0, 1.0]]
    assert (result.scores.instance.item(), result.scores.class_means.item()) == (0.5, 0.5)
    assert (result.mean, result.metric) == (0.5, "instance mIoU")
    assert str(result) == "50.0 % (instance mIoU, short protocol, 1 seed)"


def iou_loop(data, guess, own):
    values = []
    for part in own:
        ours, theirs = guess == part, data.y == part
        union = int((ours | theirs).sum())
        values.append(int((ours & theirs).sum()) / union if union else 1.0)
    return sum(values) / len(values)


class Constant(nn.Module):
    """Gives every point the same logits."""

    def __init__(self, num_parts, num_categories):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_parts))

    def forward(self, data):
        logits = torch.tensor([3.0, 1.0, 2.0, 0.0, 4.0, 9.0, 5.0], device=data.pos.device)
        return logits.expand(len(data.pos), -1) + 0 * self.bias


def test_guess_is_restricted_to_the_parts_of_the_category(device):
    test = Subset(toy_parts(seed=1, sizes=[24, 17, 9, 30]), [0, 1, 2, 3, 5, 8, 11])
    result = score(test=test, network=Constant, device=device, seeds=1)
    likeliest = [4, 6, 3]
    values = [
        iou_loop(data, torch.full_like(data.y, likeliest[c]), SPACE.category_parts[c])
        for data in test
        for c in (data.category.item(),)
    ]
    assert result.scores.instance.tolist() == [pytest.approx(sum(values) / 7, abs=1e-6)]
    assert result.mean == pytest.approx(sum(values) / 7, abs=1e-6)
    means = [sum(values[:4]) / 4, values[4], sum(values[5:]) / 2]
    torch.testing.assert_close(result.scores.per_category, torch.tensor([means]))
    assert result.scores.class_means.tolist() == [pytest.approx(sum(means) / 3, abs=1e-6)]


def test_separable_parts_are_learned(device):
    result = score(protocol=EASY, seeds=2, device=device)
    assert float(result.values.min()) > 0.9
    assert result.scores.per_category[:, 2].tolist() == [1.0, 1.0]  # It has one part.


def test_size_and_settings_of_the_result():
    result = score(toy_parts(sizes=[24, 17, 9, 30]), seeds=[5, 2])
    assert (result.num_clouds, result.num_points) == (12, 3 * 80)
    assert (result.scores.class_names, result.seeds) == (list(TOY_PARTS), [5, 2])
    assert (result.scores.instance.shape, result.scores.per_category.shape) == ((2,), (2, 3))
    assert result.protocol is SHORT


def test_seeds_repeat_the_evaluation(device):
    both, one = score(seeds=[1, 2], device=device), score(seeds=[2], device=device)
    again = score(seeds=[1, 2], device=device)
    assert torch.equal(both.scores.per_category, again.scores.per_category)
    assert torch.equal(both.scores.per_category[1:], one.scores.per_category)
    assert both.values[0] != both.values[1]


def test_global_generator_does_not_matter():
    torch.manual_seed(0)
    first = score(seeds=1).values
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(score(seeds=1).values, first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_categories_without_test_clouds(tmp_path):
    result = score(test=Subset(toy_parts(seed=1), [0, 1, 9]), seeds=1)
    per_category = result.scores.per_category[0]
    assert per_category.isnan().tolist() == [False, True, False]
    assert result.scores.class_means[0] == per_category[[0, 2]].mean()
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text) == result.to_dict()
    assert result.to_dict()["per_category"][0][1] is None


def test_result_through_json():
    result = score(protocol=replace(SHORT, augment=RandomRotation(axis=2)))
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values == result.to_dict()
    assert values["instance"] == result.scores.instance.tolist()
    assert values["category"] == result.scores.class_means.tolist()
    assert values["per_category"] == result.scores.per_category.tolist()
    assert (values["metric"], values["mean"]) == ("instance mIoU", result.mean)
    assert values["protocol"]["augment"] == {"axis": 2}
    assert values["protocol"]["name"] == "short"


def test_joined_evaluations():
    first, second = score(seeds=[0]), score(random_coreset(toy_parts(), task="segmentation"))
    joined = Evaluation.join([first, second])
    assert joined.seeds == [0, 0, 1]
    for name in ("instance", "per_category", "class_means"):
        parts = [getattr(evaluation.scores, name) for evaluation in (first, second)]
        assert torch.equal(getattr(joined.scores, name), torch.cat(parts))
    assert (joined.num_clouds, joined.protocol) == (12, SHORT)


def test_mean_and_deviation_in_words():
    ious = torch.tensor([[0.5, 1.0], [0.7, math.nan]])
    scores = MeanIoU(["a", "b"], torch.tensor([0.6, 0.8]), ious)
    result = Evaluation(scores, "instance mIoU", [0, 1], SHORT, 3, 30)
    torch.testing.assert_close(scores.class_means, torch.tensor([0.75, 0.7]))
    assert result.mean == pytest.approx(0.7)
    # A sample's deviation is the difference over the root of two.
    assert result.std == pytest.approx(0.2 / math.sqrt(2))
    assert str(result) == "70.0 ± 14.1 % (instance mIoU, short protocol, 2 seeds)"
    assert percent(scores.class_means) == "72.5 ± 3.5 %"


def test_other_parts_are_refused():
    renamed, fewer, other = toy_parts(), toy_parts(), toy_parts()
    renamed.part_names[0] = "base"
    fewer.class_names = ["mug", "lamp", "ball"]
    fewer.category_parts = dict(zip(fewer.class_names, TOY_PARTS.values(), strict=True))
    other.category_parts = {**TOY_PARTS, "ball": [3, 5]}
    for test in (renamed, fewer, other, halves()):
        with pytest.raises(ValueError, match="must have the same categories and parts, got"):
            score(test=test)


@pytest.mark.parametrize("which", ["train", "test"])
def test_sets_that_cannot_be_scored(which):
    with pytest.raises(ValueError, match="'dataset' must have 'part_names'"):
        score(**{which: toy_set()})
    with pytest.raises(ValueError, match="at least one cloud"):
        score(**{which: LabelledClouds([], TOY_PARTS)})


def test_no_seeds():
    with pytest.raises(ValueError, match="'seeds' must hold at least one seed"):
        score(seeds=[])


def trained(protocol, seed=0):
    bank = bank_of(dtype=torch.float32)
    with seeded(0, bank.device):
        network = TinySegmenter(7, 3)
        fit(network, bank, protocol, seed)
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_augmentation_changes_the_training():
    plain, again = trained(SHORT), trained(replace(SHORT, augment=None))
    assert torch.equal(plain, again)
    turned = [trained(replace(SHORT, augment=RandomRotation(axis))) for axis in (None, None, 2)]
    assert torch.equal(turned[0], turned[1])
    assert not torch.equal(turned[0], plain)
    assert not torch.equal(turned[2], turned[0])


def test_network_sees_the_augmented_clouds():
    seen, bank = [], bank_of(dtype=torch.float32)

    class Seeing(TinySegmenter):
        def forward(self, data):
            seen.append(data)
            return super().forward(data)

    augment = RandomRotation(axis=2)
    protocol = Protocol("once", epochs=2, batch_size=12, augment=augment)
    fit(Seeing(7, 3), bank, protocol, seed=5)
    generator = torch.Generator().manual_seed(5)
    for batch in seen:
        expected = bank.batch(torch.randperm(12, generator=generator))
        assert torch.equal(batch.y, expected.y)
        assert torch.equal(batch.category, expected.category)
        assert torch.equal(batch.pos, augment(expected, generator).pos)
    assert len(seen) == 2


def test_augmentation_in_the_settings():
    assert "augment" not in SHORT.to_dict()
    protocol = replace(SHORT, augment=RandomRotation())
    assert protocol.to_dict() == {**SHORT.to_dict(), "augment": {"axis": None}}


def test_coreset_and_distilled_set_are_trained_on():
    coreset = random_coreset(toy_parts(), 2, task="segmentation")
    for train, num in ((coreset, 6), (run(ppc=2), 24)):
        result = score(train, seeds=1)
        assert result.num_clouds == num
        assert 0 < result.mean < 1


# An unchanged PyG model ###########################################################################


def test_training_loop_of_pyg_takes_a_distilled_set():
    """As on torch_geometric.datasets.ShapeNet, without anything of this package."""
    real = toy_parts(seed=1)
    # Normalised clouds lie elsewhere, so that the real test clouds are taken as they are.
    train_set = run(steps=5, anchor_lr=0.05, normalize=False)
    loader = DataLoader(train_set, batch_size=4, shuffle=True)
    with seeded(0, torch.device("cpu")):
        model = MLP([3 + len(train_set.class_names), 32, train_set.num_classes], norm=None)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

        def logits(batch):
            one_hot = F.one_hot(batch.category, len(train_set.class_names))[batch.batch]
            return model(torch.cat([batch.pos, one_hot], dim=1))

        losses = []
        for _ in range(30):
            for batch in loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(logits(batch), batch.y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
    assert losses[-1] < 0.2 < 1 < losses[0]
    test = next(iter(DataLoader(real, batch_size=len(real))))
    assert float((logits(test).argmax(dim=1) == test.y).float().mean()) > 0.9


def test_a_part_of_the_shape_is_chosen_where_all_are_infinitely_unlikely():
    space = PartSpace(("a", "b", "c", "d"), ((0, 1), (2, 3)))
    logits = torch.tensor([[9.0, 9, -math.inf, -math.inf], [9, 9, -math.inf, -200]])
    assert restrict(logits, torch.tensor([1]), torch.tensor([0, 0]), space).tolist() == [2, 3]
    with pytest.raises(TypeError, match="'logits' must have a floating point dtype"):
        restrict(logits.long(), torch.tensor([1]), torch.tensor([0, 0]), space)
