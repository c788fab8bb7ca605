"""Seconds per step: ours, the bare network, and the published loops written down plainly.

    python benchmarks/step_time.py --data modelnet10_1024.npz

All three are timed in turn in the same process, on clouds and networks of the same sizes, so that
the ratios hold where the machine's speed does not. Ours draws its clouds and makes its network in
every step, as it does in a run; the other two are given one draw and one network. The plain loops
are given the subsets and their uniformity for free, too, although the published code computes both
anew in every step.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from torch_geometric_ddp import Distillation, ParametricShapes, PointCloudArrays, StorageBudget
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching import UniformityAwareSADM
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.parameterization import ShapeMorphing
from torch_geometric_ddp.programs.option_types import natural, positive


def plain_mmd(x: Tensor, y: Tensor) -> Tensor:
    rows = torch.cat([x, y])
    squares = torch.cdist(rows, rows) ** 2
    bandwidth = squares.detach().sum() / (len(rows) ** 2 - len(rows))
    kernel = sum(torch.exp(-squares / (bandwidth * s)) for s in (0.25, 0.5, 1.0, 2.0, 4.0))
    n = len(x)
    return kernel[:n, :n].mean() - 2 * kernel[:n, n:].mean() + kernel[n:, n:].mean()


class PlainPointNet:
    """The network as it is published: Conv1d layers on [B, 3, N], and the full pool."""

    def __init__(self, network: torch.nn.Module) -> None:
        def conv(linear: torch.nn.Module) -> torch.nn.Conv1d:
            layer = torch.nn.Conv1d(linear.in_channels, linear.out_channels, 1)
            layer.weight.data, layer.bias.data = linear.weight.data[..., None], linear.bias.data
            return layer.requires_grad_(False)

        lift = [network.transform_lift, network.lift]
        for linear in lift:
            linear.in_channels, linear.out_channels = linear.in_features, linear.out_features
        self.transform = [conv(m) for m in [*network.transform_mlp.lins, lift[0]]]
        self.layers = [conv(m) for m in [*network.mlp.lins, lift[1]]]
        self.head = network.transform_head

    def __call__(self, x: Tensor) -> Tensor:
        h = x
        for layer in self.transform:
            h = layer(h).relu()
        matrix = self.head(h.max(dim=2).values).view(-1, 3, 3) + torch.eye(3)
        x = torch.bmm(x.transpose(1, 2), matrix).transpose(1, 2)
        x = self.layers[0](x).relu()
        x = self.layers[1](x).relu()
        return self.layers[2](x)


def plain_step(loop: Distillation, network: PlainPointNet, index: Tensor) -> Tensor:
    """Class by class and part by part, with a sort and a cdist for each."""
    model, total = loop.parameterization, torch.zeros(())
    loop.optimizer.zero_grad()
    for c in range(loop.bank.num_classes):
        real = loop.take(index[c])
        subsets = real["subset_pos"].transpose(0, 1).flatten(0, 1).transpose(1, 2)
        with torch.no_grad():
            real_rows = network(subsets).abs().sort(dim=2, descending=True)[0].flatten(1)
        anchors, weights = model.anchors[c], model.weights[c].softmax(dim=1)
        clouds = list(anchors)
        for w in weights:
            clouds.append((w[:, None, None] * anchors).sum(dim=0))
        features = network(torch.stack(clouds).transpose(1, 2))
        rows = features.abs().sort(dim=2, descending=True)[0].flatten(1)
        gap = real["uniformity"].mean() - real["subset_uniformity"].mean(dim=0)
        penalty = torch.exp(-1000 * gap**2)
        size, loss = len(index[c]), torch.zeros(())
        for p in range(len(penalty)):
            part = real_rows[p * size : (p + 1) * size]
            loss = loss + plain_mmd(part, rows) * penalty[p] / penalty.sum()
        loss.backward()
        total += loss.detach()
    loop.optimizer.step()
    return total


def bare_step(loop: Distillation, network: torch.nn.Module, index: Tensor) -> None:
    """The network alone: real subsets without a gradient, synthetic clouds there and back."""
    subsets = loop.take(index)["subset_pos"].transpose(1, 2).flatten(0, 2)
    with torch.no_grad():
        network.point_features(from_dense(subsets))
    features = network.point_features(loop.parameterization())
    features.backward(torch.ones(()).expand_as(features))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=".npz as for examples/distill.py")
    parser.add_argument("--num-anchors", type=positive, default=4)
    parser.add_argument("--num-morphs", type=natural, default=16)
    parser.add_argument("--clouds", type=positive, default=300, help="real clouds to draw from")
    parser.add_argument("--repeats", type=positive, default=7)
    args = parser.parse_args()
    keep_freed_memory()  # As in examples/distill.py, for all three alike.
    data = PointCloudArrays.from_npz(args.data) if args.data else ParametricShapes(num_points=1024)
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: args.clouds]
    bank = PointCloudBank.from_dataset(data[chosen])
    budget = StorageBudget(bank.num_points, bank.num_classes)
    size = ShapeMorphing.largest_anchor_points(budget, args.num_anchors, args.num_morphs)
    generator = torch.Generator().manual_seed(0)
    drawn = bank.dense()[bank.draw(args.num_anchors, generator)]
    model = ShapeMorphing.from_clouds(drawn, args.num_anchors, size, args.num_morphs, generator)
    loop = Distillation(bank, model, UniformityAwareSADM(), generator=generator)
    first = loop.step()

    times: dict[str, list[float]] = {"ours": [], "bare network": [], "plain loops": []}
    for _ in range(args.repeats):
        network, index = loop.networks.fresh(), bank.draw(8, generator)
        plain = PlainPointNet(network)
        for name, run in (
            ("ours", loop.step),
            ("bare network", lambda: bare_step(loop, network, index)),  # noqa: B023
            ("plain loops", lambda: plain_step(loop, plain, index)),  # noqa: B023
        ):
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)

    print(f"{model.describe()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"loss of the first step {first:.4f}; {args.repeats} repeats in turn\n")
    print("| step          | median s | min s | max s | median of ratio to ours |")
    print("|---------------|----------|-------|-------|-------------------------|")
    for name, seconds in times.items():
        ratios = [other / own for other, own in zip(seconds, times["ours"], strict=True)]
        row = (statistics.median(seconds), min(seconds), max(seconds), statistics.median(ratios))
        print("| {:13} | {:8.2f} | {:5.2f} | {:5.2f} | {:23.2f} |".format(name, *row))


if __name__ == "__main__":
    main()
