"""Networks that were trained on the real clouds, each to another age."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from tqdm import tqdm

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp._seeding import seed_of, seeded
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching.kernel_regression import JointFeatures
from torch_geometric_ddp.methods.member_files import Member, kept_members
from torch_geometric_ddp.methods.networks import NetworkSource
from torch_geometric_ddp.nn import Backbone

__all__ = ["Member", "TrainedNetworks"]

# How the networks are trained; that of the evaluation, without decay.
_SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)


class Training(NamedTuple):
    """How networks are trained; see :class:`TrainedNetworks`."""

    seed: int
    ages: tuple[int, ...]
    num_trained: int
    sizes: tuple[int, ...]
    real_per_class: int


class TrainedNetworks(NetworkSource):
    r"""Hands out networks that were trained on the real clouds, a random one in every step.

    A few networks are trained as the evaluation trains, and kept as they are at several *ages*,
    numbers of training steps. Of every one, what it makes of some real clouds of each class, with
    all their points as in a test, is computed once. The clouds of a batch have one of several
    sizes; the smallest by farthest point sampling, as synthetic ones are made, the others by
    chance.

    Networks of one bank, seed and setting are trained once and shared by all runs of a process,
    and with a :obj:`cache`, of clouds on a CPU, by those of other processes, which find them in a
    file there. They are trained anew where the source of :obj:`make` or of the class of a layer
    has changed; what else these call is not looked at.

    Args:
        make (callable): Makes a backbone.
        bank (PointCloudBank): The real clouds.
        batch_size (int): Not used; the clouds that networks know are :obj:`real_per_class`.
        generator (torch.Generator): Chooses the network of a step; its seed is that of the
            training.
        sizes (sequence of int): How many points the clouds of a batch may have, as often as a
            number stands here; at most those of a real cloud. (default:
            :obj:`(64, 64, 128, 256)`)
        ages (sequence of int): The steps of training after which a network is kept, ascending.
            (default: :obj:`(0, 50, 100, 200, 400, 800, 1600)`)
        num_trained (int): How many networks are trained. (default: :obj:`4`)
        real_per_class (int): The real clouds of each class that a network knows.
            (default: :obj:`100`)

    Raises:
        TypeError: If a number is no integer.
        ValueError: If a number is too small or :obj:`ages` do not ascend; before networks are
            trained, if clouds are not of the unit ball, to which those of a regression and of an
            evaluation are scaled, or all points of one lie at one place.
    """

    streams = False  # They are trained on all real clouds.
    trains = False  # All runs of a bank share them.
    revision = 2  # Once the first began like a network that the set was judged by.

    def __init__(
        self,
        make: Callable[..., Backbone],
        bank: PointCloudBank,
        batch_size: int,
        generator: torch.Generator,
        *,
        sizes: Sequence[int] = (64, 64, 128, 256),
        ages: Sequence[int] = (0, 50, 100, 200, 400, 800, 1600),
        num_trained: int = 4,
        real_per_class: int = 100,
    ) -> None:
        super().__init__(make, bank, batch_size, generator)
        ages = tuple(check_int("ages", age, minimum=0) for age in ages)
        if not ages or sorted(set(ages)) != [*ages]:
            raise ValueError(f"'ages' must be ascending numbers of steps, got {ages}")
        sizes = tuple(min(check_int("sizes", size), bank.dense().size(1)) for size in sizes)
        if not sizes:
            raise ValueError("'sizes' must hold at least one number of points, got none")
        self._settings = (
            ages,
            check_int("num_trained", num_trained),
            sizes,
            check_int("real_per_class", real_per_class),
        )

    @property
    def num_members(self) -> int:
        """How many networks there are, of all ages."""
        ages, num_trained, *_ = self._settings
        return num_trained * len(ages)

    @property
    def real_per_class(self) -> int:
        """The real clouds of each class that a network knows."""
        return self._settings[-1]

    def num_features(self) -> int:
        """How many features a cloud has in a network, which is looked at untrained."""
        with seeded(0, self.bank.device), torch.no_grad():
            network = self.make(*self.bank.network_sizes).to(self.bank.device, self.bank.pos.dtype)
            layers = network.eval().cloud_layers(from_dense(self.bank.dense()[:1]))
        return sum(layer.size(1) for layer in layers)

    def members(self, progress: bool = False) -> list[Member]:
        """All networks, trained when they are first asked for."""
        seed = self.generator.initial_seed()
        training = Training(seed, *self._settings)
        return self.bank.cached(trained_members, self.make, training, progress=progress)

    def prepare(self) -> None:
        """Trains the networks."""
        self.members(self.progress)

    def fresh(self) -> Backbone:
        """A random one of the trained networks."""
        members = self.members()
        return members[int(torch.randint(len(members), (), generator=self.generator))].network

    def known(self, network: Backbone) -> dict[str, Tensor]:
        """The :obj:`features [C, B, F]` of real clouds, and for each class what made them."""
        (member,) = (m for m in self.members() if m.network is network)
        num_classes = len(member.features)
        parts = {"mean": member.joint.mean, "scale": member.joint.scale}
        made = {key: value.expand(num_classes, -1) for key, value in parts.items()}
        return {"features": member.features, **made}

    def config(self) -> dict[str, Any]:
        """The settings of the training, as JSON."""
        ages, num_trained, sizes, real_per_class = self._settings
        return {
            "ages": list(ages),
            "num_trained": num_trained,
            "sizes": list(sizes),
            "real_per_class": real_per_class,
            "revision": self.revision,
        }


def _check_scale(bank: PointCloudBank) -> None:
    """Raises unless the farthest points of all clouds lie at a distance of about one."""
    radii = bank.dense().norm(dim=-1).amax(dim=1)
    if not bool(((radii >= 0.5) & (radii <= 1.01)).all()):
        low, high = radii.aminmax()
        if low == 0:
            raise ValueError(
                "'dataset' must have no cloud whose points all lie at one place where networks are "
                f"trained on real clouds, got cloud {int(radii.argmin())}"
            )
        raise ValueError(
            "'normalize' must be True where networks are trained on real clouds, which are then of "
            f"the unit ball, got clouds of radius {float(low):.3g} to {float(high):.3g}"
        )


def trained_members(
    bank: PointCloudBank,
    make: Callable[..., Backbone],
    training: Training,
    progress: bool = False,
) -> list[Member]:
    """The networks of a bank, trained where no file of it keeps them; see :class:`TrainedNetworks`.

    Raises:
        FloatingPointError: If a network diverges.
    """

    def fresh() -> Backbone:
        with seeded(training.seed, bank.device):  # What they draw is overwritten.
            return make(*bank.network_sizes).to(bank.device, bank.pos.dtype)

    by = {"network": describe(make), "code": _code_of(make, fresh())}
    return kept_members(
        bank, by | training._asdict(), fresh, lambda: _train(bank, make, training, progress)
    )


def _code_of(make: Callable[..., Backbone], network: Backbone) -> str:
    """A digest of what trains and is trained, as far as it can be read."""
    made = make.func if isinstance(make, partial) else make
    # A function says little of what it makes, whose layers are of classes of their own.
    classes = dict.fromkeys(c for layer in network.modules() for c in type(layer).__mro__)
    digest = hashlib.sha256()
    for source in (sys.modules[__name__], made, *classes):
        # Those of PyTorch and PyG are told by their versions.
        if getattr(source, "__module__", "").partition(".")[0] not in ("torch", "torch_geometric"):
            with suppress(OSError, TypeError):  # Of what was typed, or is built in.
                digest.update(inspect.getsource(source).encode())
    return digest.hexdigest()


def _train(
    bank: PointCloudBank,
    make: Callable[..., Backbone],
    training: Training,
    progress: bool,
) -> list[Member]:
    seed, ages, num_trained, sizes, real_per_class = training
    _check_scale(bank)
    small = bank.partition(1, min(sizes), progress).squeeze(1)
    total = num_trained * max(ages)
    members = []
    with tqdm(total=total, desc="Train networks", unit="step", disable=not progress) as bar:
        for i in range(num_trained):
            # Not the seed of a network that the set is judged by, which would begin like this one.
            generator = torch.Generator().manual_seed(seed_of("trained networks", seed, i))
            with seeded(generator.initial_seed(), bank.device):
                network = make(*bank.network_sizes).to(bank.device, bank.pos.dtype)
                optimizer = _SGD(network.parameters())
                for step in range(max(ages) + 1):
                    if step in ages:
                        members.append(_kept(network, make, bank, real_per_class, generator))
                    network.train()
                    batch = _batch(bank, small, sizes, generator)
                    optimizer.zero_grad(set_to_none=True)
                    nn.functional.cross_entropy(network(batch), batch.y).backward()
                    optimizer.step()
                    bar.update(step < max(ages))
    return members


def _batch(
    bank: PointCloudBank, small: Tensor, sizes: tuple[int, ...], generator: torch.Generator
) -> Batch:
    """Eight random clouds of one of the sizes."""
    index = torch.randint(len(bank), (8,), generator=generator)
    size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
    if size == small.size(1):
        return from_dense(bank.pos[small[index]], y=bank.y[index])
    points = torch.randperm(bank.dense().size(1), generator=generator)[:size]
    return from_dense(bank.dense()[index][:, points], y=bank.y[index])


def _kept(
    network: Backbone,
    make: Callable[..., Backbone],
    bank: PointCloudBank,
    num: int,
    generator: torch.Generator,
) -> Member:
    """A frozen copy of a network, and what it makes of real clouds."""
    copy = make(*bank.network_sizes).to(bank.device, bank.pos.dtype)
    copy.load_state_dict(network.state_dict())
    copy.eval().requires_grad_(False)
    index = bank.draw(num, generator)
    pos = bank.dense()[index.flatten()]
    with torch.no_grad():
        parts = [copy.cloud_layers(from_dense(some)) for some in pos.split(32)]
    layers = [torch.cat(layer) for layer in zip(*parts, strict=True)]
    joint = JointFeatures.of(layers)
    features = joint(layers).view(*index.shape, -1)
    if not bool(torch.isfinite(features).all()):
        raise FloatingPointError("a network that was trained on the real clouds diverged")
    return Member(copy, joint, features)
