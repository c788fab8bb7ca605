"""What every backbone promises, and what each is beside that."""

import copy
from functools import cache, partial
from itertools import pairwise

import pytest
import torch
from helpers import TinyNet, batch_of, toy_set
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MLP, BatchNorm, PointNetConv, global_max_pool

from torch_geometric_ddp import Distillation, distill, edges, evaluate
from torch_geometric_ddp.batching import Layout, from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.edges import edge_index, knn
from torch_geometric_ddp.evaluation import SMOKE
from torch_geometric_ddp.matching import SADM, DistributionMatching, GradientMatching
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.nn import (
    DGCNN,
    HookedBackbone,
    PointConv,
    PointMamba,
    PointNet,
    PointNet2,
    PointNet2MSG,
    PointNet2SSG,
    PointNetBN,
    PointTransformer,
    pointconv,
)
from torch_geometric_ddp.nn.levels import Level
from torch_geometric_ddp.parameterization import FullResolution


class ExampleNet(nn.Module):
    """A model as in PyG's introduction to point clouds, with BatchNorm and our edges."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = PointNetConv(MLP([3, 16, 16], norm=None), add_self_loops=False)
        self.norm = BatchNorm(16, allow_single_element=True)
        self.conv2 = PointNetConv(MLP([19, 24], norm=None), add_self_loops=False)
        self.classifier = nn.Linear(24, num_classes)

    def forward(self, pos, batch):
        layout = Layout.of(Data(pos=pos, batch=batch))
        edges = edge_index(knn(layout.dense(pos), 6, sizes=layout.sizes), layout)
        h = self.norm(self.conv1(None, pos, edges)).relu()
        h = self.conv2(h, pos, edges).relu()
        return self.classifier(global_max_pool(h, batch))


def example(num_classes):
    model = ExampleNet(num_classes)
    return HookedBackbone(model, "conv2", num_classes=num_classes, point_channels=24)


SmallMamba = partial(PointMamba, channels=32, depth=2)

CPU = torch.device("cpu")

# The network, the centres before the pool (None: all points), and rows per centre.
BACKBONES = {
    "PointNet": (PointNet, None, 1),
    "PointNetBN": (PointNetBN, None, 1),
    "PointNet2SSG": (PointNet2SSG, 128, 1),
    "PointNet2MSG": (PointNet2MSG, 64, 1),
    "DGCNN": (DGCNN, None, 1),
    "PointConv": (PointConv, 128, 1),
    "PointTransformer": (PointTransformer, 4, 1),
    "PointMamba": (SmallMamba, 64, 2),
    "HookedBackbone": (example, None, 1),
}


@cache
def built(name, device=CPU, dtype=torch.float64):
    """A frozen network of four classes whose BatchNorm is as after some training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = BACKBONES[name][0](4).to(device, dtype)
        for norm in net.modules():
            if isinstance(norm, _BatchNorm):
                nn.init.uniform_(norm.weight, -0.5, 1.5)
                nn.init.uniform_(norm.running_var, 0.05, 0.2)
    return net.eval().requires_grad_(False)


@pytest.fixture(params=BACKBONES)
def make(request):
    network, centers, rows = BACKBONES[request.param]
    make = partial(built, request.param)
    make.network = network
    make.rows = lambda num: rows * (num if centers is None else min(num, centers))
    return make


def clouds(*sizes, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    pos = [torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in sizes]
    pos = [p / p.norm(dim=1).amax() for p in pos]
    return [Data(pos=p.to(device, dtype)) for p in pos]


def batch(*sizes, **kwargs):
    return Batch.from_data_list(clouds(*sizes, **kwargs))


# Every backbone ###################################################################################


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ((32, 32), torch.float64),
        ((252, 252), torch.float32),
        ((1024,), torch.float32),
        ((40, 300, 7, 1), torch.float32),
    ],
    ids=str,
)
def test_shapes_and_types(make, sizes, dtype, device):
    net, data = make(device, dtype), batch(*sizes, dtype=dtype, device=device)
    with torch.no_grad():
        logits, features = net(data), net.point_features(data)
    assert logits.shape == (len(sizes), 4)
    assert features.shape == (sum(make.rows(n) for n in sizes), net.point_channels)
    assert logits.dtype == features.dtype == dtype
    assert bool(logits.isfinite().all())
    assert bool(features.isfinite().all())


@pytest.mark.parametrize("num", [9, 140])
def test_order_of_the_points_is_ignored(make, num, device):
    net, data = make(device), batch(num, num, device=device)
    pos = data.pos.view(2, num, 3)
    order = torch.randperm(num, generator=torch.Generator().manual_seed(0)).to(device)
    shuffled = batch_of(pos[:, order])
    with torch.no_grad():
        torch.testing.assert_close(net(shuffled), net(data), rtol=1e-9, atol=1e-9)
        ours, theirs = net.point_features(shuffled), net.point_features(data)
    # In one order or another, as the matching sorts them.
    ours, theirs = (f.unflatten(0, (2, -1)).sort(dim=1).values for f in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_clouds_of_a_batch_are_those_one_by_one(make, device):
    net, data = make(device), clouds(30, 140, 7, 30, 1, device=device)
    whole = Batch.from_data_list(data)
    with torch.no_grad():
        torch.testing.assert_close(net(whole), torch.cat([net(one) for one in map(single, data)]))
        features = torch.cat([net.point_features(one) for one in map(single, data)])
        torch.testing.assert_close(net.point_features(whole), features)


def single(data):
    return Batch.from_data_list([data])


def test_logits_are_those_of_the_global_feature(make, device):
    net = make(device)
    if not isinstance(net, HookedBackbone):
        data = batch(40, 9, device=device)
        torch.testing.assert_close(net.head(net.global_features(data)), net(data))


def test_clouds_of_one_size_do_not_see_each_other(make, device):
    net, data = make(device), clouds(20, 20, 20, device=device)
    changed = [data[0], Data(pos=3 * data[1].pos), data[2]]
    with torch.no_grad():
        before, after = net(Batch.from_data_list(data)), net(Batch.from_data_list(changed))
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    assert float((after[1] - before[1]).abs().max()) > 1e-3


def test_gradient_reaches_every_point(make, device):
    # Of the matched feature through frozen weights, as in distillation; where centres are fewer
    # than points, a few points may be the largest in no channel of no neighbourhood.
    net = make(device)
    for num, share in ((32, 1.0), (252, 1.0 if make.rows(252) == 252 else 0.95)):
        data = batch(num, num, device=device)
        data.pos.requires_grad_()
        net.point_features(data).square().sum().backward()
        assert float((data.pos.grad.abs().amax(dim=1) > 0).double().mean()) >= share


def test_gradients_are_repeated_by_several_threads(make, one_thread):
    # Threads that add to the same row as they come would round otherwise each time.
    torch.manual_seed(0)
    net = make.network(4)
    torch.set_num_threads(2)

    def gradients():
        torch.manual_seed(1)
        data = batch(*[64] * 4, dtype=torch.float32)
        data.pos.requires_grad_()
        net.zero_grad()
        net(data).square().sum().backward()
        return [data.pos.grad, *(p.grad for p in net.parameters())]

    first = gradients()
    for _ in range(5):
        assert all(map(torch.equal, gradients(), first))


def test_gradient_is_that_of_the_finite_difference(make):
    net, data = make(), batch(20, 20)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        move, weight = torch.randn_like(data.pos), torch.randn(2, 4, dtype=torch.float64)
    pos = data.pos.requires_grad_()
    (grad,) = torch.autograd.grad((net(data) * weight).sum(), pos)
    with torch.no_grad():
        values = [
            (net(Batch(pos=pos + step * move, batch=data.batch)) * weight).sum()
            for step in (1e-7, -1e-7)
        ]
    difference = (values[0] - values[1]) / 2e-7
    torch.testing.assert_close((grad * move).sum(), difference, rtol=1e-4, atol=1e-7)


def test_overfits_ten_clouds(make):
    data = Batch.from_data_list(list(toy_set(num_classes=2, per_class=5)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make.network(2)
        for module in net.modules():
            if isinstance(module, MLP):
                module.dropout = [0.0] * len(module.dropout)
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, fused=True)
        for _ in range(60):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(data), data.y)
            if float(loss.detach()) < 0.1:
                return
            loss.backward()
            optimizer.step()
    pytest.fail(f"the loss is still {float(loss.detach()):.3f}")


def test_trains_on_a_single_cloud(make):
    net = make.network(3)
    logits = net.train()(batch(12, dtype=torch.float32))
    logits.square().sum().backward()
    assert bool(logits.isfinite().all())


def test_distills_and_evaluates(make):
    data = toy_set(num_classes=2, per_class=4)
    synthetic = distill(
        data,
        method=ddp(num_anchors=2, num_morphs=1, batch_size=2),
        steps=2,
        network=make.network,
        progress=False,
    )
    assert synthetic.provenance["steps"] == 2
    assert all(bool(cloud.pos.isfinite().all()) for cloud in synthetic)
    result = evaluate(synthetic, data, make.network, SMOKE, seeds=1, progress=False)
    assert 0 <= result.mean <= 1


def test_norms_are_warmed_up(make):
    bank = PointCloudBank.from_dataset(toy_set(num_classes=2, per_class=4))
    clouds = FullResolution(bank.dense()[[0, 4]], num_classes=2)
    loop = Distillation(bank, clouds, SADM(), make.network, batch_size=2)
    net = loop.networks.fresh()
    seen, heads = [], []
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            assert not module.training
            (heads if name.startswith("head") else seen).append(int(module.num_batches_tracked))
    assert set(seen) <= {1}
    # Of what is behind the pool only what is compared, such as hidden layers of a head.
    assert set(heads) <= {int(len(net.cloud_layers(from_dense(bank.dense()[:2]))) > 1)}
    assert bool(seen) == (make.network is not PointNet)


def test_matches_distributions_and_refuses_gradients(make):
    bank = PointCloudBank.from_dataset(toy_set(num_classes=2, per_class=4))

    def loop(matching):
        clouds = FullResolution(bank.dense()[[0, 4]], num_classes=2)
        return Distillation(bank, clouds, matching, make.network, batch_size=2)

    for matching in (DistributionMatching(), SADM(top_weight=1.0)):
        one = loop(matching)
        before = one.parameterization.pos.detach().clone()
        one.run(1, progress=False)
        assert bool((one.parameterization.pos != before).any(dim=-1).any(dim=-1).all())
    if make.network is not PointNet:
        with pytest.raises(TypeError, match="'network' must be made of operations that"):
            loop(GradientMatching()).step()


# Each of them #####################################################################################


def layers(*widths, norm=False, bias=True):
    return sum(a * b + b * bias + 2 * b * norm for a, b in pairwise(widths))


def num_parameters(net):
    return sum(p.numel() for p in net.parameters())


def published_point_net(net, pos, training):
    """The logits and the matched feature of clouds `pos [B, N, 3]`, in torch's plain operations."""

    def norm(x, module):
        channels = (0, *range(2, x.dim()))
        if not training:
            mean, var = module.running_mean, module.running_var
        else:
            mean, var = x.mean(channels), x.var(channels, unbiased=False)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        scaled = (x - mean.view(shape)) / (var.view(shape) + module.eps).sqrt()
        return scaled * module.weight.view(shape) + module.bias.view(shape)

    def conv(x, linear):
        return nn.functional.conv1d(x, linear.weight[..., None], linear.bias)

    def shared(x, mlp):
        for linear, one in zip(mlp.lins, mlp.norms, strict=True):
            x = norm(conv(x, linear), one.module).relu()
        return x

    x, head = pos.transpose(1, 2), net.transform_head
    moved = shared(x, net.transform_mlp).amax(dim=2)
    for linear, one in zip(head.lins[:2], head.norms, strict=True):
        moved = norm(linear(moved), one.module).relu()
    turn = head.lins[2](moved).view(-1, 3, 3) + torch.eye(3, dtype=pos.dtype)
    x = torch.bmm(pos, turn).transpose(1, 2)
    features = norm(conv(shared(x, net.mlp), net.lift), net.lift_norm.module)
    first, second, _, second_norm, _, last = net.head
    x = norm(first.lins[0](features.amax(dim=2)), first.norms[0].module).relu()
    return last(norm(second(x), second_norm.module).relu()), features.transpose(1, 2)


@pytest.mark.parametrize("training", [False, True])
def test_point_net_with_batch_norm_is_that_of_the_published_code(training):
    net = copy.deepcopy(built("PointNetBN")).train(training)
    net.head[2].p = 0.0
    pos = batch(20, 20, 20).pos.view(3, 20, 3)
    logits, features = published_point_net(net, pos, training)
    ours = net(batch_of(pos))
    torch.testing.assert_close(ours, logits)
    torch.testing.assert_close(net.cloud_features(batch_of(pos)), features)


def test_number_of_parameters_of_point_net_with_batch_norm():
    norm = layers(3, 64, 128, 1024, norm=True) + layers(1024, 512, 256, norm=True)
    assert num_parameters(PointNetBN(40)) == 2 * norm + layers(256, 9) + layers(256, 40)


def test_number_of_parameters_of_point_net2():
    expected = layers(3, 64, 64, 128, norm=True) + layers(131, 128, 128, 256, norm=True)
    expected += layers(259, 256, 512, 1024, norm=True)
    expected += layers(1024, 512, 256, norm=True) + layers(256, 40)
    assert num_parameters(PointNet2SSG(40)) == expected == 1_475_688

    def scales(inside, *widths):
        return sum(layers(inside + 3, *width, norm=True) for width in widths)

    expected = scales(0, [16, 16, 32], [32, 32, 64], [32, 48, 64])
    expected += scales(160, [32, 32, 64], [64, 64, 128], [64, 64, 128])
    expected += layers(323, 128, 256, 512, 256, 128, norm=True) + layers(128, 40)
    assert num_parameters(PointNet2MSG(40)) == expected == 443_368


def test_point_net2_of_other_widths():
    # The multi-scale network of the original paper.
    first = [(0.1, 16, [32, 32, 64]), (0.2, 32, [64, 64, 128]), (0.4, 128, [64, 96, 128])]
    second = [(0.2, 32, [64, 64, 128]), (0.4, 64, [128, 128, 256]), (0.8, 128, [128, 128, 256])]
    net = PointNet2(40, [(512, first), (128, second)], [256, 512, 1024], [512, 256], [0.4, 0.4])
    expected = 0
    for inside, scales in ((0, first), (64 + 128 + 128, second)):
        expected += sum(layers(inside + 3, *widths, norm=True) for *_, widths in scales)
    expected += layers(128 + 256 + 256 + 3, 256, 512, 1024, 512, 256, norm=True) + layers(256, 40)
    assert num_parameters(net) == expected == 1_747_368
    assert net(batch(30, 30, dtype=torch.float32)).shape == (2, 40)


def test_number_of_parameters_of_dgcnn():
    expected = sum(layers(2 * a, b, norm=True, bias=False) for a, b in pairwise([3, 64, 64, 128]))
    expected += layers(256, 256, norm=True, bias=False) + layers(512, 1024, norm=True, bias=False)
    expected += layers(2048, 512, norm=True, bias=False) + layers(512, 256, norm=True)
    assert num_parameters(DGCNN(40)) == expected + layers(256, 40) == 1_809_576


def test_number_of_parameters_of_point_conv():
    def conv(inside, *widths):
        weights = layers(3, 8, 8, 16, norm=True) + layers(1, 16, 8, 1, norm=True)
        wide = layers(16 * widths[-1], widths[-1], norm=True)
        return layers(inside + 3, *widths, norm=True) + weights + wide

    expected = conv(0, 64, 64, 128) + conv(128, 128, 128, 256) + conv(256, 256, 512, 1024)
    expected += layers(1024, 512, 256, norm=True) + layers(256, 40)
    assert num_parameters(PointConv(40)) == expected == 19_569_465


@pytest.mark.parametrize(("width", "total"), [(None, 3_484_840), (512, 9_584_040)])
def test_number_of_parameters_of_point_transformer(width, total):
    expected = layers(3, 32, 32) + layers(512, 256, 64, 40)
    for i in range(5):
        channels = 32 * 2**i
        inner = width or channels
        expected += layers(channels, inner) + layers(inner, channels)
        expected += 3 * inner**2 + layers(3, inner, inner) + layers(inner, inner, inner)
        if i:
            expected += layers(channels // 2 + 3, channels, channels, norm=True)
    net = PointTransformer(40, attention_channels=width)
    assert num_parameters(net) == expected == total


def test_number_of_parameters_of_point_mamba():
    mamba = layers(384, 1536, bias=False) + 5 * 768 + layers(768, 24 + 32, bias=False)
    mamba += layers(24, 768) + 17 * 768 + layers(768, 384, bias=False) + 2 * 384
    expected = layers(3, 128, norm=True) + layers(128, 256)
    expected += layers(512, 512, norm=True) + layers(512, 384)
    expected += layers(3, 128, 384) + 12 * mamba + 6 * 384
    expected += layers(384, 256, 256, norm=True) + layers(256, 40)
    net = PointMamba(40)
    assert num_parameters(net) == expected
    assert round(expected / 1e6, 1) == 12.3  # As published.
    features = net.point_features(batch(70, dtype=torch.float32))
    assert features.shape == (128, 384)


def test_dgcnn_searches_neighbours_among_the_features_of_the_layer_before(monkeypatch):
    channels, knn = [], edges.knn

    def looked_at(pos, *args, **kwargs):
        channels.append(pos.size(-1))
        return knn(pos, *args, **kwargs)

    monkeypatch.setattr(edges, "knn", looked_at)
    DGCNN(3, k=4)(from_dense(torch.rand(2, 16, 3)))
    assert channels == [3, 64, 64, 128]


def test_dgcnn_mean_and_maximum_leave_out_what_fills_up():
    net = DGCNN(3).eval().double()
    data = batch(5, 40)
    features = net.point_features(data)
    pooled = [torch.cat([f.amax(dim=0), f.mean(dim=0)]) for f in features.split([5, 40])]
    torch.testing.assert_close(net(data), net.head(torch.stack(pooled)))


def test_few_neighbors():
    assert DGCNN(3, k=1)(batch(9, 9, dtype=torch.float32)).shape == (2, 3)
    assert PointTransformer(3, k=1)(batch(9, 9, dtype=torch.float32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda value: DGCNN(3, k=value), "k"),
        (lambda value: PointTransformer(3, k=value), "k"),
        (lambda value: PointTransformer(3, attention_channels=value), "attention_channels"),
        (lambda value: PointMamba(3, depth=value), "depth"),
        (lambda value: PointMamba(3, channels=value), "channels"),
        (lambda value: PointMamba(3, num_centers=value), "num_centers"),
        (lambda value: PointMamba(3, group_size=value), "group_size"),
        (PointNet2SSG, "num_classes"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=f"'{name}' must be at least 1, got 0"):
        make(0)
    with pytest.raises(TypeError, match=f"'{name}' must be an integer"):
        make(2.5)


# Models of one's own ##############################################################################


def test_feature_is_the_output_of_the_named_layer():
    net, data = example(3).eval(), batch(12, 12, dtype=torch.float32)
    pooled = global_max_pool(net.point_features(data).relu(), data.batch)
    torch.testing.assert_close(net(data), net.model.classifier(pooled))
    assert not net.model.conv2._forward_hooks
    features = net.point_features(data).unflatten(0, (2, 12))
    torch.testing.assert_close(net.global_features(data), features.amax(dim=1))
    data = batch(12, 7, dtype=torch.float32)
    features = global_max_pool(net.point_features(data), data.batch)
    torch.testing.assert_close(net.global_features(data), features)


class Taking(nn.Module):
    """A model that takes the batch, or its attributes, in one way or another."""

    def __init__(self, way):
        super().__init__()
        self.lin, self.unused = nn.Linear(3, 4), nn.Linear(3, 4)
        self.tuple = nn.Identity()
        forwards = {
            "data": lambda data: self.run(data.pos, data.batch),
            "data and more": lambda data, verbose=False: self.run(data.pos, data.batch),
            "x pos batch": lambda x, pos, batch: self.run(pos, batch),
            "x pos batch=None": lambda x, pos, batch=None: self.run(pos, batch),
            "pos and more": lambda pos, batch, verbose=False: self.run(pos, batch),
            "pos and any": lambda pos, batch, *args, **kwargs: self.run(pos, batch),
            "batch": lambda batch: self.run(batch.pos, batch.batch),
            "x": lambda x: self.run(x.pos, x.batch),
        }
        self.forward = forwards[way]

    def run(self, pos, batch):
        return global_max_pool(self.tuple((self.lin(pos), pos))[0], batch)


@pytest.mark.parametrize(
    "way",
    [
        "data",
        "data and more",
        "x pos batch",
        "x pos batch=None",
        "pos and more",
        "pos and any",
        "batch",
        "x",
    ],
)
@pytest.mark.parametrize("layer", ["lin", "tuple"])
def test_model_may_take_the_batch_or_its_attributes(way, layer):
    model, data = Taking(way), batch(5, 7, dtype=torch.float32)
    net = HookedBackbone(model, layer, num_classes=4, point_channels=4)
    torch.testing.assert_close(net.point_features(data), model.lin(data.pos))
    expected = global_max_pool(model.lin(data.pos), data.batch)
    torch.testing.assert_close(net(data), expected)
    one = Data(pos=data.pos[:5])
    torch.testing.assert_close(net(one), expected[:1])


@pytest.mark.parametrize("way", ["data", "pos and more"])
@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda model: torch.compile(model, backend="eager"), "_orig_mod.lin"),
        (nn.DataParallel, "module.lin"),
        (lambda model: nn.DataParallel(nn.DataParallel(model)), "module.module.lin"),
    ],
)
def test_a_model_may_be_compiled_or_spread(wrap, name, way):
    model, data = Taking(way), batch(5, 7, dtype=torch.float32)
    net = HookedBackbone(wrap(model), name, num_classes=4, point_channels=4)
    with torch.no_grad():
        torch.testing.assert_close(net(data), global_max_pool(model.lin(data.pos), data.batch))


def test_a_model_that_names_nothing_takes_the_batch():
    model, data = Taking("data"), batch(5, 7, dtype=torch.float32)
    model.forward = lambda *args: model.run(args[0].pos, args[0].batch)
    net = HookedBackbone(model, "lin", num_classes=4, point_channels=4)
    torch.testing.assert_close(net(data), global_max_pool(model.lin(data.pos), data.batch))


def test_feature_is_not_what_the_next_layer_makes_of_it_in_place():
    torch.manual_seed(0)
    data = batch(5, 7, dtype=torch.float32)
    model = Taking("data")
    model.tuple = nn.Sequential(nn.ReLU(inplace=True))
    model.run = lambda pos, batch: global_max_pool(model.tuple(model.lin(pos)), batch)
    net = HookedBackbone(model, "lin", num_classes=4, point_channels=4)
    features = net.point_features(data)
    assert bool((features < 0).any())
    torch.testing.assert_close(features, model.lin(data.pos))
    data.pos.requires_grad_()
    (ours,) = torch.autograd.grad(net.point_features(data).sum(), data.pos)
    torch.testing.assert_close(ours, model.lin.weight.sum(dim=0).expand_as(ours))


def test_rows_of_centres_are_refused_where_clouds_differ_in_size():
    """Which row is of which cloud nobody knows then."""

    class Halved(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(3, 4)

        def forward(self, pos, batch):
            return global_max_pool(self.lin(pos[::2]), batch[::2])

    net = HookedBackbone(Halved(), "lin", num_classes=4, point_channels=4)
    assert net.global_features(batch(6, 6, dtype=torch.float32)).shape == (2, 4)
    with pytest.raises(ValueError, match=r"a feature for each of 10 points .* sizes, got 5"):
        net.global_features(batch(6, 4, dtype=torch.float32))


@pytest.mark.parametrize("model", [None, nn.Linear, lambda data: data])
def test_what_is_no_module_is_refused(model):
    with pytest.raises(TypeError, match=r"'model' must be a torch\.nn\.Module, got "):
        HookedBackbone(model, "lin", num_classes=4, point_channels=4)


def test_bad_layers():
    model, data = Taking("data"), batch(5, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"'layer' must be one of .* lin, unused, .* got 'conv'"):
        HookedBackbone(model, "conv", num_classes=4, point_channels=4)
    with pytest.raises(ValueError, match="the layer 'unused' is not called by the model"):
        HookedBackbone(model, "unused", num_classes=4, point_channels=4).point_features(data)
    with pytest.raises(ValueError, match=r"the layer 'lin' must give \[rows, 7\], got \[5, 4\]"):
        HookedBackbone(model, "lin", num_classes=4, point_channels=7).point_features(data)


# Autocast #########################################################################################


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", BACKBONES)
def test_autocast(name, train, device):
    net = copy.deepcopy(built(name, device, torch.float32)).train(train).requires_grad_()
    data = batch(40, 40, 40, 30, dtype=torch.float32, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        logits = net(data)
        (100 * logits.float()).square().mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
    assert any(bool(p.grad.any()) for p in net.parameters() if p.grad is not None)
    if not train:
        expected, found = net(data).detach(), logits.detach().float()
        # The neighbours of DGCNN are those among rounded features.
        assert float((found - expected).norm() / expected.norm()) < 0.1


def test_densities_hold_a_part_of_all_pairs(monkeypatch):
    net = built("PointConv", CPU, torch.float32)
    for sizes in ((40, 40), (40, 30)):
        level = Level.of(batch(*sizes, dtype=torch.float32), 40)
        whole = net.conv1.sparsity(level)
        held, distances = [], torch.cdist

        def watched(x, y, held=held, distances=distances, **kwargs):
            held.append(x.size(0) * x.size(1) * y.size(1))
            return distances(x, y, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(pointconv, "_PAIRS", 400)
            patch.setattr(torch, "cdist", watched)
            assert torch.equal(net.conv1.sparsity(level), whole)
            assert max(held) <= 400
            held.clear()
            level.dense.requires_grad_()
            net.conv1.sparsity(level).sum().backward()
            assert held == [2 * 40 * 40]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_densities_of_half_precision(dtype, device):
    net = copy.deepcopy(built("PointConv", device, torch.float32)).to(dtype)
    logits = net(batch(40, 30, dtype=dtype, device=device))
    assert logits.dtype == dtype
    assert bool(logits.isfinite().all())


# Rows that are not points #########################################################################


class Uneven(TinyNet):
    def point_features(self, data):
        return super().point_features(data)[1:]


def test_matching_compares_centers():
    class Halved(TinyNet):
        def point_features(self, data):
            return super().point_features(data)[::2]

    net, real = Halved(2), torch.randn(2, 3, 8, 3, generator=torch.Generator().manual_seed(0))
    x, y = SADM().rows(net, real, from_dense(real.flatten(0, 1)))
    assert x.shape == y.shape == (2, 3, 4 * 16)
    torch.testing.assert_close(x, y)


@pytest.mark.parametrize(
    ("give", "got"),
    [
        (lambda x: x[:, :3], r"\[16, 3\]"),
        (lambda x: (x, x), "tuple"),
        (lambda x: x.numpy(), "ndarray"),
    ],
)
def test_features_that_are_not_as_many_as_a_network_says_are_refused(give, got):
    class Careless(TinyNet):
        def point_features(self, data):
            return give(super().point_features(data).detach())

    net = Careless(2)
    message = rf"'point_features' of Careless must give \[rows, {net.point_channels}\], got {got}"
    for sizes in ([8, 8], [7, 9]):
        clouds = [Data(pos=torch.zeros(size, 3)) for size in sizes]
        with pytest.raises(ValueError, match=message):
            net.global_features(Batch.from_data_list(clouds))


def test_matching_refuses_uneven_rows():
    real = torch.zeros(2, 3, 8, 3)
    message = "Uneven must give as many features for each of 6 clouds of one size, got 47"
    with pytest.raises(ValueError, match=message):
        SADM().rows(Uneven(2), real, from_dense(real.flatten(0, 1)))
