"""Lets Optuna choose the settings of DDP or PKR for a data set under a storage budget.

    python examples/tune.py                                   # generated shapes, some minutes
    python examples/tune.py --data clouds.npz --trials 50 --preset cpu --out out/mine
    python examples/tune.py --dataset modelnet10 --gpus 4 --trials 200 --trial-runs 3
    python examples/tune.py --objectives score,bits --storage sqlite:///study.db
    python examples/tune.py --task segmentation
    python examples/tune.py --method pkr --ppc 0.25

This is the program `tune` of the command `distill3d`, which needs no checkout.
"""

from torch_geometric_ddp.programs.command import start

if __name__ == "__main__":
    start("tune")
