"""Distils with one backbone, trains all of them on the result, and prints a matrix.

    python examples/cross_architecture.py                              # generated shapes
    python examples/cross_architecture.py --data clouds.npz --preset cpu --whole-points 256
    python examples/cross_architecture.py --dataset modelnet10 --device cuda --backbones all
    python examples/cross_architecture.py --task segmentation

This is the program `cross` of the command `distill3d`, which needs no checkout.
"""

from torch_geometric_ddp.programs.command import start

if __name__ == "__main__":
    start("cross")
