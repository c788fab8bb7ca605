"""The backbone against a plain twin, the pool, and the layout of batches."""

import copy
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from helpers import batch_of
from hypothesis import given
from hypothesis import strategies as st
from torch.func import grad, jvp, vjp, vmap
from torch.nn import functional as F
from torch_geometric.data import Batch, Data

from torch_geometric_ddp.batching import Layout, from_dense
from torch_geometric_ddp.nn import Backbone, PointNet, linear_max_pool
from torch_geometric_ddp.nn.pool import linear_by_channel

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def rand(*shape, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


def ragged(sizes, dtype=torch.float64, device="cpu"):
    clouds = [Data(pos=rand(n, 3, seed=i, dtype=dtype)) for i, n in enumerate(sizes)]
    return [data.to(device) for data in clouds]


# The pool #########################################################################################


def plain_pool(x, linear):
    return linear(x).max(dim=1).values


@pytest.fixture
def linear(device):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Linear(4, 9).to(device, torch.float64)


@pytest.mark.parametrize("grad", [True, False])
def test_pool_is_the_maximum_of_the_layer(linear, device, grad):
    x = rand(3, 7, 4, device=device)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(linear_max_pool(x, linear), plain_pool(x, linear))


def test_pool_gradient_is_that_of_the_layer(linear, device):
    x, weight = rand(3, 7, 4, device=device).requires_grad_(), rand(3, 9, seed=1, device=device)
    inputs = (x, linear.weight, linear.bias)
    ours = torch.autograd.grad((weight * linear_max_pool(x, linear)).sum(), inputs)
    theirs = torch.autograd.grad((weight * plain_pool(x, linear)).sum(), inputs)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected)


def test_pool_gradient_with_frozen_points_or_layer(linear, device):
    x = rand(3, 7, 4, device=device)
    linear_max_pool(x, linear).sum().backward()
    expected = torch.autograd.grad(plain_pool(x, linear).sum(), (linear.weight, linear.bias))
    torch.testing.assert_close(linear.weight.grad, expected[0])
    torch.testing.assert_close(linear.bias.grad, expected[1])
    linear.requires_grad_(False)
    linear_max_pool(x.requires_grad_(), linear).sum().backward()
    other = x.detach().clone().requires_grad_()
    torch.testing.assert_close(
        x.grad, torch.autograd.grad(plain_pool(other, linear).sum(), other)[0]
    )


def test_pool_trains_a_bias_alone(linear, device):
    linear.weight.requires_grad_(False)
    linear_max_pool(rand(3, 7, 4, device=device), linear).sum().backward()
    assert linear.bias.grad.tolist() == [3.0] * 9


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("function", "plain"),
    [(linear_max_pool, plain_pool), (linear_by_channel, lambda x, linear: linear(x))],
)
def test_a_layer_with_or_without_a_bias(function, plain, bias, device):
    layer = torch.nn.Linear(4, 9, bias, device, torch.float64)
    points = rand(3, 7, 4, device=device)
    x = (points if function is linear_max_pool else points.flatten(0, 1)).requires_grad_()
    ours, theirs = (f(x, layer) for f in (function, plain))
    torch.testing.assert_close(ours, theirs)
    inputs, weight = (x, *layer.parameters()), rand(*ours.shape, seed=1, device=device)
    ours, theirs = (torch.autograd.grad((weight * y).sum(), inputs) for y in (ours, theirs))
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.fixture(params=[True, False], ids=["cloud by cloud", "at once"])
def each_way(request, monkeypatch):
    """The gradient as it is on a CPU, and elsewhere."""
    monkeypatch.setattr("torch_geometric_ddp.nn.pool._cloud_by_cloud", lambda x: request.param)


@pytest.mark.parametrize("moved", [(0,), (1,), (0, 1)])
def test_pool_derivative_forward(moved):
    """Of points, of a layer, or of both."""
    values, tangents = ([rand(2, 6, 4, seed=i), rand(5, 4, seed=i + 1)] for i in (0, 2))

    def pooled(pool, *given):
        x, weight = (given[moved.index(i)] if i in moved else values[i] for i in (0, 1))
        linear = SimpleNamespace(weight=weight, bias=weight.sum(dim=1))
        return pool(x, linear if pool is linear_max_pool else lambda x: x @ weight.T + linear.bias)

    primals, changes = (tuple(some[i] for i in moved) for some in (values, tangents))
    ours, theirs = (
        jvp(partial(pooled, pool), primals, changes)[1] for pool in (linear_max_pool, plain_pool)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("each_way")
def test_pool_gradcheck():
    def pool(x, weight, bias):
        linear = torch.nn.Linear(4, 5, dtype=torch.float64)
        del linear.weight, linear.bias
        linear.weight, linear.bias = weight, bias
        return linear_max_pool(x, linear)

    inputs = [rand(2, 6, 4), rand(5, 4, seed=1), rand(5, seed=2)]
    inputs = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(pool, inputs)
    assert torch.autograd.gradgradcheck(pool, inputs)


@pytest.mark.usefixtures("each_way")
def test_pool_of_several_layers_and_several_gradients():
    """As networks are trained together, and as gradients of several losses are taken together."""

    def loss(pool, weight, x):
        linear = SimpleNamespace(weight=weight, bias=weight.sum(dim=1))
        linear = linear if pool is linear_max_pool else lambda x: x @ weight.T + weight.sum(dim=1)
        return pool(x, linear).square()

    x, weights, losses = rand(3, 2, 6, 4), rand(3, 5, 4, seed=1), rand(7, 2, 5, seed=2)
    ours, theirs = (
        vmap(grad(lambda weight, x, pool=pool: loss(pool, weight, x).sum()))(weights, x)
        for pool in (linear_max_pool, plain_pool)
    )
    torch.testing.assert_close(ours, theirs)
    constant = losses[0]
    ours, theirs = (
        vmap(lambda x, pool=pool: vjp(lambda x: loss(pool, weights[0], x), x)[1](constant)[0])(x)
        for pool in (linear_max_pool, plain_pool)
    )
    torch.testing.assert_close(ours, theirs)
    inputs = [x[0].requires_grad_(), weights[0].requires_grad_()]
    ours, theirs = (
        torch.autograd.grad(loss(pool, inputs[1], inputs[0]), inputs, losses, is_grads_batched=True)
        for pool in (linear_max_pool, plain_pool)
    )
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected)


def test_pool_of_one_point(linear, device):
    x = rand(3, 1, 4, device=device)
    torch.testing.assert_close(linear_max_pool(x, linear), linear(x[:, 0]))


# PointNet #########################################################################################


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PointNet(7).eval()


@pytest.fixture
def pointnet(network, device, dtype):
    return copy.deepcopy(network).to(device, dtype)


def conv(x, linear):
    return F.conv1d(x, linear.weight[:, :, None], linear.bias)


def twin(net, pos):
    """Features and logits of the paper's PointNet by 1D convolutions, pos [B, N, 3]."""
    x = pos.transpose(1, 2)
    for layer in net.transform_mlp.lins:
        x = conv(x, layer).relu()
    x = conv(x, net.transform_lift).relu().amax(dim=2)
    first, second, last = net.transform_head.lins
    matrix = last(second(first(x).relu()).relu()).view(-1, 3, 3) + torch.eye(3).to(pos)
    x = torch.bmm(pos, matrix).transpose(1, 2)
    for layer in net.mlp.lins:
        x = conv(x, layer).relu()
    x = conv(x, net.lift)
    first, second, last = net.head.lins
    logits = last(second(first(x.amax(dim=2)).relu()).relu())
    return x.transpose(1, 2).flatten(0, 1), logits


def close(ours, theirs):
    tolerance = TOLERANCE[ours.dtype]
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_logits_are_those_of_the_twin(pointnet, device, dtype):
    pos = rand(5, 40, 3, dtype=dtype, device=device)
    close(pointnet(batch_of(pos)), twin(pointnet, pos)[1])


def test_features_are_those_of_the_twin(pointnet, device, dtype):
    pos = rand(5, 40, 3, dtype=dtype, device=device)
    features = pointnet.point_features(batch_of(pos))
    assert features.shape == (200, pointnet.point_channels)
    close(features, twin(pointnet, pos)[0])


def test_gradients_are_those_of_the_twin(network, device):
    net = copy.deepcopy(network).to(device, torch.float64)
    pos = rand(3, 20, 3, device=device).requires_grad_()
    inputs = (pos, *net.parameters())
    weight = rand(3, 7, seed=1, device=device)
    ours = torch.autograd.grad((weight * net(batch_of(pos))).sum(), inputs)
    theirs = torch.autograd.grad((weight * twin(net, pos)[1]).sum(), inputs)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-8, atol=1e-12)


def test_features_of_frozen_network_carry_the_gradient(network, device):
    net = copy.deepcopy(network).to(device, torch.float64).requires_grad_(False)
    pos = rand(2, 9, 3, device=device).requires_grad_()
    weight = rand(18, 1024, seed=1, device=device)
    (ours,) = torch.autograd.grad((weight * net.point_features(batch_of(pos))).sum(), pos)
    (theirs,) = torch.autograd.grad((weight * twin(net, pos)[0]).sum(), pos)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_number_of_parameters():
    def layers(*widths):
        return sum(a * b + b for a, b in pairwise(widths))

    expected = layers(3, 64, 128, 1024) + layers(1024, 512, 256, 9)
    expected += layers(3, 64, 128, 1024) + layers(1024, 512, 256, 40)
    assert sum(p.numel() for p in PointNet(40).parameters()) == expected


def test_dropout_of_the_second_layer_of_the_head():
    assert PointNet(4).head.dropout == [0.0, 0.3, 0.0]
    assert PointNet(4, dropout=0.5).head.dropout == [0.0, 0.5, 0.0]


def test_ragged_batch_is_its_clouds_one_by_one(pointnet, device, dtype):
    clouds = ragged([5, 1, 12, 12, 3], dtype, device)
    batch = Batch.from_data_list(clouds)
    close(pointnet(batch), torch.cat([pointnet(data) for data in clouds]))
    features = torch.cat([pointnet.point_features(data) for data in clouds])
    close(pointnet.point_features(batch), features)


def test_clouds_of_one_size_are_their_clouds_one_by_one(pointnet, device, dtype):
    clouds = ragged([6, 6, 6], dtype, device)
    close(pointnet(Batch.from_data_list(clouds)), torch.cat([pointnet(data) for data in clouds]))


def test_batch_without_ptr(pointnet, device, dtype):
    clouds = ragged([5, 2, 9], dtype, device)
    batch = Batch.from_data_list(clouds)
    flat = Data(pos=batch.pos, batch=batch.batch)
    close(pointnet(flat), pointnet(batch))


def test_cloud_that_knows_its_number_of_points(pointnet, device, dtype):
    # The name is common; it is the user's own attribute, a number for every cloud.
    clouds = ragged([5, 2, 9], dtype, device)
    expected = pointnet(Batch.from_data_list(clouds))
    for data in clouds:
        data.num_points = data.pos.size(0)
    close(pointnet(Batch.from_data_list(clouds)), expected)


def test_single_cloud_without_batch(pointnet, device, dtype):
    (data,) = ragged([11], dtype, device)
    close(pointnet(data), twin(pointnet, data.pos[None])[1])


@given(seed=st.integers(0, 2**16))
def test_order_of_the_points_is_ignored(network, seed):
    pos = rand(2, 15, 3, seed=seed, dtype=torch.float32)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(seed))
    close(network(batch_of(pos[:, order])), network(batch_of(pos)))


def test_clouds_do_not_see_each_other(pointnet, device, dtype):
    pos = rand(3, 8, 3, dtype=dtype, device=device)
    changed = pos.clone()
    changed[1] *= 100
    ours, theirs = pointnet(batch_of(changed)), pointnet(batch_of(pos))
    close(ours[[0, 2]], theirs[[0, 2]])
    assert (ours[1] - theirs[1]).abs().max() > 1


def test_network_is_a_function_of_the_seed():
    def state(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return PointNet(3).state_dict()

    first, same, other = state(0), state(0), state(1)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (2.0, TypeError), ("4", TypeError)])
def test_bad_number_of_classes(value, error):
    with pytest.raises(error, match="'num_classes' must be"):
        PointNet(value)


def test_backbone_needs_its_methods():
    with pytest.raises(TypeError, match="abstract"):
        Backbone(3, 4)


# The layout of batches ############################################################################


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_layout_there_and_back(device, sizes):
    batch = Batch.from_data_list(ragged(sizes, device=device))
    layout = Layout.of(batch)
    dense = layout.dense(batch.pos)
    assert dense.shape == (len(sizes), max(sizes), 3)
    assert torch.equal(layout.flat(dense), batch.pos)
    for i, size in enumerate(sizes):
        assert torch.equal(dense[i, :size], batch[i].pos)
        assert torch.equal(dense[i, size:], batch[i].pos[-1:].expand(max(sizes) - size, 3))


def test_layout_of_one_size_copies_nothing(device):
    batch = batch_of(rand(3, 4, 3, device=device))
    layout = Layout.of(batch)
    assert layout.dense(batch.pos).data_ptr() == batch.pos.data_ptr()
    assert layout.flat(layout.dense(batch.pos)).data_ptr() == batch.pos.data_ptr()


def test_from_dense_is_the_batch_of_pyg(device, dtype):
    pos = rand(3, 4, 3, dtype=dtype, device=device)
    y = torch.tensor([2, 0, 1], device=device)
    ours = from_dense(pos, y=y)
    theirs = Batch.from_data_list(
        [Data(pos=cloud, y=label) for cloud, label in zip(pos, y.split(1), strict=True)]
    )
    for key in ("pos", "y", "batch", "ptr"):
        assert torch.equal(ours[key], theirs[key])
    assert ours.num_graphs == 3
    assert ours.num_points == 4
    assert ours.num_nodes == 12


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3), (0, 0, 3)])
def test_from_dense_of_nothing(shape):
    batch = from_dense(torch.zeros(shape))
    assert batch.ptr.tolist() == [i * shape[1] for i in range(shape[0] + 1)]
    assert batch.pos.shape == (shape[0] * shape[1], 3)
    assert batch.batch.shape == (shape[0] * shape[1],)


def test_from_dense_copies_nothing(device):
    pos = rand(3, 4, 3, device=device)
    assert from_dense(pos).pos.data_ptr() == pos.data_ptr()


@pytest.mark.parametrize("sizes", [[0, 3], [3, 0, 2]])
def test_empty_cloud_of_a_batch_is_refused(sizes):
    batch = Batch.from_data_list(ragged(sizes))
    message = f"'data' must hold no empty cloud, cloud {sizes.index(0)} is"
    with pytest.raises(ValueError, match=message):
        Layout.of(batch)


def test_layout_of_points_that_were_resampled(device):
    """What the maker of a batch says of it does not follow."""
    pos = rand(3, 4, 3, device=device)
    batch, kept = from_dense(pos), torch.tensor([0, 1, 2, 3, 5, 8, 9], device=device)
    batch.pos, batch.batch = batch.pos[kept], batch.batch[kept]
    layout = Layout.of(batch)
    assert layout.sizes.tolist() == [4, 1, 2]
    assert torch.equal(layout.flat(layout.dense(batch.pos)), batch.pos)
    batch = Batch(pos=batch.pos, batch=batch.batch, num_points=4)
    assert Layout.of(batch).sizes.tolist() == [4, 1, 2]


def test_bounds_that_are_older_than_the_points():
    batch = Batch.from_data_list(ragged([4, 5, 3]))
    kept = torch.tensor([0, 1, 4, 5, 6, 9])
    batch.pos, batch.batch = batch.pos[kept], batch.batch[kept]
    assert Layout.of(batch).sizes.tolist() == [2, 3, 1]


def test_a_batch_that_does_not_fit_is_refused():
    batch = Batch.from_data_list(ragged([4, 5]))
    order = torch.arange(9).flip(0)
    with pytest.raises(ValueError, match=r"'data.batch' must be sorted, cloud by cloud, got one"):
        Layout.of(Data(pos=batch.pos[order], batch=batch.batch[order]))
    with pytest.raises(ValueError, match=r"'data.batch' must have shape \[5\], got \[9\]"):
        Layout.of(Data(pos=batch.pos[:5], batch=batch.batch))


@pytest.mark.parametrize(
    "data",
    [
        *(Data(), Data(pos=torch.zeros(0, 3)), Data(pos=torch.zeros(3))),
        *(Data(pos=torch.zeros(4, 2)), from_dense(torch.zeros(2, 4, 6))),
    ],
    ids=str,
)
def test_data_without_points_is_refused(network, data):
    with pytest.raises(
        TypeError, match=r"'data.pos' must have a floating point dtype, got torch.int64"
    ):
        network(Data(pos=torch.ones(5, 3).long()))
    with pytest.raises(ValueError, match=r"'data.pos' must have shape \[N, 3\] with N > 0"):
        network(data)
