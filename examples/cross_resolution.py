"""Trains on clouds of some points, tests on clouds of others, and prints the matrix.

    python examples/cross_resolution.py                                # generated shapes
    python examples/cross_resolution.py --data clouds.npz --preset cpu --methods random DDP whole \
        --train-points 64 128 252 512 1024 --test-points 64 128 256 512 1024

This is the program `resolution` of the command `distill3d`, which needs no checkout.
"""

from torch_geometric_ddp.programs.command import start

if __name__ == "__main__":
    start("resolution")
