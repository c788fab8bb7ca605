"""Compares methods of data set distillation under the same storage, and prints a table.

    python examples/compare.py                                         # generated shapes
    python examples/compare.py --data clouds.npz --preset cpu --methods random SADM DDP --ppc 1 3
    python examples/compare.py --dataset modelnet10 --device cuda --preset paper --methods all
    python examples/compare.py --task segmentation

This is the program `compare` of the command `distill3d`, which needs no checkout.
"""

from torch_geometric_ddp.programs.command import start

if __name__ == "__main__":
    start("compare")
