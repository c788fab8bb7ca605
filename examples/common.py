"""What the examples share: which data set, and what their programs call it."""

import argparse
from pathlib import Path

import torch_geometric.transforms as T
from torch_geometric.datasets import ModelNet
from torch_geometric.seed import seed_everything

from torch_geometric_ddp import CPU, PAPER, QUICK, SMOKE, ParametricShapes, PointCloudArrays
from torch_geometric_ddp.transforms import FarthestPointSample

PROTOCOLS = {protocol.name: protocol for protocol in (PAPER, CPU, QUICK, SMOKE)}


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, help=".npz with train_points, train_labels, test_...")
    data.add_argument("--dataset", choices=("shapes", "modelnet10", "modelnet40"), default="shapes")
    data.add_argument("--root", type=Path, default=Path("data"), help="where ModelNet lies")
    data.add_argument("--num-points", type=int, help="points of a cloud (256, ModelNet 1024)")
    data.add_argument("--num-per-class", type=int, default=100, help="shapes only: training clouds")


def source(args: argparse.Namespace) -> str:
    return args.data.stem if args.data else args.dataset


def load(args: argparse.Namespace):
    """The training and the test set."""
    if args.data is not None:
        sample = None if args.num_points is None else FarthestPointSample(args.num_points)
        return [
            PointCloudArrays.from_npz(args.data, split, pre_transform=sample)
            for split in ("train", "test")
        ]
    if args.dataset == "shapes":
        num_points = args.num_points or 256
        sizes = {True: args.num_per_class, False: max(1, args.num_per_class // 2)}
        return [ParametricShapes(train, sizes[train], num_points) for train in (True, False)]
    seed_everything(0)  # SamplePoints draws from the global generators.
    sample = T.Compose([T.SamplePoints(args.num_points or 1024), T.NormalizeScale()])
    name = args.dataset.removeprefix("modelnet")
    sets = [ModelNet(args.root, name, train, pre_transform=sample) for train in (True, False)]
    folders = sorted(path.name for path in Path(sets[0].raw_dir).iterdir() if path.is_dir())
    for dataset in sets:  # PyG keeps the labels of the classes, but not their names.
        dataset.class_names = folders
    return sets
