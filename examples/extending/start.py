"""A start of one's own: real clouds whose points are moved a little.

python examples/extending/start.py
"""

import torch
from torch import Tensor

from torch_geometric_ddp import SMOKE, ParametricShapes, distill, evaluate
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.methods.starts import Start, real_clouds


def jittered_clouds(sigma: float = 0.02) -> Start:
    """Random real clouds with normal noise of so large a standard deviation."""

    def start(bank: PointCloudBank, num: int, generator: torch.Generator) -> Tensor:
        clouds = real_clouds(bank, num, generator)  # [C, num, N1, 3].
        noise = torch.randn(clouds.shape, generator=generator)  # On the CPU, as the generator is.
        return clouds + sigma * noise.to(clouds)

    return start


def main() -> None:
    train_set, test_set = (ParametricShapes(train, 4, num_points=64) for train in (True, False))
    synthetic = distill(train_set, ppc=1, method=ddp(start=jittered_clouds()), steps=5)
    # Two epochs of training, to see that everything runs: the figure means nothing.
    print(evaluate(synthetic, test_set, protocol=SMOKE, seeds=1))


if __name__ == "__main__":
    main()
