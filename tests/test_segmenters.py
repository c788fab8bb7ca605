"""What every part segmentation network promises, and what each is beside that."""

from functools import cache, partial
from itertools import pairwise

import pytest
import torch
from helpers import batch_of
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MLP

from torch_geometric_ddp.batching import Layout, from_dense
from torch_geometric_ddp.nn import (
    SEGMENTERS,
    PointNet2Segmentation,
    PointNetSegmentation,
    Segmenter,
)
from torch_geometric_ddp.nn.levels import Level
from torch_geometric_ddp.nn.pointnet2_segmentation import FeaturePropagation, Interpolation

CPU = torch.device("cpu")
PARTS, CATEGORIES = 7, 3

# The network, and the rows of its point features for a cloud of so many points.
NETWORKS = {
    "PointNetSegmentation": (partial(PointNetSegmentation, width=0.2), lambda num: num),
    "without BatchNorm": (partial(PointNetSegmentation, width=0.2, norm=None), lambda num: num),
    "PointNet2Segmentation": (PointNet2Segmentation, lambda num: min(num, 128)),
}


@cache
def built(name, device=CPU, dtype=torch.float64):
    """A frozen network whose BatchNorm and transforms are as after some training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = NETWORKS[name][0](PARTS, CATEGORIES)
        for module in net.modules():
            if isinstance(module, _BatchNorm):
                nn.init.uniform_(module.weight, -0.5, 1.5)
                nn.init.uniform_(module.running_var, 0.05, 0.2)
        for parameter in net.parameters():
            if not bool(parameter.any()):
                nn.init.normal_(parameter, std=0.1)
    return net.to(device, dtype).eval().requires_grad_(False)


@pytest.fixture(params=NETWORKS)
def make(request):
    make = partial(built, request.param)
    make.network, make.rows = NETWORKS[request.param]
    return make


def clouds(*sizes, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    pos = [torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in sizes]
    made = [Data(pos=p / p.norm(dim=1).amax()) for p in pos]
    for i, data in enumerate(made):
        data.pos = data.pos.to(dtype)
        data.category = torch.tensor([i % CATEGORIES])
    return [data.to(device) for data in made]


def batch(*sizes, **kwargs):
    return Batch.from_data_list(clouds(*sizes, **kwargs))


# Every network ####################################################################################


def test_names():
    assert list(SEGMENTERS) == ["PointNetSegmentation", "PointNet2Segmentation"]
    assert list(SEGMENTERS.values()) == [PointNetSegmentation, PointNet2Segmentation]


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ((8, 8), torch.float64),
        ((252, 252), torch.float32),
        ((700,), torch.float32),
        ((40, 300, 7, 1), torch.float32),
    ],
    ids=str,
)
def test_shapes_and_types(make, sizes, dtype, device):
    net, data = make(device, dtype), batch(*sizes, dtype=dtype, device=device)
    assert isinstance(net, Segmenter)
    assert (net.num_parts, net.num_classes, net.num_categories) == (PARTS, PARTS, CATEGORIES)
    logits, features, pooled = net(data), net.point_features(data), net.global_features(data)
    assert logits.shape == (sum(sizes), PARTS)
    assert features.shape == (sum(map(make.rows, sizes)), net.point_channels)
    assert logits.dtype == features.dtype == pooled.dtype == dtype
    rows = features.split([make.rows(num) for num in sizes])
    torch.testing.assert_close(pooled, torch.stack([row.amax(dim=0) for row in rows]))
    assert all(bool(x.isfinite().all()) for x in (logits, features))


@pytest.mark.parametrize("num", [8, 140, 600])
def test_logits_move_with_the_points(make, num, device):
    net, data = make(device), batch(num, num, device=device)
    order = torch.randperm(num, generator=torch.Generator().manual_seed(0)).to(device)
    shuffled = batch_of(data.pos.view(2, num, 3)[:, order], category=data.category)
    ours, theirs = (net(which).view(2, num, PARTS) for which in (shuffled, data))
    torch.testing.assert_close(ours, theirs[:, order], rtol=1e-9, atol=1e-9)
    assert float((theirs[:, order] - theirs).abs().amax()) > 1e-3


@pytest.mark.parametrize("sizes", [(30, 140, 7, 30, 1, 2), (20, 20, 20)])
def test_clouds_of_a_batch_are_those_one_by_one(make, sizes, device):
    net, data = make(device), clouds(*sizes, device=device)
    whole = Batch.from_data_list(data)
    torch.testing.assert_close(net(whole), torch.cat([net(one) for one in data]))
    features = torch.cat([net.point_features(one) for one in data])
    torch.testing.assert_close(net.point_features(whole), features)


def test_dense_batch_is_the_batch_of_pyg(make, device):
    net, data = make(device), batch(20, 20, device=device)
    dense = from_dense(data.pos.view(2, 20, 3), category=data.category)
    torch.testing.assert_close(net(dense), net(data))
    torch.testing.assert_close(net.cloud_features(dense).flatten(0, 1), net.point_features(data))


def test_category_matters_for_its_cloud_alone(make, device):
    net, data = make(device), batch(20, 12, device=device)
    before, features = net(data), net.point_features(data)
    data.category = torch.tensor([0, 2], device=device)
    after = net(data)
    torch.testing.assert_close(after[:20], before[:20])
    assert float((after[20:] - before[20:]).abs().amax(dim=1).amin()) > 1e-3
    assert torch.equal(net.point_features(data), features)


def test_features_need_no_category(make):
    net, data = make(), batch(9, 9)
    del data.category
    assert net.point_features(data).size(0) == 18
    assert net.global_features(data).size(0) == 2
    with pytest.raises(ValueError, match=r"'data\.category' must hold 2 categories, got None"):
        net(data)


@pytest.mark.parametrize(
    ("category", "error", "message"),
    [
        (torch.tensor([0]), ValueError, r"must hold 2 categories, got \[1\]"),
        (torch.tensor([0, 3]), ValueError, r"must lie in 0\.\.2, got 0\.\.3"),
        (torch.tensor([0, -1]), ValueError, r"must lie in 0\.\.2, got -1\.\.0"),
        (torch.zeros(2), TypeError, r"must be a tensor of integers, got torch\.float32"),
        (["a", "b"], TypeError, "must be a tensor of integers, got list"),
    ],
    ids=str,
)
def test_bad_categories(make, category, error, message):
    data = batch(9, 9)
    data.category = category
    with pytest.raises(error, match=f"'data.category' {message}"):
        make()(data)


@pytest.mark.parametrize("network", SEGMENTERS.values())
def test_bad_arguments(network):
    with pytest.raises(ValueError, match="'num_parts' must be at least 1, got 0"):
        network(0, 3)
    with pytest.raises(TypeError, match="'num_categories' must be an integer, got float"):
        network(3, 2.5)


def test_gradient_reaches_every_point(make, device):
    net = make(device)
    for what in (net.point_features, net):
        data = batch(32, 32, device=device)
        data.pos.requires_grad_()
        what(data).square().sum().backward()
        assert bool((data.pos.grad.abs().amax(dim=1) > 0).all())


def test_gradient_reaches_every_parameter(make):
    net = make.network(PARTS, CATEGORIES).train()
    data = batch(40, 30, 20, 40, dtype=torch.float32)
    labels = torch.arange(len(data.pos)) % PARTS
    for _ in range(2):  # The transforms begin as zeros, whose inputs have no gradient.
        net.zero_grad()
        F.cross_entropy(net(data), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.1 * parameter.grad
    for name, parameter in net.named_parameters():
        assert bool(parameter.grad.isfinite().all()), name
        # In front of BatchNorm a bias has none but rounding.
        if not name.endswith("bias"):
            assert float(parameter.grad.abs().amax()) > 0, name


def test_trains_on_a_single_cloud(make):
    net = make.network(PARTS, CATEGORIES).train()
    logits = net(batch(8, dtype=torch.float32))
    logits.square().sum().backward()
    assert bool(logits.isfinite().all())


def test_overfits_a_handful_of_clouds(make):
    # What part a point is of depends on where it lies, and on the category.
    data = batch(48, 48, 48, 30, dtype=torch.float32)
    y = (data.pos[:, 0] > 0).long() + 2 * data.category[data.batch]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make.network(PARTS, CATEGORIES).train()
        for module in net.modules():
            if isinstance(module, MLP):
                module.dropout = [0.0] * len(module.dropout)
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, fused=True)
        for _ in range(100):
            optimizer.zero_grad()
            logits = net(data)
            loss = F.cross_entropy(logits, y)
            if float(loss.detach()) < 0.1:
                return
            loss.backward()
            optimizer.step()
    pytest.fail(f"the loss is still {float(loss.detach()):.3f}")


# PointNet #########################################################################################


def layers(*widths, norm=True):
    return sum(a * b + b + 2 * b * norm for a, b in pairwise(widths))


def num_parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("norm", [True, False])
def test_number_of_parameters_of_pointnet(norm):
    count, plain = partial(layers, norm=norm), partial(layers, norm=False)
    expected = count(3, 64, 128) + plain(128, 1024) + count(1024, 128, 128) + plain(128, 9)
    expected += count(3, 64, 128, 128)
    expected += count(128, 256) + plain(256, 1024) + count(1024, 512, 256) + plain(256, 128**2)
    expected += count(128, 512) + plain(512, 2048)
    expected += count(64 + 128 + 128 + 512 + 2048 + 2048 + 16, 256, 256, 128) + plain(128, 50)
    net = PointNetSegmentation(50, 16, norm="batch_norm" if norm else None)
    assert num_parameters(net) == expected == (7_971_259 if norm else 7_965_371)
    assert any(isinstance(module, _BatchNorm) for module in net.modules()) == norm


def concatenation(net, data, relu=False):
    """The logits of PointNet with every feature of a point in one row, as published."""

    def transformed(transform, x, batch):
        rows = transform.lift(transform.mlp(x))
        pooled = torch.stack([rows[batch == i].amax(dim=0) for i in range(data.num_graphs)])
        matrix = transform.head(pooled.relu()).view(-1, x.size(1), x.size(1))
        matrix = matrix + torch.eye(x.size(1)).to(x)
        return torch.stack([row @ matrix[b] for row, b in zip(x, batch, strict=True)])

    outs = [transformed(net.transform, data.pos, data.batch)]
    for mlp in net.mlps:
        outs.append(mlp(outs[-1]))
    outs.append(net.mlp(transformed(net.feature_transform, outs[-1], data.batch)))
    outs.append(net.lift(outs[-1]))
    pooled = [outs[-1][data.batch == i].amax(dim=0) for i in range(data.num_graphs)]
    one_hot = F.one_hot(data.category, net.num_categories).to(data.pos.dtype)
    cloud = torch.cat([torch.stack(pooled), one_hot], dim=1)[data.batch]
    return net.head(torch.cat([*outs[1:], cloud], dim=1)), outs[-1]


@pytest.mark.parametrize("name", ["PointNetSegmentation", "without BatchNorm"])
@pytest.mark.parametrize("sizes", [(12, 12, 12), (12, 5, 1)])
def test_split_of_the_head_is_the_concatenation(name, sizes, device):
    net, data = built(name, device), batch(*sizes, device=device)
    logits, features = concatenation(net, data)
    torch.testing.assert_close(net(data), logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net.point_features(data), features, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["batch_norm", None])
def test_training_is_that_of_the_concatenation(norm):
    # Statistics of BatchNorm, dropout and gradients.
    data = batch(12, 9, 15)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = PointNetSegmentation(PARTS, CATEGORIES, width=0.1, norm=norm).double().train()
        weight, results = torch.randn(36, PARTS, dtype=torch.float64), []
        for forward in (net, lambda data: concatenation(net, data)[0]):
            torch.manual_seed(1)
            logits = forward(data)
            net.zero_grad()
            (logits * weight).sum().backward()
            results.append([logits.detach(), *(p.grad.clone() for p in net.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_dropout_is_that_of_the_head():
    net = PointNetSegmentation(4, 2, width=0.05, dropout=0.4, norm=None)
    assert net.head.dropout == [0.4, 0.4, 0.0, 0.0]
    data = batch(30, dtype=torch.float32)
    assert not torch.equal(net(data), net(data))
    assert torch.equal(net.eval()(data), net(data))


@pytest.mark.parametrize("norm", ["batch_norm", None])
def test_transforms_begin_as_the_identity(norm):
    net = PointNetSegmentation(4, 2, width=0.05, norm=norm)
    data = batch(9, 9, dtype=torch.float32)
    x = data.pos @ torch.ones(3, net.channels[2])
    torch.testing.assert_close(net.transform(data.pos, Layout.of(data)), data.pos)
    torch.testing.assert_close(net.feature_transform(x, Layout.of(data)), x)


@pytest.mark.parametrize("norm", ["batch_norm", None])
def test_points_are_told_apart_before_any_training(norm):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = PointNetSegmentation(4, 2, norm=norm)
    with torch.no_grad():
        logits = net(batch(40, 40, dtype=torch.float32))
    assert 0.05 < float(logits.std(dim=0).mean()) < 5


def test_widths():
    assert PointNetSegmentation(4, 2).channels == [64, 128, 128, 512, 2048, 2048, 2]
    assert PointNetSegmentation(4, 2, width=0.25).channels == [16, 32, 32, 128, 512, 512, 2]
    small = PointNetSegmentation(4, 2, width=0.01)
    assert small.channels == [8, 8, 8, 8, 20, 20, 2]
    assert small.point_channels == 20
    with pytest.raises(ValueError, match="'width' must be finite and above 0, got 0"):
        PointNetSegmentation(4, 2, width=0)
    with pytest.raises(ValueError, match="'norm' must be 'batch_norm' or None, got 'layer_norm'"):
        PointNetSegmentation(4, 2, norm="layer_norm")


# PointNet++ #######################################################################################


def test_number_of_parameters_of_pointnet2():
    expected = layers(3, 64, 64, 128) + layers(128 + 3, 128, 128, 256)
    expected += layers(256 + 3, 256, 512, 1024)
    expected += layers(1024 + 256, 256, 256) + layers(256 + 128, 256, 128)
    expected += layers(128 + 16 + 3, 128, 128, 128, 128) + layers(128, 50, norm=False)
    assert num_parameters(PointNet2Segmentation(50, 16)) == expected == 1_410_674


def interpolate_loop(x, centers, points):
    """By inverse squared distances among the three nearest centres of one cloud."""
    rows = []
    for point in points:
        square = (centers - point).square().sum(dim=1)
        near = square.argsort(stable=True)[:3]
        weight = 1 / square[near].clamp_min(1e-16)
        rows.append(weight @ x[near] / weight.sum())
    return torch.stack(rows)


def level_of(pos):
    data = Batch.from_data_list([Data(pos=p) for p in pos])
    layout = Layout.of(data)
    return Level(layout.dense(data.pos), layout)


@pytest.mark.parametrize("sizes", [(9, 9), (9, 2, 1, 30)])
def test_interpolation_is_the_plain_loop(sizes, device, dtype):
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    centers = [data.pos for data in clouds(*sizes, dtype=dtype, device=device)]
    points = [data.pos for data in clouds(*reversed(sizes), seed=1, dtype=dtype, device=device)]
    points = [torch.cat([p, c[:1]]) for p, c in zip(points, centers, strict=True)]
    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(num, 5, generator=generator).to(device, dtype) for num in sizes]
    interpolation = Interpolation.between(level_of(centers), level_of(points))
    expected = map(interpolate_loop, x, centers, points)
    ours = interpolation(torch.cat(x))
    torch.testing.assert_close(ours, torch.cat([*expected]), rtol=tolerance, atol=tolerance)
    ends = torch.tensor([len(p) for p in points]).cumsum(0) - 1
    torch.testing.assert_close(ours[ends], torch.stack([row[0] for row in x]))


def test_interpolation_among_centers_that_coincide(device, dtype):
    centers = level_of([torch.zeros(4, 3, device=device, dtype=dtype)])
    x = torch.arange(4, device=device, dtype=dtype)[:, None]
    interpolation = Interpolation.between(centers, centers)
    expected = x[interpolation.index].mean(dim=1)
    torch.testing.assert_close(interpolation(x), expected)


@pytest.mark.parametrize("sizes", [(5, 5), (2, 7)])
def test_every_point_gets_what_its_cloud_has(sizes, device):
    level = level_of([data.pos for data in clouds(*sizes, device=device)])
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=device, dtype=torch.float64)
    expected = x.repeat_interleave(torch.tensor(sizes, device=device), dim=0)
    assert torch.equal(Interpolation.of_clouds(level)(x), expected)


def test_propagation_is_the_layer_on_interpolated_features(device):
    centers, points = (
        level_of([data.pos for data in clouds(*sizes, seed=i, device=device)])
        for i, sizes in enumerate([(6, 9), (20, 4)])
    )
    interpolation = Interpolation.between(centers, points)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = FeaturePropagation(5, 3, 8, 4).to(device, torch.float64)
        x, beside = torch.randn(15, 5).to(device).double(), torch.randn(24, 3).to(device).double()
    expected = layer.mlp(torch.cat([interpolation(x), beside], dim=1))
    torch.testing.assert_close(layer(x, beside, interpolation), expected)


def test_interpolation_gradcheck():
    centers = level_of([data.pos for data in clouds(4, 2)])
    interpolation = Interpolation.between(centers, level_of([d.pos for d in clouds(3, 5, seed=1)]))
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(interpolation, x.requires_grad_())


def test_logits_of_pointnet2_are_those_of_the_published_steps():
    # The loops of one cloud, whose levels interpolate the category with the features.
    net, (data,) = built("PointNet2Segmentation"), clouds(150)
    data.category = torch.tensor([1])
    ((many, x_many), (few, x_few)), x = net._levels(data)
    pooled = x.amax(dim=0).expand(len(few.pos), -1)
    x = net.to_few.mlp(torch.cat([pooled, x_few], dim=1))
    x = interpolate_loop(x, few.pos, many.pos)
    x = net.to_many.mlp(torch.cat([x, x_many], dim=1))
    x = interpolate_loop(x, many.pos, data.pos)
    one_hot = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(150, -1)
    x = net.to_points.mlp(torch.cat([x, one_hot, data.pos], dim=1))
    torch.testing.assert_close(net(data), net.head(x), rtol=1e-8, atol=1e-8)
