"""What several benchmarks share: a step of DDP on generated shapes, a clock, a results file."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from torch_geometric_ddp import Distillation, ParametricShapes
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching import UniformityAwareSADM
from torch_geometric_ddp.parameterization import ShapeMorphing

DOCS = Path(__file__).resolve().parent.parent / "docs"
ANCHORS, MORPHS, BATCH = 4, 16, 8


def loop_of(num_classes: int, ppc: int, points: int, size: int, **kwargs: Any) -> Distillation:
    """A prepared distillation of so many classes, with the clouds of generated shapes.

    Anchors have :obj:`points` points and real clouds :obj:`size`.
    """
    shapes = ParametricShapes(num_per_class=BATCH, num_points=size)
    shapes = PointCloudBank.from_dataset(shapes).normalize()
    pos = shapes.dense()[torch.arange(num_classes * BATCH) % len(shapes)]
    y = torch.arange(num_classes).repeat_interleave(BATCH)
    names = [str(i) for i in range(num_classes)]
    bank = PointCloudBank(pos.flatten(0, 1), torch.full_like(y, size), y, names)
    anchors = pos.view(num_classes, BATCH, size, 3)[:, :ANCHORS, :points].repeat(1, ppc, 1, 1)
    anchors = anchors.reshape(num_classes * ppc, ANCHORS, points, 3)
    shape = ShapeMorphing(anchors + 0.01 * torch.randn_like(anchors), num_classes, MORPHS)
    loop = Distillation(bank, shape, UniformityAwareSADM(), batch_size=BATCH, **kwargs)
    loop.prepare()
    return loop


def seconds(run: Callable[[], object], device: torch.device | str) -> float:
    """The time of a run until a GPU is done with it."""
    device = torch.device(device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda device: None
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def save(name: str, **told: Any) -> None:
    """Writes a results file of the documentation."""
    sys.path.insert(0, str(DOCS))
    from rendering import RESULTS, Results

    Results(name, **told).save(RESULTS)
