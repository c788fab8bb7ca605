"""Makes the pictures of the start page: clouds of generated shapes, still and moving.

    python docs/make_picture.py        # docs/images/distilled.png, distilled.gif and losses.png

It distils five classes with 100 steps, about two minutes on one core of a CPU.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from PIL import Image

from torch_geometric_ddp import Distillation, ParametricShapes, PointCloudArrays, distill
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.visualize import Film, plot_distilled, plot_losses

IMAGES = Path(__file__).resolve().parent / "images"
CLASSES = ["airplane", "chair", "lamp", "stool", "table"]
REAL, ANCHORS, MORPHS = 2, 4, 4
STEPS = 100


def shapes() -> PointCloudArrays:
    """The real clouds of the classes that are shown."""
    every = ParametricShapes(train=True, num_per_class=50, num_points=1024)
    names = list(every.class_names)
    chosen = [data for data in every if names[int(data.y)] in CLASSES]
    labels = torch.tensor([CLASSES.index(names[int(data.y)]) for data in chosen])
    return PointCloudArrays(torch.stack([data.pos for data in chosen]), labels, CLASSES)


def main() -> None:
    keep_freed_memory()
    matplotlib.rcParams["font.size"] = 9
    real = shapes()
    method = ddp(num_anchors=ANCHORS, num_morphs=MORPHS, anchor_lr=0.5)
    film = Film(every=4, classes=["airplane", "chair", "table"], num_anchors=4, num_morphs=4)
    runs: list[Distillation] = []

    def callback(run: Distillation) -> None:
        film(run)
        runs[:] = [run]

    small = distill(real, 1, method, steps=STEPS, source="generated shapes", callback=callback)
    film.save(IMAGES / "distilled.gif", title="Anchors and morphs of generated shapes", dpi=60)
    plot_losses(runs[0].losses, IMAGES / "losses.png", "DDP, generated shapes, PPC 1")
    still = IMAGES / "distilled.png"
    plot_distilled(real, small, still, REAL, ANCHORS, MORPHS)
    for path in (still, IMAGES / "losses.png"):
        # A palette is enough for dots, and takes a third of the bytes.
        Image.open(path).convert("RGB").quantize(48).save(path, optimize=True)


if __name__ == "__main__":
    main()
