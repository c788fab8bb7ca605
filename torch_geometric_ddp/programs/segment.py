"""Distils clouds whose points are labelled with parts, and shows what the result is worth.

    distill3d segment                                  # generated shapes, 5 minutes
    distill3d segment --data parts.npz --categories recommended
    distill3d segment --dataset shapenetpart --root data --device cuda --preset paper

The program `distill` for part segmentation: the same options, and the mean intersection over union
of ShapeNetPart instead of the accuracy.
"""

from __future__ import annotations

import argparse

from torch_geometric_ddp.programs import distill

EPILOG, GO_ON, RANKS, run = distill.EPILOG, distill.GO_ON, distill.RANKS, distill.run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    distill.add_arguments(parser, "segmentation", "out/segment")
