"""Distils clouds whose points are labelled with parts, and shows what the result is worth.

    python examples/segment.py                                  # generated shapes, 5 minutes
    python examples/segment.py --data parts.npz --categories recommended
    python examples/segment.py --dataset shapenetpart --root data --device cuda

This is the program `segment` of the command `distill3d`, which needs no checkout.
"""

from torch_geometric_ddp.programs.command import start

if __name__ == "__main__":
    start("segment")
