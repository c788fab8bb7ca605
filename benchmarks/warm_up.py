"""Bytes of the pass in which BatchNorm sees real clouds, before each step of a distillation.

    python benchmarks/warm_up.py                 # calculates, in seconds
    python benchmarks/warm_up.py --clouds 80     # eight of each of ten classes

The pass of as many clouds of 1,024 points as it sees at most, on the device "meta", where nothing
is computed and no memory taken: the most bytes that tensors take at one time beside the parameters.
"""

import argparse
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.methods.networks import WARM_UP_POINTS
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.programs.option_types import positive
from torch_geometric_ddp.tasks import Classification, Segmentation

POINTS = 1024
# What networks are made from: the classes, or the parts and categories of ShapeNetPart.
SIZES = {Classification(): (40,), Segmentation(): (50, 16)}


class Held(TorchDispatchMode):
    """The bytes of the tensors that operations made and that are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known = weakref.WeakSet[Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            self._known.add(storage)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.now -= size


def makers() -> Iterator[tuple[str, Callable[[], Backbone]]]:
    """What makes every network of the package that has BatchNorm, by its name."""
    for task, sizes in SIZES.items():
        for name, make in task.backbones.items():
            if any(isinstance(module, _BatchNorm) for module in make(*sizes).modules()):
                yield name, partial(make, *sizes)


def warm_up_bytes(make: Callable[[], Backbone], num_clouds: int) -> int:
    """What the pass of so many clouds takes at most."""
    with torch.device("meta"):
        network = make().train()
        clouds = torch.empty(num_clouds, POINTS, 3)
    with Held() as held, torch.no_grad():
        network.cloud_layers(from_dense(clouds))
    return held.most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clouds", type=positive, default=WARM_UP_POINTS // POINTS)
    num_clouds = parser.parse_args().clouds
    print(f"GiB that the pass of {num_clouds} clouds of {POINTS:,} points takes:")
    for name, make in makers():
        print(f"{name}: {warm_up_bytes(make, num_clouds) / 2**30:.2f}", flush=True)


if __name__ == "__main__":
    main()
