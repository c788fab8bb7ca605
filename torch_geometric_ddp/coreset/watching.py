"""Training a network on the whole real set to observe its clouds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_ddp._checks import (
    check_dataset,
    check_device,
    check_flag,
    check_maker,
    check_seed,
)
from torch_geometric_ddp._gradients import with_gradients
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp._version import versions
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.coreset.forgetting import ForgettingEvents
from torch_geometric_ddp.coreset.observation import Observation
from torch_geometric_ddp.evaluation import CPU, Protocol, fit
from torch_geometric_ddp.evaluation.protocol import check_protocol
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["global_features", "observe", "watch"]


@torch.no_grad()
def global_features(model: Backbone, bank: PointCloudBank) -> Tensor:
    """The feature of every cloud after the global pool of the network.

    Args:
        model (Backbone): The network, put in evaluation mode.
        bank (PointCloudBank): The clouds, taken as they are.

    Returns:
        The features :obj:`[n, F]` of all clouds.
    """
    model.eval()
    return torch.cat([model.global_features(batch) for batch in bank.batches()])


def watch(
    model: nn.Module,
    train: PointCloudBank,
    protocol: Protocol = CPU,
    seed: int = 0,
    bar: tqdm[Any] | None = None,
    task: Task | str = "classification",
) -> Observation:
    """Trains a network in place, as :func:`~torch_geometric_ddp.evaluation.fit` does, and watches.

    Takes the place of :func:`fit` where a training is made anyway, such as that of the whole set:

    .. code-block:: python

        seen = {}

        def trainer(model, train, protocol, seed, bar):
            seen[seed] = watch(model, train, protocol, seed, bar)

        whole = evaluate(train_set, test_set, protocol=protocol, seeds=[0], trainer=trainer)
        chosen = herding_coreset(train_set, 1, seen[0])

    Args:
        model (Backbone): The network, on the device of the clouds.
        train (PointCloudBank): The clouds, taken as they are.
        protocol (Protocol): How it is trained. (default: :obj:`CPU`)
        seed (int): Fixes the order of the clouds. (default: :obj:`0`)
        bar (tqdm, optional): A progress bar that counts epochs. (default: none)
        task (Task or str): :obj:`"classification"` or :obj:`"segmentation"`.
            (default: :obj:`"classification"`)

    Returns:
        The :class:`Observation`, on the CPU.

    Raises:
        TypeError: If the network is no :class:`~torch_geometric_ddp.nn.Backbone`, or :obj:`seed` no
            integer.
        FloatingPointError: If the network diverges.
    """
    model, seed = _checked(model), check_seed("seed", seed)
    events = ForgettingEvents(train.y) if find_task(task).one_label else None
    fit(model, train, protocol, seed, bar, events)
    config = {
        "network": type(model).__name__,
        "num_classes": train.num_classes,
        "protocol": protocol.to_dict(),
        "seed": seed,
        "device": train.device.type,
        "versions": versions(),
    }
    features = global_features(model, train)
    forgetting = None if events is None else events.counts().cpu()
    return Observation(features.cpu(), forgetting, train.y.cpu(), config)


def _checked(model: Any) -> Backbone:
    if not isinstance(model, Backbone):
        raise TypeError(
            "what 'network' makes must be a Backbone, which has global_features, got "
            f"{type(model).__name__}"
        )
    return model


@with_gradients
def observe(
    dataset: Iterable[Data],
    network: Callable[..., Backbone] | None = None,
    protocol: Protocol = CPU,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
    task: Task | str = "classification",
) -> Observation:
    """Trains one network on the whole real set and observes it.

    The training is that of :meth:`~torch_geometric_ddp.evaluation.evaluate` with the same protocol
    and seed, on a CPU bit for bit. Where that is done anyway, :meth:`watch` observes it.

    Args:
        dataset (Dataset): The real set. It is read once.
        network (callable, optional): Makes a backbone from the number of classes, or from the
            numbers of parts and categories. (default: that of the task)
        protocol (Protocol): How it is trained, and whether the clouds are normalised. (default:
            :obj:`CPU`, 200 epochs: fewer do for thousands of clouds)
        seed (int): Fixes the initial network, the order of the clouds and the dropout.
            (default: :obj:`0`)
        device (torch.device, optional): Where to train. (default: where the clouds lie)
        progress (bool): Whether to show the progress. (default: :obj:`True`)
        task (Task or str): :obj:`"classification"` or :obj:`"segmentation"`.
            (default: :obj:`"classification"`)

    Returns:
        The :class:`Observation`, on the CPU.

    Raises:
        TypeError: If :obj:`seed` is no integer, or :obj:`network` makes no backbone.
        ValueError: If :obj:`seed` is negative, a class has no clouds, or the items of
            :obj:`dataset` are not labelled as :obj:`task` needs them; all before any long work.
        FloatingPointError: If the network diverges.
    """
    seed = check_seed("seed", seed)
    task = find_task(task)
    check_dataset("dataset", dataset)
    check_protocol(protocol)
    check_maker("network", network)
    check_device("device", device)
    check_flag("progress", progress)
    read = task.read(dataset, device)
    read.check_every_class()
    bank = read.normalize() if protocol.normalize else read.unscaled()
    bar = tqdm(
        total=protocol.epochs_for(len(bank)), desc="Observe", unit="epoch", disable=not progress
    )
    with bar, seeded(seed, bank.device):
        model = _checked((network or task.network)(*bank.network_sizes)).to(bank.pos)
        seen = watch(model, bank, protocol, seed, bar, task)
    # As they were read: a device or processor may normalise them to other last bits.
    return replace(seen, config={**seen.config, "real_sha256": read.sha256()})
