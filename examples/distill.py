"""Distils a data set of 3D point clouds and shows what the result is worth.

    python examples/distill.py                                  # generated shapes, 5 minutes
    python examples/distill.py --data clouds.npz --out out/mine
    python examples/distill.py --dataset modelnet10 --root data --device cuda
    python examples/distill.py --method pkr

This is the program `distill` of the command `distill3d`, which needs no checkout.
"""

from torch_geometric_ddp.programs.command import start

if __name__ == "__main__":
    start("distill")
