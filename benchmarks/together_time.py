"""Ten networks trained together: the operations of their steps, their time, and what they reach.

    OMP_NUM_THREADS=1 python benchmarks/together_time.py
    OMP_NUM_THREADS=1 python benchmarks/together_time.py --steps 600 --lr 0.03

The same seeds are trained one after the other and together, on generated shapes. Operations are
what torch is asked for in the training, as many as a GPU would be asked for. On a CPU the time is
that of the processor, which programs beside it change less than that of the clock.
"""

import argparse
import collections
import time
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from torch_geometric_ddp import ParametricShapes, Protocol, evaluate
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.evaluation import fit
from torch_geometric_ddp.evaluation.together import fit_together
from torch_geometric_ddp.nn import PointNet
from torch_geometric_ddp.programs.option_types import finite, positive


class Operations(TorchDispatchMode):
    """Counts operations that compute something, and not views."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if not func.is_view and "_unsafe_view" not in name and not name.startswith("profiler"):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=positive, default=10)
    parser.add_argument("--steps", type=positive, default=20)
    parser.add_argument("--lr", type=finite, default=0.01)
    parser.add_argument("--num-points", type=positive, default=256)
    parser.add_argument("--num-per-class", type=positive, default=4)
    args = parser.parse_args()
    sets = [
        ParametricShapes(train, args.num_per_class if train else 20, num_points=args.num_points)
        for train in (True, False)
    ]
    bank = PointCloudBank.from_dataset(sets[0]).normalize()
    seeds, bar = range(args.seeds), tqdm(disable=True)
    each = -(-len(bank) // 8)

    counts = []
    for number in (1, args.seeds):
        taken = []
        for epochs in (1, 2):
            models = [PointNet(bank.num_classes) for _ in range(number)]
            with Operations() as operations:
                if number == 1:
                    fit(models[0], bank, Protocol("counted", epochs))
                else:
                    fit_together(models, bank, Protocol("counted", epochs), seeds, bar)
            taken.append(operations.counts.total())
        counts.append((taken[1] - taken[0]) / each)  # Without what a training takes once.
    print(f"operations of a step: {counts[0]:.0f} of one, {counts[1]:.0f} of {args.seeds} together")

    protocol = Protocol("timed", epochs=-(-args.steps // each), lr=args.lr)
    evaluate(*sets, protocol=Protocol("warm", epochs=1), seeds=1, progress=False)
    for together in (1, args.seeds):
        began = time.process_time()
        result = evaluate(
            *sets, protocol=protocol, seeds=args.seeds, together=together, progress=False
        )
        took = time.process_time() - began
        print(f"{together} together: {took:.1f} s, {result}, {result.values.tolist()}", flush=True)


if __name__ == "__main__":
    main()
