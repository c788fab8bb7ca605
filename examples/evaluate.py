"""Repeats the figure of a distilled set from its file alone, on the data that it was made for.

    python examples/evaluate.py out/distill/distilled.safetensors
    python examples/evaluate.py set.safetensors --data clouds.npz --backbone DGCNN --seeds 0 1 2

This is the program `evaluate` of the command `distill3d`, which needs no checkout.
"""

from torch_geometric_ddp.programs.command import start

if __name__ == "__main__":
    start("evaluate")
