"""Seconds of one forward of every backbone, and of the same with PyG's message passing.

    python benchmarks/backbone_time.py --clouds 32 --points 1024

All backbones are timed in turn in the same process, so that the ratios hold where the machine's
speed does not. Where a backbone is built from a layer of PyG, the other network is the same one,
with the same weights and neighbours, whose layers pass messages along an edge index.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch_geometric import nn as pyg
from torch_geometric.data import Batch

from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.nn import BACKBONES, Backbone
from torch_geometric_ddp.nn.conv import EdgeConv, PointNetConv
from torch_geometric_ddp.nn.levels import Neighbors


def edges(near: Neighbors) -> Tensor:
    """PyG's edges, those that fill up a neighbourhood included, as our layers compute them."""
    target = torch.arange(len(near.index), device=near.index.device)
    return torch.stack([near.index.flatten(), target.repeat_interleave(near.index.size(1))])


def through_messages(network: Backbone) -> int:
    """Lets PyG's layers do the work of ours; how many there are. Their weights start anew."""
    layers = [m for m in network.modules() if isinstance(m, pyg.MessagePassing)]
    for layer in layers:
        if isinstance(layer, PointNetConv):
            other = pyg.PointNetConv(layer.local_nn, add_self_loops=False)
            run = point_net_conv
        elif isinstance(layer, EdgeConv):
            other, run = pyg.EdgeConv(layer.nn), edge_conv
        else:
            networks, width = (layer.pos_nn, layer.attn_nn), layer.out_channels
            other = pyg.PointTransformerConv(width, width, *networks, add_self_loops=False)
            run = point_transformer_conv
        for name, child in other.named_children():
            setattr(layer, name, child)
        layer.forward = partial(run, other)
    return len(layers)


def point_net_conv(layer, x, pos, centers, near):
    return layer((x, None), (pos, centers), edges(near))


def edge_conv(layer, x, near):
    return layer(x, edges(near))


def point_transformer_conv(layer, x, pos, near):
    return layer(x, pos, edges(near))


def step(network: Backbone, data: Batch) -> None:
    with torch.set_grad_enabled(network.training):
        logits = network(data)
        if network.training:
            logits.square().sum().backward()


def seconds(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clouds", type=int, default=32)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of backbones")
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
        f"{args.clouds} x {args.points} points on {args.device}, {torch.get_num_threads()}", end=""
    )
    print(f" threads, torch {torch.__version__}, {args.repeats} repeats in turn after one\n")
    print(
        "| backbone         | M parameters | median s | PyG's layers s | median of ratio | error |"
    )
    print(
        "|------------------|--------------|----------|----------------|-----------------|-------|"
    )
    for make in BACKBONES.values():
        if args.only and make.__name__ not in args.only:
            continue
        network, other = make(args.classes), make(args.classes)
        runs = [network, other] if through_messages(other) else [network]
        other.load_state_dict(network.state_dict())
        runs = [run.to(args.device).train(args.train) for run in runs]
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        with torch.no_grad():
            features = [run.point_features(data) for run in runs]
        error = float((features[0] - features[-1]).norm() / features[0].norm())
        del features
        times = [
            [seconds(partial(step, run, data), args.device) for run in runs]
            for _ in range(args.repeats)
        ]
        ours, *theirs = (statistics.median(column) for column in zip(*times, strict=True))
        row = f"| {make.__name__:16} | {millions:12.2f} | {ours:8.2f} |"
        if theirs:
            ratio = statistics.median(b / a for a, b in times)
            row += f" {theirs[0]:14.2f} | {ratio:15.1f} | {error:.0e} |"
        else:
            row += f" {'':14} | {'':15} | {'':5} |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
