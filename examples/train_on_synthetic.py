"""Trains a PyG model on a distilled set: an ordinary program, with one line of ours for each set.

python examples/train_on_synthetic.py out/distill/distilled.safetensors
"""

import argparse

import torch
import torch_geometric.transforms as T
from torch.nn import functional as F
from torch_geometric.loader import DataLoader
from torch_geometric.nn import MLP, global_max_pool

from torch_geometric_ddp import ParametricShapes, SyntheticPointCloudDataset


class Net(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.points = MLP([3, 64, 256])
        self.cloud = MLP([256, 128, num_classes], dropout=[0.3, 0.0])

    def forward(self, pos, batch):
        return self.cloud(global_max_pool(self.points(pos), batch))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="a distilled set, such as examples/distill.py writes")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of training (100)")
    parser.add_argument("--num-points", type=int, default=256, help="of the test clouds (256)")
    args = parser.parse_args()
    torch.manual_seed(0)

    train_set = SyntheticPointCloudDataset(args.file, pre_transform=T.NormalizeScale())
    test_set = ParametricShapes(False, 100, args.num_points, pre_transform=T.NormalizeScale())
    if train_set.class_names != test_set.class_names:
        raise SystemExit(f"Put a test set with the classes {train_set.class_names} here.")
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
