"""Makes the picture on the start page: real clouds, anchors and morphs of generated shapes.

    python docs/make_picture.py        # docs/images/distilled.png

It distils with 100 steps on a CPU; the picture is that of five of the ten classes.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
from PIL import Image

from torch_geometric_ddp import ParametricShapes, distill
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.visualize import plot_clouds

PATH = Path(__file__).resolve().parent / "images" / "distilled.png"
CLASSES = ("airplane", "chair", "lamp", "stool", "table")
REAL, ANCHORS, MORPHS = 2, 4, 4


def main() -> None:
    keep_freed_memory()
    matplotlib.rcParams["font.size"] = 9
    real = ParametricShapes(train=True, num_per_class=50, num_points=1024)
    method = ddp(num_anchors=ANCHORS, num_morphs=MORPHS, anchor_lr=0.5)
    small = distill(real, 1, method, steps=100)
    rows = []
    for name in CLASSES:
        label = small.class_names.index(name)
        clouds = [
            [data.pos for data in dataset if int(data.y) == label] for dataset in (real, small)
        ]
        rows.append(clouds[0][:REAL] + clouds[1])
    columns = ["real"] * REAL + ["anchor"] * ANCHORS + ["morph"] * MORPHS
    figure = plot_clouds(rows, CLASSES, columns)
    PATH.parent.mkdir(exist_ok=True)
    figure.savefig(PATH, dpi=90)
    # A palette is enough for dots, and takes a third of the bytes.
    Image.open(PATH).convert("RGB").quantize(48).save(PATH, optimize=True)


if __name__ == "__main__":
    main()
