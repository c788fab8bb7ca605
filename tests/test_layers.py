"""The layers of the backbones against PyG's message passing and plain loops."""

import copy

import pytest
import torch
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.data import Batch, Data

from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.edges import edge_index, knn
from torch_geometric_ddp.nn import conv, selective_scan
from torch_geometric_ddp.nn.conv import EdgeConv, PointNetConv, PointTransformerConv, shared_mlp
from torch_geometric_ddp.nn.hilbert import hilbert_index, hilbert_order
from torch_geometric_ddp.nn.levels import Level, Neighbors
from torch_geometric_ddp.nn.mamba import Mamba
from torch_geometric_ddp.nn.pool import group_max_pool, max_pool, mean_pool


def rand(*shape, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(params=[[9, 9, 9], [12, 7, 30]], ids=["one-size", "sizes"])
def batch(request, device):
    clouds = [Data(pos=rand(n, 3, seed=i)) for i, n in enumerate(request.param)]
    return Batch.from_data_list(clouds).to(device)


def neighbors(batch, k):
    """The same neighbours for our layers and for PyG's."""
    layout = Layout.of(batch)
    index = knn(layout.dense(batch.pos), k, sizes=layout.sizes)
    return Neighbors(layout.flat(layout.rows(index))), edge_index(index, layout)


def scrambled(module, device):
    """A network whose BatchNorm is not that of the start; some scales are negative."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return module.to(device, torch.float64)


def compare(ours, theirs, inputs):
    """Values, gradients of inputs and weights, and running statistics of two layers."""
    (layer, run), (other, run_other) = ours, theirs
    assert layer.state_dict().keys() == other.state_dict().keys()
    x, y = run(layer), run_other(other)
    torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)
    weight = rand(*x.shape, seed=9, device=x.device)
    mine = torch.autograd.grad((x * weight).sum(), [*inputs, *layer.parameters()])
    expected = torch.autograd.grad((y * weight).sum(), [*inputs, *other.parameters()])
    for a, b in zip(mine, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
    for name, buffer in layer.named_buffers():
        torch.testing.assert_close(buffer, dict(other.named_buffers())[name])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [None, 5])
def test_point_net_conv_is_that_of_pyg(batch, training, channels, device):
    near, edges = neighbors(batch, 4)
    pos = batch.pos.requires_grad_()
    x = None if channels is None else rand(len(pos), channels, device=device).requires_grad_()
    mlp = shared_mlp(3 + (channels or 0), 8, 6)
    other = pyg.PointNetConv(copy.deepcopy(mlp), add_self_loops=False)
    other = other.to(device, torch.float64).train(training)
    ours = scrambled(PointNetConv(mlp), device).train(training)  # PyG's layers reset the network.
    other.load_state_dict(ours.state_dict())
    compare(
        (ours, lambda layer: layer(x, pos, pos, near)),
        (other, lambda layer: layer(x, pos, edges)),
        [pos] if x is None else [pos, x],
    )


@pytest.mark.parametrize("training", [True, False])
def test_edge_conv_is_that_of_pyg(batch, training, device):
    near, edges = neighbors(batch, 4)
    x = rand(len(batch.pos), 5, seed=1, device=device).requires_grad_()
    mlp = shared_mlp(10, 8, act="leaky_relu", act_kwargs={"negative_slope": 0.2})
    other = pyg.EdgeConv(copy.deepcopy(mlp)).to(device, torch.float64).train(training)
    ours = scrambled(EdgeConv(mlp), device).train(training)
    other.load_state_dict(ours.state_dict())
    assert bool((mlp.norms[0].module.weight < 0).any())
    compare((ours, lambda layer: layer(x, near)), (other, lambda layer: layer(x, edges)), [x])


def test_edge_conv_of_one_edge_keeps_its_statistics(device):
    layer = scrambled(EdgeConv(shared_mlp(6, 4)), device).train()
    before = copy.deepcopy(layer.state_dict())
    near = Neighbors(torch.zeros(1, 1, dtype=torch.long, device=device))
    x = rand(1, 3, device=device)
    torch.testing.assert_close(layer(x, near), copy.deepcopy(layer).eval()(x, near))
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("widths", [(6, 4, 4), (6,)])
def test_edge_conv_needs_one_layer(widths):
    with pytest.raises(ValueError, match="'nn' must have one layer with BatchNorm"):
        EdgeConv(pyg.MLP([*widths, 4], plain_last=len(widths) == 1))


@pytest.mark.parametrize("k", [4, 20])  # With 20, all neighbours of some clouds.
def test_point_transformer_conv_is_that_of_pyg(batch, k, device):
    layout = Layout.of(batch)
    level = Level(layout.dense(batch.pos), layout)
    _, edges = neighbors(batch, k)
    pos, x = batch.pos.requires_grad_(), rand(len(batch.pos), 6, device=device).requires_grad_()
    networks = [pyg.MLP([3, 6, 6], norm=None), pyg.MLP([6, 6, 6], norm=None)]
    ours = PointTransformerConv(6, *networks).to(device, torch.float64)
    other = pyg.PointTransformerConv(6, 6, *copy.deepcopy(networks), add_self_loops=False)
    other = other.to(device, torch.float64)
    other.load_state_dict(ours.state_dict())
    near = level.knn(k)
    assert (near.mask is None) == (layout.mask is None or k == 4)
    compare(
        (ours, lambda layer: layer(x, pos, near)),
        (other, lambda layer: layer(x, pos, edges)),
        [pos, x],
    )


def test_edge_mlp_is_the_mlp_on_every_edge(device):
    mlp = scrambled(shared_mlp(8, 7, 4, plain_last=True), device).eval()
    x, offset = rand(6, 5, device=device), rand(3, 4, 3, seed=1, device=device)
    index = torch.arange(12, device=device).view(3, 4) % 6
    expected = mlp(torch.cat([x[index], offset], dim=2).flatten(0, 1)).view(3, 4, 4)
    torch.testing.assert_close(conv.edge_mlp(mlp, x, offset, index), expected)


# Pools ############################################################################################


def test_group_max_pool(device):
    x = rand(5, 4, 3, device=device).requires_grad_()
    torch.testing.assert_close(group_max_pool(x), x.amax(dim=1))
    assert torch.equal(group_max_pool(x.detach()), x.detach().amax(dim=1))
    assert torch.autograd.gradcheck(group_max_pool, [x])


def test_pools_over_clouds(batch, device):
    x, layout = rand(len(batch.pos), 5, device=device), Layout.of(batch)
    largest, mean = pyg.global_max_pool(x, batch.batch), pyg.global_mean_pool(x, batch.batch)
    torch.testing.assert_close(max_pool(x, layout), largest)
    torch.testing.assert_close(mean_pool(x, layout), mean)


# Levels ###########################################################################################


def test_levels_of_sizes_are_those_of_each(device):
    clouds = [Data(pos=rand(n, 3, seed=n)).to(device) for n in (5, 30, 2)]
    level = Level.of(Batch.from_data_list(clouds), 12)
    first = level.first(4)
    near = level.knn(3, first)
    alone = [Level.of(data, 12) for data in clouds]
    torch.testing.assert_close(level.pos, torch.cat([one.pos for one in alone]))
    torch.testing.assert_close(first.pos, torch.cat([one.first(4).pos for one in alone]))
    expected = [one.pos[one.knn(3, one.first(4)).index] for one in alone]
    ours = level.pos[near.index].split([4, 4, 2])
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1], expected[1])
    torch.testing.assert_close(ours[2][:, :2], expected[2])
    assert near.mask.tolist() == [[True] * 3] * 8 + [[True, True, False]] * 2


# The Hilbert curve ################################################################################


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_hilbert_curve_visits_every_cell_once_and_never_jumps(bits, device):
    axis = torch.arange(1 << bits, device=device)
    grid = torch.cartesian_prod(axis, axis, axis)
    index = hilbert_index(grid, bits)
    order = index.argsort()
    assert torch.equal(index[order], torch.arange(len(grid), device=device))
    assert bool((grid[order].diff(dim=0).abs().sum(dim=1) == 1).all())


def test_hilbert_order_of_filled_clouds_is_that_of_each(device):
    clouds = [rand(n, 3, seed=n, device=device) for n in (6, 9, 1)]
    pos = torch.stack([torch.cat([c, c[-1:].expand(9 - len(c), -1)]) for c in clouds])
    order = hilbert_order(pos, torch.tensor([6, 9, 1], device=device))
    for i, cloud in enumerate(clouds):
        assert torch.equal(order[i, : len(cloud)], hilbert_order(cloud[None])[0])
        assert torch.equal(order[i].sort().values, torch.arange(9, device=device))


def test_hilbert_order_does_not_depend_on_place_and_size(device):
    pos = rand(2, 20, 3, device=device)
    assert torch.equal(hilbert_order(pos), hilbert_order(8 * pos + 16))
    ones = torch.ones(1, 4, 3, device=device)
    assert hilbert_order(ones).tolist() == [[0, 1, 2, 3]]


# The selective scan ###############################################################################


def scan_loop(u, delta, a, b, c):
    h, out = torch.zeros_like(u[:, 0, :, None] * a), []
    for t in range(u.size(1)):
        step = delta[:, t, :, None]
        h = (step * a).exp() * h + step * u[:, t, :, None] * b[:, t, None]
        out.append((h * c[:, t, None]).sum(dim=-1))
    return torch.stack(out, dim=1)


def scan_inputs(length, device="cpu", size=3, channels=4, states=2):
    u, delta = rand(size, length, channels), rand(size, length, channels, seed=1).abs()
    a, b = -3 * rand(channels, states, seed=2).abs(), rand(size, length, states, seed=3)
    inputs = [u, delta, a, b, rand(size, length, states, seed=4)]
    return [x.to(device).requires_grad_() for x in inputs]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 15, 16, 33, 70])
def test_selective_scan_is_the_plain_loop(length, device):
    inputs = scan_inputs(length, device)
    ours, theirs = selective_scan.selective_scan(*inputs), scan_loop(*inputs)
    torch.testing.assert_close(ours, theirs)
    weight = rand(*ours.shape, seed=5, device=device)
    mine = torch.autograd.grad((ours * weight).sum(), inputs)
    expected = torch.autograd.grad((theirs * weight).sum(), inputs)
    for x, y in zip(mine, expected, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("sizes", [(9, 1), (1, 1), (2, 1), (4, 2), (12, 4), (16, 16)])
def test_selective_scan_of_blocks_and_chunks_is_that_of_the_whole(monkeypatch, device, sizes):
    inputs = scan_inputs(9, device, size=5)
    whole = scan_loop(*inputs)
    grads = torch.autograd.grad(whole.square().sum(), inputs)
    monkeypatch.setattr(selective_scan, "_sizes", lambda u, a: sizes)
    monkeypatch.setattr(selective_scan, "_KEPT", 2 * 9 * 8)
    blocks = selective_scan.selective_scan(*inputs)
    torch.testing.assert_close(blocks, whole)
    for x, y in zip(torch.autograd.grad(blocks.square().sum(), inputs), grads, strict=True):
        torch.testing.assert_close(x, y)


def test_selective_scan_gradcheck():
    inputs = scan_inputs(6, size=2, channels=2)
    assert torch.autograd.gradcheck(selective_scan.selective_scan, inputs)


def test_selective_scan_of_long_steps_is_finite():
    inputs = [x.detach().float() for x in scan_inputs(64)]
    inputs[1] = inputs[1] * 1e4
    assert bool(selective_scan.selective_scan(*inputs).isfinite().all())


def test_kernel_is_given_its_own_layout(monkeypatch):
    def kernel(u, delta, a, b, c):  # Channels before the sequence, as mamba_ssm has them.
        return scan_loop(u.mT, delta.mT, a, b.mT, c.mT).mT

    inputs = scan_inputs(7)
    expected = selective_scan.selective_scan(*inputs)
    monkeypatch.setattr(selective_scan, "selective_scan_fn", kernel)
    assert not selective_scan._has_kernel(inputs[0])  # Not on a CPU, nor in double precision.
    monkeypatch.setattr(selective_scan, "_has_kernel", lambda u: True)
    torch.testing.assert_close(selective_scan.selective_scan(*inputs), expected)


def test_mamba_is_causal(device):
    block, x = Mamba(8).to(device, torch.float64), rand(2, 12, 8, device=device)
    changed = x.clone()
    changed[:, 7:] += 1.0
    ours, theirs = block(x), block(changed)
    torch.testing.assert_close(ours[:, :7], theirs[:, :7])
    assert float((ours[:, 7:] - theirs[:, 7:]).detach().abs().amax(dim=2).min()) > 1e-4
    torch.testing.assert_close(block(x[:, :5]), ours[:, :5])


def test_mamba_steps_of_the_start():
    step = nn.functional.softplus(Mamba(64).dt_proj.bias.detach())
    assert 0.9e-3 < float(step.min()) < 2e-3
    assert 0.05 < float(step.max()) < 0.11
