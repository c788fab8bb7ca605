"""Changes one setting of a method after the other, and prints what that does.

    python examples/sensitivity.py                                      # generated shapes
    python examples/sensitivity.py --data clouds.npz --preset cpu --validate 0.2 \
        --vary num_anchors 2 4 8 --vary num_morphs 4 16 32

This is the program `sensitivity` of the command `distill3d`, which needs no checkout.
"""

from torch_geometric_ddp.programs.command import start

if __name__ == "__main__":
    start("sensitivity")
