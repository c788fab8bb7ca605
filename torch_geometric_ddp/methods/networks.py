"""The networks of a distillation: a fresh one for every step, and its training between updates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from torch_geometric_ddp._checks import check_maker, shown
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.evaluation import Protocol, fit
from torch_geometric_ddp.matching import Matching
from torch_geometric_ddp.nn import Backbone

__all__ = ["NetworkSource"]

# The points that BatchNorm sees at most, which take no more than the classes of a chunk may.
WARM_UP_POINTS = 1 << 17

# How gradient matching trains its networks between two updates (DC, ICLR 2021, published code).
_INNER = Protocol("inner", epochs=1, momentum=0.5, weight_decay=0.0, decay=1.0, normalize=False)


class NetworkSource:
    r"""Makes networks without gradients of their own, ready to look at clouds.

    A network with BatchNorm first sees a batch of real clouds in training mode, which moves its
    running statistics a tenth of the way to those of the batch (by its usual momentum of 0.1), and
    keeps them from there on (DDP, ICLR 2026, and its published code). Of a batch of more than
    131,072 points, such as that of more than 16 classes of 1,024 points, it sees fewer clouds of
    every class.

    Args:
        make (callable): Makes a :class:`~torch_geometric_ddp.nn.Backbone` from the sizes that
            :attr:`PointCloudBank.network_sizes` tells.
        bank (PointCloudBank): The real clouds, whose type the networks have, and whose device
            unless the loop sets :attr:`device`.
        batch_size (int): Real clouds per class that BatchNorm sees.
        generator (torch.Generator): The source of all randomness, on the CPU.
    """

    #: Whether the real clouds may lie elsewhere than the networks.
    streams: ClassVar[bool] = True
    #: Whether a network may be trained between two updates, which others do not share.
    trains: ClassVar[bool] = True
    #: A higher number says that the same settings and seed make other networks than they once did.
    revision: ClassVar[int] = 1

    def __init__(
        self,
        make: Callable[..., Backbone],
        bank: PointCloudBank,
        batch_size: int,
        generator: torch.Generator,
    ) -> None:
        self.make, self.bank = make, bank
        #: Where the networks are.
        self.device = bank.device
        self.batch_size, self.generator = batch_size, generator
        #: Whether work that takes long shows bars.
        self.progress = True

    def fresh(self) -> Backbone:
        """A randomly initialised network, frozen."""
        device, dtype = self.device, self.bank.pos.dtype
        with seeded(self._seed(), device):
            network = _made(self.make, self.bank).to(device=device, dtype=dtype)
        self._freeze(network)
        return network

    def prepare(self) -> None:
        """Makes what takes long before the first step.

        (default: nothing)
        """

    def known(self, network: Backbone) -> dict[str, Tensor]:
        """What is known of real clouds as a network sees them, :obj:`[C, B, *]`, beside the views.

        (default: nothing)
        """
        return {}

    def config(self) -> dict[str, Any]:
        """The settings beside the network, as JSON; a fresh network has none."""
        return {}

    def train(self, network: Backbone, clouds: PointCloudBank, epochs: int) -> None:
        """Trains a network in place on clouds and freezes it again (DC, ICLR 2021, algorithm 1).

        By SGD with a learning rate of 0.01 and a momentum of 0.5, as in the published code. Other
        than there, batches are of 8 clouds and not of 256, and every training begins with an
        optimiser of its own, whose momentum is that of no training before.

        Args:
            network (Backbone): The network.
            clouds (PointCloudBank): The synthetic clouds as they are.
            epochs (int): How often it sees them all.
        """
        seed = self._seed()
        network.requires_grad_(True)
        with seeded(seed, self.device):  # Dropout reads the global generators.
            fit(network, clouds, replace(_INNER, epochs=epochs), seed)
        self._freeze(network)

    def _freeze(self, network: Backbone) -> None:
        """No gradient for the parameters, and real clouds for the statistics of BatchNorm."""
        network.requires_grad_(False).train()
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        if norms:
            index = self.bank.draw(self.batch_size, self.generator)
            with torch.no_grad():
                some = self.bank.dense()[self._some(index)]
                network.cloud_layers(from_dense(some.to(self.device)))
            for module in norms:
                module.eval()

    def _some(self, index: Tensor) -> Tensor:
        """As many of the clouds :obj:`index [C, B]` as have the most points, class after class."""
        most = max(1, WARM_UP_POINTS // self.bank.dense().size(1))
        if index.numel() <= most:
            return index.flatten()
        each = max(1, most // len(index))
        return index[:: -(-len(index) // most), :each].flatten()

    def _seed(self) -> int:
        return int(torch.randint(2**62, (), generator=self.generator))


def _made(make: Callable[..., Backbone], bank: PointCloudBank) -> Backbone:
    network = make(*bank.network_sizes)
    if not isinstance(network, Backbone):
        raise TypeError(f"'network' must make a Backbone, got {type(network).__name__}")
    return network


def check_matched(matching: Matching, make: Callable[..., Backbone], bank: PointCloudBank) -> None:
    """Raises unless it is a matching, which can compare what networks see of real clouds."""
    if not isinstance(matching, Matching):
        raise TypeError(f"'matching' must make a Matching, got {shown(matching)}")
    with torch.random.fork_rng(devices=[]):  # A run is the same whether one was made or not.
        matching.check(partial(_made, make, bank), bank)


def check_network(make: Callable[..., Backbone], bank: PointCloudBank) -> None:
    """Raises unless it can make a network for a real set, as far as is seen without making one."""
    check_maker("network", make, optional=False)
    sizes = f"({', '.join(map(str, bank.network_sizes))})"
    if isinstance(make, type) and not issubclass(make, Backbone):
        raise TypeError(f"'network' must make a Backbone, got the class {make.__name__}")
    try:
        inspect.signature(make).bind(*bank.network_sizes)
    except TypeError as error:
        raise TypeError(
            f"'network' must make a Backbone from the sizes {sizes}: {error}"
        ) from error
    except ValueError:  # Something that Python cannot look into.
        return
