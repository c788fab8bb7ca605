"""Training a network in place by a protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from torch_geometric_ddp._checks import check_seed
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.evaluation.protocol import PAPER, Protocol

__all__ = ["Trainer", "batches_of", "check_loss", "fit", "optimizer_of", "which_seed"]

#: Trains a network in place on clouds, by a protocol, with a seed and a bar that counts epochs.
Trainer = Callable[[nn.Module, PointCloudBank, Protocol, int, "tqdm[Any]"], object]


def fit(
    model: nn.Module,
    train: PointCloudBank,
    protocol: Protocol = PAPER,
    seed: int = 0,
    bar: tqdm[Any] | None = None,
    observer: Callable[[Tensor, Tensor], None] | None = None,
) -> None:
    r"""Trains a network in place by a protocol, as :meth:`evaluate` does.

    SGD on the cross-entropy; every epoch takes all clouds once, in a new order; a single cloud that
    is left over joins the batch before. Dropout reads
    torch's global generators: call :obj:`torch.manual_seed` before the network is made to repeat
    both.

    Args:
        model (torch.nn.Module): The network, on the device of the clouds. It takes a PyG batch and
            gives logits :obj:`[B, C]`, or :obj:`[ΣN, P]` where points are labelled with parts.
        train (PointCloudBank): The clouds, taken as they are: the caller normalises them where the
            protocol says so.
        protocol (Protocol): How it is trained. (default: :obj:`PAPER`)
        seed (int): Fixes the order of the clouds. (default: :obj:`0`)
        bar (tqdm, optional): A progress bar that counts epochs. (default: none)
        observer (callable, optional): Called after every forward pass with the clouds of the batch
            :obj:`index [B]` and their logits :obj:`[B, C]`, detached, in training mode.

    Raises:
        TypeError, ValueError: If :obj:`seed` is none.
        FloatingPointError: If the loss of an epoch is not finite.
    """
    seed = check_seed("seed", seed)
    if bar is None:
        bar = tqdm(disable=True)
    epochs = protocol.epochs_for(len(train))
    optimizer, scheduler = optimizer_of(model.parameters(), protocol, epochs)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for epoch in range(1, epochs + 1):
        total = torch.zeros((), device=train.device)
        for index in batches_of(len(train), protocol, generator, train.device):
            batch = train.batch(index)
            if protocol.augment is not None:
                batch = protocol.augment(batch, generator)
            logits = model(batch)
            if observer is not None:
                observer(index, logits.detach())
            loss = nn.functional.cross_entropy(logits, batch.y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
        scheduler.step()
        bar.update()
        mean = float(total) / len(train)
        bar.set_postfix(loss=f"{mean:.3f}")
        check_loss(mean, epoch)


def optimizer_of(
    parameters: Iterable[Tensor], protocol: Protocol, epochs: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimiser of a protocol, and what lowers its learning rate after an epoch."""
    optimizer = torch.optim.SGD(
        parameters,
        lr=protocol.lr,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        fused=True,  # One pass over the parameters instead of several.
    )
    milestone = max(1, round(epochs * protocol.decay_after))
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [milestone], protocol.decay)


def batches_of(
    num: int, protocol: Protocol, generator: torch.Generator, device: torch.device
) -> list[Tensor]:
    """The batches of an epoch: indices of all clouds, in a new order."""
    # One copy to a device, for which a step would wait.
    order = torch.randperm(num, generator=generator).to(device)
    batches = [*order.split(protocol.batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:  # Of one row BatchNorm has no statistics.
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def check_loss(mean: float, epoch: int) -> None:
    """Raises where the mean loss of an epoch is not finite."""
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss of epoch {epoch} is {mean}: lower 'lr'")


@contextmanager
def which_seed(seed: int) -> Iterator[None]:
    """Says of a network that diverges inside which one it is."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"the network of seed {seed}: {error}") from error
