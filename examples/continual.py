"""Learns classes in increments from exemplars: distilled, random, herded and quantised ones.

    python examples/continual.py                                       # generated shapes
    python examples/continual.py --dataset modelnet10 --root data --preset cpu \
        --methods random herding "random 128x6" "PKR 64" DDP whole
    python examples/continual.py --data clouds.npz --num-increments 3 --ppc 3

This is the program `continual` of the command `distill3d`, which needs no checkout.
"""

from torch_geometric_ddp.programs.command import start

if __name__ == "__main__":
    start("continual")
