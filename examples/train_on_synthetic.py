"""Trains a PyG model on a distilled set: an ordinary program, with one line of ours for each set.

Start it with the file of a set, and with what the set was made from:

python examples/train_on_synthetic.py out/distill/distilled.safetensors
python examples/train_on_synthetic.py set.safetensors --data clouds.npz
python examples/train_on_synthetic.py set.safetensors --dataset modelnet10 --root data
"""

import argparse

import torch
import torch_geometric.transforms as T
from torch.nn import functional as F
from torch_geometric.loader import DataLoader
from torch_geometric.nn import MLP, global_max_pool

from torch_geometric_ddp import SyntheticPointCloudDataset
from torch_geometric_ddp.clouds.class_names import agree
from torch_geometric_ddp.datasets import READERS, read_file
from torch_geometric_ddp.programs.option_types import positive


class Net(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.points = MLP([3, 64, 256])
        self.cloud = MLP([256, 128, num_classes], dropout=[0.3, 0.0])

    def forward(self, pos, batch):
        return self.cloud(global_max_pool(self.points(pos), batch))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="a distilled set, such as examples/distill.py writes")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", help="test clouds of a file (.npz)")
    where.add_argument(
        "--dataset", choices=READERS, default="shapes", help="or of a data set (generated shapes)"
    )
    parser.add_argument("--root", default="data", help="where a data set lies (data)")
    parser.add_argument("--num-points", type=positive, help="points of a test cloud (shapes 256)")
    parser.add_argument("--epochs", type=positive, default=100, help="epochs of training (100)")
    args = parser.parse_args()
    torch.manual_seed(0)

    train_set = SyntheticPointCloudDataset(args.file, pre_transform=T.NormalizeScale())
    if args.data:
        _, test_set = read_file(args.data, num_points=args.num_points)
    else:
        _, test_set = READERS[args.dataset].load(args.root, args.num_points)
    test_set.transform = T.NormalizeScale()
    if not agree(train_set.class_names, test_set.class_names):
        raise SystemExit(f"Test clouds must have the classes {train_set.class_names}: see --data.")
    single = len(train_set) % 8 == 1  # For one cloud BatchNorm has no statistics.
    train_loader = DataLoader(train_set, batch_size=8, shuffle=True, drop_last=single)
    test_loader = DataLoader(test_set, batch_size=64)
    model = Net(train_set.num_classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, args.epochs + 1):
        model.train()
        for data in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(data.pos, data.batch), data.y).backward()
            optimizer.step()
        if epoch % 10 == 0 or epoch == args.epochs:
            model.eval()
            with torch.no_grad():
                right = [(model(d.pos, d.batch).argmax(1) == d.y).sum() for d in test_loader]
            print(f"Epoch {epoch:3}: test accuracy {100 * sum(right) / len(test_set):.1f} %")


if __name__ == "__main__":
    main()
