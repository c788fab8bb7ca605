"""A parameterization of one's own: a cloud and the scales of its stretched copies.

python examples/extending/parameterization.py
"""

from typing import Any

import torch
from torch import Tensor

from torch_geometric_ddp import SMOKE, Method, ParametricShapes, StorageBudget, distill, evaluate
from torch_geometric_ddp.budget import BudgetError
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.matching import SADM
from torch_geometric_ddp.methods import Storing
from torch_geometric_ddp.methods.starts import Start
from torch_geometric_ddp.parameterization import FLOAT32, Codec, Parameterization
from torch_geometric_ddp.tasks import Task


class Stretched(Parameterization):
    """One cloud a group, and copies of it with another scale along every axis."""

    def __init__(
        self, base: Tensor, scales: Tensor, num_classes: int, codec: Codec = FLOAT32
    ) -> None:
        super().__init__(num_classes, ppc=len(base) // num_classes, num_points=base.size(1))
        self.num_copies = scales.size(1)
        self.clouds_per_group = 1 + self.num_copies
        self.keep("base", base, lr=1.0, codec=codec)  # Optimised, stored, and seen by clouds().
        self.keep("scales", scales, lr=0.1)

    def sizes(self) -> dict[str, Any]:
        return {"num_copies": self.num_copies}

    def clouds(self, base: Tensor, scales: Tensor) -> Tensor:
        copies = base[:, None] * scales[:, :, None]  # [G, 1, N, 3] times [G, S, 1, 3].
        return torch.cat([base[:, None], copies], dim=1).flatten(0, 1)


def stretching(num_copies: int = 4, codec: Codec = FLOAT32) -> Storing:
    """Stores a cloud for each whole one of the budget, or one, of as many points as fit."""

    def store(
        bank: PointCloudBank,
        budget: StorageBudget,
        start: Start,
        generator: torch.Generator,
        task: Task,
    ) -> Parameterization:
        num = bank.num_classes * budget.num_groups
        taken = FLOAT32.sure_bits((num, num_copies, 3)) + budget.num_groups * budget.label_bits
        largest = budget.largest(lambda points: taken + codec.sure_bits((num, points, 3)))
        if largest < 1:
            raise BudgetError(f"'num_copies'={num_copies} leaves no room at ppc={budget.ppc}")
        num_points = min(largest, budget.num_points)
        bank, labels = task.arrange(bank, num_points)
        if labels is None:
            bank = bank.farthest_points(num_points)
        base = start(bank, budget.num_groups, generator).flatten(0, 1)
        noise = torch.randn(len(base), num_copies, 3, generator=generator)
        made = Stretched(base, (0.2 * noise).exp().to(base), bank.num_classes, codec)
        made.label_with(labels)
        return made

    return store


def main() -> None:
    train_set, test_set = (ParametricShapes(train, 4, num_points=64) for train in (True, False))
    method = Method("SADM on stretched clouds", stretching(), SADM, steps=500)
    synthetic = distill(train_set, ppc=1, method=method, steps=5)
    print(synthetic.parameterization.describe(), f"in {synthetic.storage_bits:,} bits")
    # Two epochs of training, to see that everything runs: the figure means nothing.
    print(evaluate(synthetic, test_set, protocol=SMOKE, seeds=1))


if __name__ == "__main__":
    main()
