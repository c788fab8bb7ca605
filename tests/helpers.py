"""Small data sets, small networks and plain-loop twins that several test files share."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data

from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.comparison import Lab, Preset
from torch_geometric_ddp.datasets import PointCloudArrays
from torch_geometric_ddp.evaluation import SMOKE
from torch_geometric_ddp.matching import DistributionMatching
from torch_geometric_ddp.nn import Backbone, Segmenter

ROOT = Path(__file__).resolve().parent.parent
MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)


def environment(*folders):
    """That of a child, which finds the package and prints the same in any terminal and locale.

    It finds what is in some folders, too.
    """
    theirs = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "PYTHON_COLORS")}
    path = os.pathsep.join(
        filter(None, [*map(str, (ROOT, *folders)), os.environ.get("PYTHONPATH")])
    )
    return {**theirs, "PYTHONPATH": path, "NO_COLOR": "1", "PYTHONUTF8": "1"}


class TinyNet(Backbone):
    """A backbone of sixteen channels, for speed."""

    def __init__(self, num_classes):
        super().__init__(num_classes, point_channels=16)
        self.mlp = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 16))
        self.head = nn.Linear(16, num_classes)

    def point_features(self, data):
        return self.mlp(data.pos)


class NormNet(TinyNet):
    """The same with BatchNorm."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.mlp = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16))


class TinySegmenter(Segmenter):
    """A segmentation network of eight channels, for speed."""

    def __init__(self, num_parts, num_categories):
        super().__init__(num_parts, num_categories, point_channels=8)
        self.mlp = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Sequential(
            nn.Linear(16 + num_categories, 16), nn.ReLU(), nn.Linear(16, num_parts)
        )

    def point_features(self, data):
        return self.mlp(data.pos)

    def forward(self, data):
        layout, x = Layout.of(data), self.point_features(data)
        one_hot = F.one_hot(self.categories(data, layout), self.num_categories).to(x.dtype)
        whole = torch.cat([layout.dense(x).amax(dim=1), one_hot], dim=1)
        whole = whole[:, None].expand(-1, layout.num_points, -1)
        return self.head(torch.cat([x, layout.flat(whole)], dim=1))


def toy_arrays(num_classes=3, per_class=6, num_points=32, seed=0):
    """Noisy ellipsoids, every class stretched along another direction."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_classes).repeat(per_class)
    points = 0.2 * rng.standard_normal((len(labels), num_points, 3))
    angle = labels * np.pi / num_classes
    axis = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    points += rng.uniform(-1, 1, (len(labels), num_points, 1)) * axis[:, None]
    return points.astype(np.float32), labels


def toy_set(num_classes=3, per_class=6, num_points=32, seed=0, **kwargs):
    names = [f"class{i}" for i in range(num_classes)]
    return PointCloudArrays(
        *toy_arrays(num_classes, per_class, num_points, seed), class_names=names, **kwargs
    )


class LabelledClouds(list):
    """Clouds with part labels, in PyG's convention of ShapeNet."""

    def __init__(self, clouds, category_parts):
        super().__init__(clouds)
        self.class_names, self.category_parts = list(category_parts), dict(category_parts)
        self.num_classes = 1 + max(part for parts in category_parts.values() for part in parts)
        self.part_names = [f"part{i}" for i in range(self.num_classes)]


#: Numbers that are neither in order nor without a gap, so that no test passes by chance.
TOY_PARTS = {"cup": [4, 1], "lamp": [0, 6, 2], "ball": [3]}


def toy_parts(per_class=4, num_points=24, seed=0, sizes=None):
    """Blobs in any order, one per part. The first cup has no part 1, the second lamp no part 6.

    Args:
        sizes: The number of points of every cloud of a category, if they shall differ.
    """
    rng = np.random.default_rng(seed)
    clouds = []
    for category, parts in enumerate(TOY_PARTS.values()):
        for i in range(per_class):
            lacking = {(0, 0): 1, (1, 1): 6}.get((category, i))
            some = [part for part in parts if part != lacking]
            # Every part that is there has a point; the last ones have fewer.
            share = np.arange(len(some), 0, -1) / np.arange(len(some), 0, -1).sum()
            num = num_points if sizes is None else sizes[i]
            y = rng.permutation([*some, *rng.choice(some, num - len(some), p=share)])
            center = np.stack([np.cos(y), np.sin(y), 0.1 * y], axis=1)
            pos = torch.from_numpy(center + 0.2 * rng.standard_normal((num, 3))).float()
            category_of = torch.tensor([category])
            clouds.append(Data(pos=pos, y=torch.from_numpy(y), category=category_of))
    return LabelledClouds(clouds, TOY_PARTS)


def parts_file(path):
    """A file of labelled clouds of two categories."""
    rng = np.random.default_rng(0)
    labels = np.arange(2).repeat(8)
    points = rng.standard_normal((16, 48, 3)).astype(np.float32)
    np.savez(
        path,
        points=points,
        part_labels=(points[..., 2] > 0).astype(np.int64) + 2 * labels[:, None],
        labels=labels,
        split=np.array([*["train"] * 6, *["test"] * 2] * 2),
        class_names=np.array(["ball", "cube"]),
        part_names=np.array(["ball/low", "ball/high", "cube/low", "cube/high"]),
        category_parts=np.array([[True, True, False, False], [False, False, True, True]]),
    )
    return path


def check_labelled(dataset):
    """Holds a set of clouds with part labels against PyG's convention of ShapeNet."""
    parts = [part for name in dataset.class_names for part in dataset.category_parts[name]]
    assert list(dataset.category_parts) == list(dataset.class_names)
    assert len(set(parts)) == len(parts)
    assert set(parts) <= set(range(len(dataset.part_names)))
    assert dataset.num_classes == len(dataset.part_names)
    for data in dataset:
        assert sorted(data.keys()) == ["category", "pos", "y"]
        assert data.pos.shape == (len(data.y), 3)
        assert (data.y.dim(), data.y.dtype) == (1, torch.int64)
        assert (data.category.shape, data.category.dtype) == ((1,), torch.int64)
        name = dataset.class_names[data.category.item()]
        assert set(data.y.tolist()) <= set(dataset.category_parts[name])


def bank_of(pos):
    """The clouds ``pos [n, N, 3]`` as a bank of one class."""
    sizes = torch.full((len(pos),), pos.size(1), device=pos.device)
    return PointCloudBank(pos.flatten(0, 1), sizes, torch.zeros_like(sizes), ["one"])


def batch_of(pos, **attributes):
    """A PyG batch of the clouds ``pos [B, N, 3]`` made by hand."""
    batch = torch.arange(pos.size(0), device=pos.device).repeat_interleave(pos.size(1))
    ptr = torch.arange(pos.size(0) + 1, device=pos.device) * pos.size(1)
    return Batch(pos=pos.reshape(-1, 3), batch=batch, ptr=ptr, num_points=pos.size(1), **attributes)


def mmd_loop(x, y, multipliers=MULTIPLIERS, bandwidth=None):
    """MMD of the rows of x and y, every distance from its difference, one row after the other."""
    z = torch.cat([x, y])
    dist = torch.stack([(z - row).square().sum(dim=1) for row in z])
    if bandwidth is None:
        bandwidth = dist.detach().sum() / (len(z) ** 2 - len(z))
    kernel = sum((-dist / (s * bandwidth)).exp() for s in multipliers)
    n = len(x)
    return kernel[:n, :n].mean() - 2 * kernel[:n, n:].mean() + kernel[n:, n:].mean()


def sort_loop(features, absolute=True):
    """Sorts the features [B, N, F] cloud by cloud and channel by channel, largest first."""
    rows = []
    for cloud in features.abs() if absolute else features:
        channels = [c.sort(descending=True, stable=True).values for c in cloud.unbind(dim=1)]
        rows.append(torch.cat(channels))
    return torch.stack(rows)


def relative(ours, theirs):
    """The relative error in the Euclidean norm."""
    ours, theirs = torch.as_tensor(ours).double(), torch.as_tensor(theirs).double()
    return float((ours - theirs).norm() / theirs.norm())


WHOLE = replace(SMOKE, name="whole", epochs=3)
PRESET = Preset("tiny", SMOKE, WHOLE, 2, 2)


def lab_of(out, preset=PRESET, num_points=32, **kwargs):
    """A harness for toy clouds and a tiny network."""
    train, test = (toy_set(num_points=num_points, seed=seed) for seed in (0, 1))
    return Lab(train, test, out, preset, {"Tiny": TinyNet}, source="toy", **kwargs)


class Diverging(DistributionMatching):
    """No number for the first class in some of its steps, counting those that are undone."""

    wrong = (4, 12)

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, network, real, synthetic):
        loss = super().forward(network, real, synthetic)
        first = int(synthetic.y[0]) == 0
        self.calls += first
        return loss * (math.nan if first and self.calls in self.wrong else 1)
