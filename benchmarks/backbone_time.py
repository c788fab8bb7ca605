"""Seconds of every backbone, and of the same network by PyG's layers or written densely.

    python benchmarks/backbone_time.py --clouds 32 --points 1024

Both networks have the same weights, centres and neighbours. Where PyG has the layer, the other one
passes messages along an edge index; where it has none, it computes what the publication writes:
an MLP on the concatenated inputs of every neighbour, a pool over all features, a scan step by
step. They are timed in turn in the same process, so that the ratios hold where the machine's speed
does not.
"""

import argparse
import copy
import statistics
from functools import partial

import torch
from common import seconds
from torch import Tensor
from torch.nn import functional as F
from torch_geometric import nn as pyg
from torch_geometric.data import Batch

from torch_geometric_ddp.batching import Layout, from_dense
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.nn import BACKBONES, Backbone, PointNet, PointNetBN
from torch_geometric_ddp.nn.conv import EdgeConv, PointNetConv, PointTransformerConv
from torch_geometric_ddp.nn.levels import Neighbors
from torch_geometric_ddp.nn.mamba import Mamba
from torch_geometric_ddp.nn.point_mamba import PatchEncoder
from torch_geometric_ddp.nn.pointconv import DensityConv
from torch_geometric_ddp.programs.option_types import positive


def edges(near: Neighbors) -> Tensor:
    """PyG's edges, those that fill up a neighbourhood included, as our layers compute them."""
    target = torch.arange(len(near.index), device=near.index.device)
    return torch.stack([near.index.flatten(), target.repeat_interleave(near.index.size(1))])


def with_weights_of(layer, other):
    for name, child in layer.named_children():
        setattr(other, name, child)
    return other


def point_net_conv(layer):
    conv = pyg.PointNetConv(layer.local_nn, add_self_loops=False)
    return lambda x, pos, centers, near: conv((x, None), (pos, centers), edges(near))


def edge_conv(layer):
    conv = pyg.EdgeConv(layer.nn)
    return lambda x, near: conv(x, edges(near))


def point_transformer_conv(layer):
    sizes = (layer.in_channels, layer.out_channels, layer.pos_nn, layer.attn_nn)
    conv = with_weights_of(layer, pyg.PointTransformerConv(*sizes, add_self_loops=False))
    return lambda x, pos, near: conv(x, pos, edges(near))


def on_rows(mlp, x):
    return mlp(x.flatten(0, 1)).view(*x.shape[:2], -1)


def point_net(net):
    def forward(data):
        pos = Layout.of(data).dense(data.pos)
        pooled = net.transform_lift(net.transform_mlp(pos)).amax(dim=1).relu()
        matrix = net.transform_head(pooled).view(-1, 3, 3) + torch.eye(3).to(pos)
        return net.head(net.lift(net.mlp(pos @ matrix)).amax(dim=1))

    return forward


def point_net_bn(net):
    def forward(data):
        pos = Layout.of(data).dense(data.pos)
        pooled = on_rows(net.transform_mlp, pos).amax(dim=1)
        matrix = net.transform_head(pooled).view(-1, 3, 3) + torch.eye(3).to(pos)
        lifted = on_rows(net.lift_norm, net.lift(on_rows(net.mlp, pos @ matrix)))
        return net.head(lifted.amax(dim=1))

    return forward


def density_conv(layer):
    def forward(x, level, centers, k):
        index = level.knn(k, centers).index
        offset = level.pos[index] - centers.pos[:, None]
        scale = layer.sparsity(level)[index]
        scale = on_rows(layer.density_net, scale / scale.amax(dim=1, keepdim=True))
        inputs = offset if x is None else torch.cat([x[index], offset], dim=-1)
        weight = on_rows(layer.weight_net, offset)
        return layer.lin(((on_rows(layer.mlp, inputs) * scale).mT @ weight).flatten(1))

    return forward


def patch_encoder(layer):
    def forward(offset):
        x = on_rows(layer.first, offset)
        whole = x.amax(dim=1, keepdim=True).expand_as(x)
        return on_rows(layer.second, torch.cat([whole, x], dim=-1)).amax(dim=1)

    return forward


def mamba(layer):
    def forward(x):
        u, gate = layer.in_proj(x).chunk(2, dim=-1)
        u = F.silu(layer.conv1d(u.mT)[..., : x.size(1)].mT)
        delta, b, c = layer.x_proj(u).split(layer.split, dim=-1)
        delta = F.softplus(layer.dt_proj(delta))[..., None]
        decay = torch.exp(delta * -layer.A_log.exp())
        fed = delta * u[..., None] * b[:, :, None]
        state, states = torch.zeros_like(fed[:, 0]), []
        for t in range(x.size(1)):
            state = decay[:, t] * state + fed[:, t]
            states.append(state)
        y = (torch.stack(states, dim=1) @ c[..., None]).squeeze(-1)
        return layer.out_proj((y + layer.D * u) * F.silu(gate))

    return forward


#: How a module of ours is computed otherwise.
PYG = {
    PointNetConv: point_net_conv,
    EdgeConv: edge_conv,
    PointTransformerConv: point_transformer_conv,
}
DENSE = {
    PointNet: point_net,
    PointNetBN: point_net_bn,
    DensityConv: density_conv,
    PatchEncoder: patch_encoder,
    Mamba: mamba,
}


def otherwise(network: Backbone) -> tuple[Backbone, str]:
    """The same network by other means, and whose they are."""
    other, by = copy.deepcopy(network), ""
    for name, ways in (("PyG", PYG), ("dense", DENSE)):
        for module in list(other.modules()):
            if type(module) in ways:
                module.forward = ways[type(module)](module)
                by = name
    other.load_state_dict(network.state_dict())  # PyG's layers start their weights anew.
    return other, by


def step(network: Backbone, data: Batch) -> None:
    with torch.set_grad_enabled(network.training):
        logits = network(data)
        if network.training:
            logits.square().sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clouds", type=positive, default=32)
    parser.add_argument("--points", type=positive, default=1024)
    parser.add_argument("--classes", type=positive, default=40)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument(
        "--only", nargs="+", choices=BACKBONES, default=list(BACKBONES), metavar="B"
    )
    parser.add_argument("--train", action="store_true", help="there and back, in training mode")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    # Points on a surface, as most data sets have them.
    pos = torch.randn(args.clouds, args.points, 3)
    pos = (pos / pos.norm(dim=2, keepdim=True) * torch.tensor([1.0, 0.7, 0.4])).to(args.device)
    data = from_dense(pos)

    print(
        f"{args.clouds} x {args.points} points on {args.device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{args.repeats} repeats in turn after one\n"
    )
    print(
        "| backbone         | M parameters | median s | other | its s | median of ratio | error |"
    )
    print(
        "|------------------|--------------|----------|-------|-------|-----------------|-------|"
    )
    for name in args.only:
        network = BACKBONES[name](args.classes).to(args.device)
        other, by = otherwise(network)
        with torch.no_grad():
            ours, theirs = network.eval()(data), other.eval()(data)
        error = float((ours - theirs).norm() / theirs.norm())
        runs = [run.train(args.train) for run in (network, other)]
        times = [
            [seconds(partial(step, run, data), args.device) for run in runs]
            for _ in range(args.repeats)
        ]
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(b / a for a, b in times)
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        print(
            f"| {name:16} | {millions:12.2f} | {ours:8.2f} | {by:5} | {theirs:5.2f} "
            f"| {ratio:15.1f} | {error:.0e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
