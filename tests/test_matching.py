"""The matching losses against plain loops, and what must not change them."""

import math

import pytest
import torch
from helpers import NormNet, TinyNet, bank_of, batch_of, mmd_loop, relative, sort_loop
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_ddp import ops
from torch_geometric_ddp.matching import (
    SADM,
    DistributionMatching,
    GradientMatching,
    UniformityAwareSADM,
    mmd,
    sorted_features,
)
from torch_geometric_ddp.nn import PointNet
from torch_geometric_ddp.parameterization import FullResolution


def rand(*shape, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


# MMD ##############################################################################################


@given(n=st.integers(1, 6), m=st.integers(1, 6), d=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_mmd_is_the_loop(device, n, m, d, seed):
    x, y = rand(n, d, seed=seed, device=device), rand(m, d, seed=seed + 1, device=device)
    torch.testing.assert_close(mmd(x, y), mmd_loop(x, y), rtol=1e-9, atol=1e-12)


def test_mmd_in_single_precision(device):
    x, y = rand(8, 500, device=device), rand(20, 500, seed=1, device=device)
    assert relative(mmd(x.float(), y.float()), mmd_loop(x, y)) < 1e-5


def test_mmd_of_other_multipliers():
    x, y = rand(3, 4), rand(5, 4, seed=1)
    torch.testing.assert_close(mmd(x, y, (0.1, 7.0)), mmd_loop(x, y, (0.1, 7.0)))


def test_mmd_of_a_set_with_itself_is_zero(device, dtype):
    x = rand(6, 10, dtype=dtype, device=device)
    assert abs(mmd(x, x).item()) < 20 * torch.finfo(dtype).eps


def test_mmd_of_different_sets_is_positive(device, dtype):
    x, y = rand(6, 10, dtype=dtype, device=device), rand(6, 10, seed=1, device=device)
    assert mmd(x, y.to(dtype) + 2).item() > 1


def test_mmd_of_single_rows():
    # The one distance is the bandwidth, so that every kernel is known.
    kernels = sum(torch.tensor(-1 / s, dtype=torch.float64).exp() for s in (0.25, 0.5, 1, 2, 4))
    torch.testing.assert_close(mmd(rand(1, 3), rand(1, 3, seed=1)), 10 - 2 * kernels)


@given(seed=st.integers(0, 2**16))
def test_mmd_is_symmetric(device, seed):
    x, y = rand(4, 5, seed=seed, device=device), rand(7, 5, seed=seed + 1, device=device)
    torch.testing.assert_close(mmd(x, y), mmd(y, x), rtol=1e-10, atol=1e-13)


@given(seed=st.integers(0, 2**16), scale=st.floats(1e-3, 1e3))
def test_mmd_ignores_the_order_of_rows_a_common_shift_and_the_scale(device, seed, scale):
    x, y = rand(4, 5, seed=seed, device=device), rand(7, 5, seed=seed + 1, device=device)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(len(z), generator=generator) for z in (x, y)]
    shift = rand(5, seed=seed + 2, device=device)
    other = mmd(scale * (x[rows[0]] + shift), scale * (y[rows[1]] + shift))
    torch.testing.assert_close(mmd(x, y), other, rtol=1e-8, atol=1e-11)


def test_subsets_at_once_are_the_subsets_one_by_one(device):
    x, y = rand(2, 3, 4, 6, device=device), rand(2, 5, 6, seed=1, device=device)
    out = mmd(x, y)
    assert out.shape == (2, 3)
    for c in range(2):
        for p in range(3):
            torch.testing.assert_close(out[c, p], mmd_loop(x[c, p], y[c]))


def test_classes_at_once_are_the_classes_one_by_one(device):
    x, y = rand(3, 4, 6, device=device), rand(3, 5, 6, seed=1, device=device)
    torch.testing.assert_close(
        mmd(x, y), torch.stack([mmd_loop(*pair) for pair in zip(x, y, strict=True)])
    )


def test_coinciding_rows_give_zero(device, dtype):
    x = torch.ones(3, 4, dtype=dtype, device=device)
    y = torch.ones(5, 4, dtype=dtype, device=device, requires_grad=True)
    value = mmd(x, y)
    value.backward()
    assert value.item() == 0
    assert torch.equal(y.grad, torch.zeros_like(y))


def test_rows_whose_distance_underflows(device, dtype):
    x = torch.zeros(3, 4, dtype=dtype, device=device)
    y = torch.full((5, 4), torch.finfo(dtype).tiny ** 0.52, dtype=dtype, device=device)
    value = mmd(x, y.requires_grad_())
    value.backward()
    assert bool(value.isfinite())
    assert bool(y.grad.isfinite().all())


@pytest.mark.parametrize("multipliers", [(1.0,), (0.25, 0.5, 1.0, 2.0, 4.0)])
def test_gradient_is_that_of_the_loop(device, multipliers):
    pairs = []
    for function in (mmd, mmd_loop):
        x = rand(4, 6, device=device).requires_grad_()
        y = rand(5, 6, seed=1, device=device).requires_grad_()
        pairs.append(torch.autograd.grad(function(x, y, multipliers), (x, y)))
    for ours, theirs in zip(*pairs, strict=True):
        assert relative(ours, theirs) < 1e-12


def test_gradient_of_subsets_is_that_of_the_loop(device):
    x = rand(2, 3, 4, 6, device=device).requires_grad_()
    y = rand(2, 5, 6, seed=1, device=device).requires_grad_()
    weight = rand(2, 3, seed=2, device=device)
    ours = torch.autograd.grad((weight * mmd(x, y)).sum(), (x, y))
    loop = sum(weight[c, p] * mmd_loop(x[c, p], y[c]) for c in range(2) for p in range(3))
    for mine, theirs in zip(ours, torch.autograd.grad(loop, (x, y)), strict=True):
        assert relative(mine, theirs) < 1e-12


def test_gradient_of_the_loop_is_right():
    # The bandwidth is a constant of the gradient, so that only the loop can be differentiated
    # numerically: with the bandwidth held still.
    x, y = rand(3, 4).requires_grad_(), rand(4, 4, seed=1).requires_grad_()
    z = torch.cat([x, y]).detach()
    bandwidth = (z[:, None] - z).square().sum() / (49 - 7)
    torch.testing.assert_close(mmd_loop(x, y), mmd_loop(x, y, bandwidth=bandwidth))
    assert torch.autograd.gradcheck(lambda x, y: mmd_loop(x, y, bandwidth=bandwidth), (x, y))


@pytest.mark.parametrize(
    ("x", "y"),
    [((3, 4), (5, 5)), ((2, 3, 4), (3, 5, 4)), ((2, 2, 3, 4), (3, 5, 4)), ((2, 2, 3, 4), (5, 4))],
)
def test_mmd_refuses_shapes_that_differ(x, y):
    with pytest.raises(ValueError, match="'x' and 'y' must have shapes"):
        mmd(torch.zeros(x), torch.zeros(y))


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_mmd_refuses_empty_sets(n, m):
    with pytest.raises(ValueError, match=f"'x' and 'y' must each have a row, got {n} and {m}"):
        mmd(torch.zeros(n, 4), torch.zeros(m, 4))


# Sorted features ##################################################################################


def plain_sort(x, absolute):
    """By torch.sort and plain autograd, in ascending order; ties keep their order."""
    x = x.abs() if absolute else x
    return x.sort(dim=1, stable=True).values.transpose(1, 2).flatten(1)


SORTED = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("dtype", SORTED, ids=str)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 5), (2, 256, 300), (5, 3, 1)])
def test_sorted_features(device, absolute, dtype, keep, shape):
    x = rand(*shape, dtype=dtype, device=device).requires_grad_(keep)
    out = sorted_features(x, absolute)
    assert out.dtype == dtype
    assert torch.equal(out, plain_sort(x, absolute))


@pytest.mark.parametrize(
    ("x", "group", "error", "message"),
    [
        (
            torch.ones(2, 3, 4).long(),
            None,
            TypeError,
            "'x' must be floating point, got torch.int64",
        ),
        (torch.ones(3, 4), None, ValueError, "'x' must have shape"),
        (torch.ones(1, 4, 2), torch.zeros(1, 4), TypeError, "'group' must have an integer type"),
        (
            torch.ones(1, 4, 2),
            torch.zeros(1, 3).long(),
            ValueError,
            r"shape \[1, 4\], got \[1, 3\]",
        ),
        (
            torch.ones(1, 4, 2),
            torch.tensor([[0, 0, 40000, 1]]),
            ValueError,
            r"in 0..32767, got 0..40",
        ),
        (torch.ones(1, 4, 2), torch.tensor([[0, 0, -1, 1]]), ValueError, r"in 0..32767, got -1..1"),
    ],
)
def test_what_sorted_features_refuse(x, group, error, message):
    with pytest.raises(error, match=message):
        sorted_features(x, group=group)


@pytest.mark.parametrize("shape", [(5,), (12,), (4, 3), ()])
def test_a_shift_of_another_shape_is_refused(shape):
    message = r"'shift' must have shape \[20\], got "
    if shape == (4, 3):
        message = r"'shift' must have shape \[20\], got \[4, 3\]"
    with pytest.raises(ValueError, match=message):
        sorted_features(rand(2, 4, 5), shift=torch.zeros(shape))
    with pytest.raises(TypeError, match="'shift' must be a tensor"):
        sorted_features(rand(2, 4, 5), shift=[0.0] * 20)


def test_sorted_features_are_the_loop(device):
    x = rand(2, 9, 4, device=device)
    out = sorted_features(x).view(2, 4, 9).flip(-1).flatten(1)  # The loop has the largest first.
    assert torch.equal(out, sort_loop(x))


TIES = {
    "equal": [1.0, 1.0, 1.0, 1.0],
    "pairs": [2.0, 1.0, 2.0, 1.0],
    "zeros": [0.0, 0.0, 1.0, 0.0],
    "signs": [-1.0, 1.0, -1.0, 1.0],
    "negative": [-2.0, -2.0, -3.0, -2.0],
    "negative zeros": [0.0, -0.0, 0.0, -0.0],
    "small": [1e-45, -1e-45, 1e-38, 0.0],
    "large": [3e38, -3e38, 3e38, 1.0],
}


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("values", TIES.values(), ids=TIES)
def test_ties(device, dtype, absolute, values):
    x = torch.tensor(values, dtype=dtype, device=device)[None, :, None]
    weight = torch.arange(4.0, dtype=dtype, device=device)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out = sorted_features(ours, absolute)
    assert torch.equal(out, plain_sort(x, absolute))
    assert torch.equal(sorted_features(x, absolute), out)
    (out * weight).sum().backward()
    (plain_sort(theirs, absolute) * weight).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_gradient_is_that_of_plain_autograd(device, absolute, dtype):
    ours = rand(3, 33, 290, dtype=dtype, device=device).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    weight = rand(3, 290 * 33, seed=1, dtype=dtype, device=device)
    (sorted_features(ours, absolute) * weight).sum().backward()
    (plain_sort(theirs, absolute) * weight).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("num", [32767, 32769])
def test_gradient_of_very_large_clouds(device, absolute, num):
    """Whose places fit into 16 bits, and no longer do."""
    ours = rand(1, num, 1, dtype=torch.float32, device=device).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    weight = rand(1, num, seed=1, dtype=torch.float32, device=device)
    (sorted_features(ours, absolute) * weight).sum().backward()
    (plain_sort(theirs, absolute) * weight).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("absolute", [True, False])
def test_sorted_features_gradcheck(absolute):
    x = rand(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sorted_features(x, absolute), (x,))


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("keep", [True, False])
def test_single_precision_is_sorted_as_double(absolute, keep):
    x = rand(4, 100, 7, dtype=torch.float32).requires_grad_(keep)
    wide = x.detach().double().requires_grad_(keep)
    assert torch.equal(sorted_features(x, absolute).double(), sorted_features(wide, absolute))


LAYOUTS = {
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "points first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every other": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "wider": lambda x: torch.cat([x, x], dim=2)[..., : x.size(2)],
    "all channels in front": lambda x: x.flatten(0, 1).T.contiguous().T.view(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("keep", [True, False])
def test_noncontiguous_features(device, dtype, layout, keep):
    x = rand(3, 10, 6, dtype=dtype, device=device)
    other = layout(x)
    assert not other.is_contiguous()
    assert torch.equal(sorted_features(other.requires_grad_(keep)), sorted_features(x))


@pytest.mark.parametrize("keep", [True, False])
def test_shift_is_subtracted(device, dtype, keep):
    x = rand(3, 10, 6, dtype=dtype, device=device)
    shift = rand(60, seed=1, dtype=dtype, device=device)
    out = sorted_features(x.clone().requires_grad_(keep), shift=shift)
    assert torch.equal(out, plain_sort(x, True) - shift)


def test_input_is_left_alone(device, dtype):
    x = rand(3, 10, 6, dtype=dtype, device=device)
    before = x.clone()
    sorted_features(x.requires_grad_(), shift=rand(60, dtype=dtype, device=device))
    sorted_features(x.detach())
    assert torch.equal(x.detach(), before)


@given(seed=st.integers(0, 2**16))
def test_order_of_the_points_is_ignored(device, seed):
    x = rand(2, 12, 5, seed=seed, dtype=torch.float32, device=device)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(sorted_features(x[:, order]), sorted_features(x))


# The losses #######################################################################################

NUM_CLASSES, BATCH, NUM_POINTS, NUM_PARTS, NUM_CLOUDS = 3, 4, 12, 2, 5


def network_of(kind, device="cpu"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(NUM_CLASSES).to(device, torch.float64).requires_grad_(False)


@pytest.fixture
def pointnet(device):
    return network_of(PointNet, device)


@pytest.fixture
def real(device):
    return rand(NUM_CLASSES, BATCH, 30, 3, device=device)


@pytest.fixture
def synthetic(device):
    return rand(NUM_CLASSES * NUM_CLOUDS, NUM_POINTS, 3, seed=1, device=device)


def views_of(matching, real):
    views = matching.prepare(bank_of(real.flatten(0, 1)), NUM_POINTS)
    return {key: view.unflatten(0, real.shape[:2]) for key, view in views.items()}


def features_loop(network, clouds):
    """Features cloud by cloud, sorted."""
    features = [network.point_features(batch_of(cloud[None])) for cloud in clouds]
    return sort_loop(torch.stack(features))


def loss_loop(network, real, synthetic, uniformity_lambda, k=16):
    """The loss of every class, class by class, part by part, cloud by cloud."""
    losses = []
    for c, clouds in enumerate(real):
        y = features_loop(network, synthetic[c * NUM_CLOUDS : (c + 1) * NUM_CLOUDS])
        whole = ops.uniformity_score(clouds, k).mean()
        etas, distances = [], []
        for m in range(NUM_PARTS):
            index = ops.farthest_point_partition(clouds, NUM_PARTS, NUM_POINTS)[:, m]
            part = ops.gather_points(clouds, index)
            gap = whole - ops.uniformity_score(part, k).mean()
            etas.append((-uniformity_lambda * gap**2).exp())
            distances.append(mmd_loop(features_loop(network, part), y))
        pairs = zip(etas, distances, strict=True)
        losses.append(sum(eta / sum(etas) * distance for eta, distance in pairs))
    return torch.stack(losses)


def test_usual_penalty_is_the_published_one():
    matching = UniformityAwareSADM()
    assert (matching.uniformity_lambda, matching.num_subsets, matching.k) == (1000.0, None, 16)


@pytest.mark.parametrize("uniformity_lambda", [0.0, 3.0, 1000.0])
def test_uniformity_aware_loss_is_the_loop(pointnet, real, synthetic, uniformity_lambda):
    matching = UniformityAwareSADM(uniformity_lambda)
    ours, theirs = synthetic.clone().requires_grad_(), synthetic.clone().requires_grad_()
    loss = matching(pointnet, views_of(matching, real), batch_of(ours))
    expected = loss_loop(pointnet, real, theirs, uniformity_lambda)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    loss.sum().backward()
    expected.sum().backward()
    assert relative(ours.grad, theirs.grad) < 1e-9


def test_sadm_loss_is_the_loop(pointnet, real, synthetic):
    matching, clouds = SADM(), real[:, :, :NUM_POINTS]
    loss = matching(pointnet, {"pos": clouds}, batch_of(synthetic))
    for c in range(NUM_CLASSES):
        y = features_loop(pointnet, synthetic[c * NUM_CLOUDS : (c + 1) * NUM_CLOUDS])
        expected = mmd_loop(features_loop(pointnet, clouds[c]), y)
        torch.testing.assert_close(loss[c], expected, rtol=1e-10, atol=0)


def test_sadm_without_magnitudes(pointnet, real, synthetic):
    clouds = real[:, :, :NUM_POINTS]
    loss = SADM(absolute=False)(pointnet, {"pos": clouds}, batch_of(synthetic))
    rows = []
    for c in (clouds[0], synthetic[:NUM_CLOUDS]):
        features = [pointnet.point_features(batch_of(cloud[None])) for cloud in c]
        rows.append(sort_loop(torch.stack(features), absolute=False))
    torch.testing.assert_close(loss[0], mmd_loop(*rows), rtol=1e-10, atol=0)
    assert loss[0] != SADM()(pointnet, {"pos": clouds}, batch_of(synthetic))[0]


@pytest.fixture
def tiny(device):
    return network_of(TinyNet, device)


def test_fewer_subsets_and_neighbours(tiny, real, synthetic):
    matching = UniformityAwareSADM(10.0, num_subsets=1, k=4)
    views = views_of(matching, real)
    assert views["subset_pos"].shape == (NUM_CLASSES, BATCH, 1, NUM_POINTS, 3)
    subsets = views["subset_pos"][:, :, 0]
    torch.testing.assert_close(
        matching(tiny, views, batch_of(synthetic)),
        SADM()(tiny, {"pos": subsets}, batch_of(synthetic)),
    )


def test_prepared_views(real, device):
    clouds = real.flatten(0, 1)
    views = UniformityAwareSADM(k=4).prepare(bank_of(clouds), NUM_POINTS)
    index = ops.farthest_point_partition(clouds, NUM_PARTS, NUM_POINTS)
    subsets = ops.gather_points(clouds, index)
    assert torch.equal(views["subset_pos"], subsets)
    assert torch.equal(views["uniformity"], ops.uniformity_score(clouds, 4))
    for p in range(NUM_PARTS):
        expected = ops.uniformity_score(subsets[:, p], 4)
        assert torch.equal(views["subset_uniformity"][:, p], expected)


def test_order_of_the_points_does_not_change_the_loss(tiny, real, synthetic, device):
    order = torch.randperm(NUM_POINTS, generator=torch.Generator().manual_seed(0))
    matching = UniformityAwareSADM()
    views = views_of(matching, real)
    loss = matching(tiny, views, batch_of(synthetic))
    shuffled = {**views, "subset_pos": views["subset_pos"][:, :, :, order]}
    torch.testing.assert_close(matching(tiny, shuffled, batch_of(synthetic)), loss)
    torch.testing.assert_close(matching(tiny, views, batch_of(synthetic[:, order])), loss)


def test_order_of_the_clouds_does_not_change_the_loss(tiny, real, synthetic, device):
    order = torch.tensor([2, 0, 3, 1], device=device)
    matching = UniformityAwareSADM()
    views = views_of(matching, real)
    loss = matching(tiny, views, batch_of(synthetic))
    shuffled = {key: view[:, order] for key, view in views.items()}
    torch.testing.assert_close(matching(tiny, shuffled, batch_of(synthetic)), loss)


def test_zero_lambda_weighs_subsets_alike(tiny, real, synthetic):
    matching = UniformityAwareSADM(0.0)
    views = views_of(matching, real)
    assert matching.log_penalty(views).tolist() == [[0.0] * NUM_PARTS] * NUM_CLASSES
    subsets = [
        SADM()(tiny, {"pos": views["subset_pos"][:, :, p]}, batch_of(synthetic)) for p in (0, 1)
    ]
    torch.testing.assert_close(
        matching(tiny, views, batch_of(synthetic)), torch.stack(subsets).mean(dim=0)
    )


def test_penalty_prefers_the_part_that_is_spread_like_the_cloud():
    views = {
        "uniformity": torch.tensor([[0.3, 0.5]]),
        "subset_uniformity": torch.tensor([[[0.4, 0.2, 0.5], [0.4, 0.5, 0.5]]]),
    }
    # Means: 0.4 of the clouds, and 0.4, 0.35 and 0.5 of the subsets.
    expected = torch.tensor([[0.0, -100 * 0.05**2, -100 * 0.1**2]])
    penalty = UniformityAwareSADM(100.0).log_penalty(views)
    torch.testing.assert_close(penalty, expected, atol=1e-6, rtol=1e-6)


def test_penalties_that_underflow(tiny, real, synthetic):
    matching = UniformityAwareSADM(1e12)
    views = views_of(matching, real)
    assert bool((matching.log_penalty(views).exp() == 0).all())
    loss = matching(tiny, views, batch_of(synthetic))
    # What is left is the part with the largest penalty.
    best = matching.log_penalty(views).argmax(dim=1)
    subsets = torch.stack(
        [SADM()(tiny, {"pos": views["subset_pos"][:, :, p]}, batch_of(synthetic)) for p in (0, 1)]
    )
    torch.testing.assert_close(loss, subsets.gather(0, best[None])[0])


def test_classes_do_not_see_each_other(tiny, real, synthetic):
    matching = UniformityAwareSADM()
    views = views_of(matching, real)
    together = synthetic.clone().requires_grad_()
    loss = matching(tiny, views, batch_of(together))
    loss.sum().backward()
    for c in range(NUM_CLASSES):
        alone = synthetic[c * NUM_CLOUDS : (c + 1) * NUM_CLOUDS].clone().requires_grad_()
        own = {key: view[c : c + 1] for key, view in views.items()}
        single = matching(tiny, own, batch_of(alone))
        single.sum().backward()
        torch.testing.assert_close(loss[c : c + 1], single, rtol=1e-10, atol=0)
        expected = together.grad[c * NUM_CLOUDS : (c + 1) * NUM_CLOUDS]
        torch.testing.assert_close(alone.grad, expected, rtol=1e-8, atol=1e-12)


def test_same_clouds_match_perfectly(tiny, real):
    clouds = real[:, :, :NUM_POINTS]
    loss = SADM()(tiny, {"pos": clouds}, batch_of(clouds.flatten(0, 1)))
    assert loss.abs().max() < 1e-12


@pytest.mark.parametrize("kind", [TinyNet, PointNet])
def test_gradient_of_the_loss_in_single_precision(real, synthetic, device, kind):
    matching, network = UniformityAwareSADM(), network_of(kind, device)
    grads = []
    for dtype in (torch.float32, torch.float64):
        y = synthetic.to(dtype).requires_grad_()
        views = {key: view.to(dtype) for key, view in views_of(matching, real).items()}
        matching(network.to(dtype), views, batch_of(y)).sum().backward()
        grads.append(y.grad)
    assert relative(*grads) < 1e-4


def test_sizes_that_differ_are_refused(tiny, real, synthetic):
    message = "real clouds of 30 and synthetic clouds of 12 points"
    with pytest.raises(ValueError, match=message):
        SADM()(tiny, {"pos": real}, batch_of(synthetic))


def test_synthetic_clouds_larger_than_the_real_ones_are_refused(real):
    with pytest.raises(ValueError, match="of 31 points cannot be matched with real clouds of 30"):
        UniformityAwareSADM().prepare(bank_of(real[0]), 31)


def test_more_subsets_than_fit_are_refused(real):
    with pytest.raises(ValueError, match="'num_points' asks for 3 subsets of 12 points"):
        UniformityAwareSADM(num_subsets=3).prepare(bank_of(real[0]), NUM_POINTS)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("uniformity_lambda", -1.0, ValueError),
        ("uniformity_lambda", float("nan"), ValueError),
        ("uniformity_lambda", "1", TypeError),
        ("num_subsets", 0, ValueError),
        ("num_subsets", 1.5, TypeError),
        ("k", 1, ValueError),
    ],
)
def test_bad_argument(name, value, error):
    with pytest.raises(error, match=f"'{name}' must be"):
        UniformityAwareSADM(**{name: value})


# The rivals #######################################################################################


def clouds_of(num_classes, per_class, num_points, seed, dtype=torch.float64, device="cpu"):
    pos = rand(num_classes * per_class, num_points, 3, seed=seed, dtype=dtype, device=device)
    return pos.requires_grad_()


def batch_of_classes(pos, num_classes):
    y = torch.arange(num_classes, device=pos.device).repeat_interleave(len(pos) // num_classes)
    return batch_of(pos, y=y)


@pytest.mark.parametrize("num_points", [16, 9])
def test_distribution_matching_is_the_loop(device, num_points):
    network = TinyNet(3).double().to(device)
    real, pos = rand(3, 4, 16, 3, device=device), clouds_of(3, 2, num_points, 1, device=device)
    ours = DistributionMatching()(network, {"pos": real}, batch_of_classes(pos, 3))
    for c in range(3):
        means = []
        for clouds in (real[c], pos[2 * c : 2 * c + 2]):
            pooled = [network.mlp(cloud).max(dim=0).values for cloud in clouds]
            means.append(sum(pooled) / len(pooled))
        torch.testing.assert_close(ours[c], ((means[0] - means[1]) ** 2).sum())


def test_distribution_matching_gradcheck():
    network = TinyNet(2).double().requires_grad_(False)
    real = {"pos": rand(2, 3, 5, 3)}

    def loss(pos):
        return DistributionMatching()(network, real, batch_of_classes(pos, 2))

    assert torch.autograd.gradcheck(loss, clouds_of(2, 2, 5, 1))


def gradient_loop(network, real, pos, num_classes):
    """Class by class, with one call of autograd for each gradient."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    losses = []
    for c, own in enumerate(pos.view(num_classes, -1, *pos.shape[1:])):
        pair = []
        for clouds in (real[c], own):
            y = torch.full((len(clouds),), c, device=pos.device)
            loss = torch.nn.functional.cross_entropy(network(batch_of(clouds)), y)
            pair.append(torch.autograd.grad(loss, weights, create_graph=True))
        total = 0.0
        for theirs, ours in zip(*pair, strict=True):
            for a, b in zip(theirs.detach(), ours, strict=True):
                total = total + 1 - (a @ b) / (a.norm() * b.norm() + 1e-6)
        losses.append(total)
    return torch.stack(losses)


@pytest.mark.parametrize("kind", [TinyNet, NormNet, PointNet])
@pytest.mark.parametrize("num_points", [16, 9])
def test_gradient_matching_is_the_loop(device, kind, num_points):
    torch.manual_seed(0)
    network = kind(3).double().to(device).eval()
    real, pos = rand(3, 4, 16, 3, device=device), clouds_of(3, 2, num_points, 1, device=device)
    twin = gradient_loop(network, real, pos, 3)
    (theirs,) = torch.autograd.grad(twin.sum(), pos)
    network.requires_grad_(False)
    ours = GradientMatching()(network, {"pos": real}, batch_of_classes(pos, 3))
    torch.testing.assert_close(ours, twin)
    (own,) = torch.autograd.grad(ours.sum(), pos)
    assert relative(own, theirs) < 1e-9


def test_gradient_matching_gradcheck():
    torch.manual_seed(0)
    network = TinyNet(2).double().requires_grad_(False)
    real = {"pos": rand(2, 3, 5, 3)}

    def loss(pos):
        return GradientMatching()(network, real, batch_of_classes(pos, 2))

    assert torch.autograd.gradcheck(loss, clouds_of(2, 2, 5, 1))


def test_gradient_matching_of_the_real_clouds_themselves(device):
    """What is left is the constant beside the norms; a row of zeros counts as one, as published."""
    torch.manual_seed(0)
    network = TinyNet(3).double().to(device).requires_grad_(False)
    pos = clouds_of(3, 2, 8, 1, device=device).detach()
    matching = GradientMatching()
    loss = matching(network, {"pos": pos.view(3, 2, 8, 3)}, batch_of_classes(pos, 3))
    found = matching.gradients(network, pos.view(3, 2, 8, 3), torch.arange(3, device=device))
    squares = torch.cat([g.square().sum(dim=-1) for g in found.values()], dim=1)
    torch.testing.assert_close(loss, (1e-6 / (squares + 1e-6)).sum(dim=1))


def test_gradient_matching_leaves_dropout_out(device):
    torch.manual_seed(0)
    network = PointNet(2).to(device).requires_grad_(False).train()
    real = {"pos": rand(2, 3, 16, 3, dtype=torch.float32, device=device)}
    batch = batch_of_classes(clouds_of(2, 2, 16, 1, torch.float32, device), 2)
    matching = GradientMatching()
    assert torch.equal(matching(network, real, batch), matching(network, real, batch))


def test_top_row_of_sadm_is_the_loop(device):
    network = TinyNet(3).double().to(device)
    real, pos = rand(3, 4, 16, 3, device=device), clouds_of(3, 2, 16, 1, device=device)
    matching = SADM(absolute=False, weight=2.0, top_weight=1.0)
    ours = matching(network, {"pos": real}, batch_of_classes(pos, 3))
    for c in range(3):
        features = [network.mlp(clouds) for clouds in (real[c], pos[2 * c : 2 * c + 2])]
        rows = [sort_loop(f, absolute=False) for f in features]
        top = [f.max(dim=1).values for f in features]
        torch.testing.assert_close(ours[c], 2 * mmd_loop(*rows) + mmd_loop(*top))


def test_gradient_of_the_top_row_is_that_of_the_loop(device):
    torch.manual_seed(0)
    network = TinyNet(2).double().to(device).requires_grad_(False)
    real, pos = rand(2, 3, 5, 3, device=device), clouds_of(2, 2, 5, 1, device=device)
    matching = SADM(absolute=False, weight=2.0, top_weight=1.0)
    matching(network, {"pos": real}, batch_of_classes(pos, 2)).sum().backward()
    for c in range(2):
        own = pos.detach()[2 * c : 2 * c + 2].requires_grad_()
        features = [network.mlp(clouds) for clouds in (real[c], own)]
        rows = [sort_loop(f, absolute=False) for f in features]
        top = [f.max(dim=1).values for f in features]
        (2 * mmd_loop(*rows) + mmd_loop(*top)).backward()
        assert relative(pos.grad[2 * c : 2 * c + 2], own.grad) < 1e-9


def test_top_row_of_sadm_against_finite_differences():
    torch.manual_seed(0)
    network = TinyNet(1).double().requires_grad_(False)
    real, pos = rand(1, 3, 5, 3), clouds_of(1, 2, 5, 1).detach()

    def top(pos):
        return torch.stack([network.mlp(cloud).max(dim=0).values for cloud in pos])

    # No gradient flows through the bandwidth, which finite differences must hold fixed.
    z = torch.cat([top(real[0]), top(pos)])
    bandwidth = torch.cdist(z, z).square().sum() / (25 - 5)
    matching = SADM(absolute=False, weight=0.0, top_weight=1.0)
    pos.requires_grad_()
    matching(network, {"pos": real}, batch_of_classes(pos, 1)).sum().backward()
    flat, step = pos.detach().clone().flatten(), 1e-6
    for i in range(len(flat)):
        values = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[i] += sign * step
            values.append(mmd_loop(top(real[0]), top(moved.view_as(pos)), bandwidth=bandwidth))
        slope = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(pos.grad.flatten()[i], slope, rtol=1e-5, atol=1e-8)


def test_sadm_is_the_loss_of_ddp_with_one_part(tiny, device):
    """One part as large as the cloud, whose uniformity is the cloud's own."""
    pos = rand(6, 16, 3, dtype=torch.float32, device=device)
    synthetic = batch_of_classes(rand(6, 16, 3, seed=1, dtype=torch.float32, device=device), 3)
    aware, plain = UniformityAwareSADM(k=4), SADM()
    views = aware.prepare(bank_of(pos), 16)
    real = {key: view.view(3, 2, *view.shape[1:]) for key, view in views.items()}
    assert views["subset_pos"].shape == (6, 1, 16, 3)
    network = tiny.to(device, torch.float32)
    ours = aware(network, real, synthetic)
    theirs = plain(network, {"pos": pos.view(3, 2, 16, 3)}, synthetic)
    torch.testing.assert_close(ours, theirs)


def test_sadm_samples_real_clouds_down_to_smaller_synthetic_ones(device):
    pos = rand(5, 20, 3, device=device)
    small = SADM().prepare(bank_of(pos), 6)["pos"]
    assert torch.equal(small, ops.gather_points(pos, ops.farthest_point_sample(pos, 6)))
    assert torch.equal(SADM().prepare(bank_of(pos), 20)["pos"], pos)


@pytest.mark.parametrize("name", ["weight", "top_weight"])
def test_bad_weights_of_sadm(name):
    with pytest.raises(ValueError, match=f"'{name}' must be finite and at least 0, got -1"):
        SADM(**{name: -1.0})


@pytest.mark.parametrize("scale", [1e30, 1e18, 1e-20, 1e-30])
def test_mmd_of_any_scale(scale, device):
    x, y = (
        rand(*shape, seed=seed).float().to(device) for seed, shape in enumerate([(4, 9, 5), (3, 5)])
    )
    expected = mmd(x, y)
    torch.testing.assert_close(mmd(scale * x, scale * y), expected, rtol=1e-4, atol=1e-5)
    x.requires_grad_()
    (ours,) = torch.autograd.grad(mmd(scale * x, scale * y).sum(), x)
    (theirs,) = torch.autograd.grad(mmd(x, y).sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_mmd_of_wide_rows_in_half_precision(dtype, device):
    x, y = (rand(n, 3000, seed=n).to(device, dtype) for n in (8, 6))
    value = mmd(x, y + 3)
    assert value.dtype == dtype
    expected = mmd(x.double(), (y + 3).double())
    assert relative(value.double(), expected) < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("shift", [100, 1e3, 1e4])
def test_mmd_far_from_the_origin(shift, device):
    x, y = rand(5, 7).to(device, torch.float32), rand(4, 7, seed=1).to(device, torch.float32)
    torch.testing.assert_close(mmd(x + shift, y + shift), mmd(x, y), rtol=2e-3, atol=0)
    several = mmd(torch.stack([x, 2 * x]) + shift, y + shift)
    torch.testing.assert_close(several, mmd(torch.stack([x, 2 * x]), y), rtol=2e-3, atol=0)


def test_mmd_refuses_what_it_cannot_compare():
    x, y = rand(5, 7), rand(4, 7)
    for one, other in ((x[0], y[0]), (x, y[:, :6]), (x[None, None, None], y), (x, y[None])):
        with pytest.raises(ValueError, match="'x' and 'y' must have shapes"):
            mmd(one, other)
    with pytest.raises(ValueError, match="must each have a row, got 5 and 0"):
        mmd(x, y[:0])
    with pytest.raises(ValueError, match="'x' must hold a number, got shape"):
        mmd(x[:, :0], y[:, :0])
    with pytest.raises(TypeError, match="must have one floating point type"):
        mmd(x, y.half())
    with pytest.raises(TypeError, match="'multipliers' must be a sequence of numbers, got float"):
        mmd(x, y, 0.5)
    with pytest.raises(ValueError, match="'multipliers' must hold a number, got none"):
        mmd(x, y, ())
    for value in (0, -1, math.nan):
        with pytest.raises(ValueError, match="'multipliers' must be finite and above 0"):
            mmd(x, y, (1, value))


def test_gradients_are_matched_in_the_mode_that_a_network_has():
    network = NormNet(2).train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    norms[0].eval()
    modes = [module.training for module in network.modules()]
    clouds = FullResolution(torch.rand(2, 8, 3), 2)()
    GradientMatching()(network, {"pos": torch.rand(2, 4, 8, 3)}, clouds)
    assert [module.training for module in network.modules()] == modes
    assert any(modes)
    assert not all(modes)
