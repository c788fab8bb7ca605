"""The training of several networks in the operations of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from tqdm import tqdm

from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.evaluation.protocol import Protocol
from torch_geometric_ddp.evaluation.training import batches_of, check_loss, optimizer_of, which_seed
from torch_geometric_ddp.nn.vmap import is_vmap_error

__all__ = ["check_together", "fit_together"]


def check_together(train: PointCloudBank) -> None:
    """Raises unless networks can be trained together on these clouds.

    Raises:
        ValueError: If they have different sizes.
    """
    if train.num_points is None:
        raise ValueError(
            "'together' must be 1 for training clouds of different sizes, which are "
            f"{int(train.sizes.min())} to {int(train.sizes.max())} points: reduce them to one size"
        )


def fit_together(
    models: Sequence[nn.Module],
    train: PointCloudBank,
    protocol: Protocol,
    seeds: Sequence[int],
    bar: tqdm[Any],
) -> None:
    r"""Trains several networks in place, each as :meth:`fit` does with its seed.

    The parameters of all networks lie in tensors of one more dimension, and every operation of a
    step works on all of them (:obj:`torch.func.vmap`), so that a step takes as many operations as
    that of one network. Each network has its own initial weights, order of the clouds, random
    changes of them and dropout. But for dropout, which draws otherwise than alone, a network
    differs from that of :meth:`fit` by what another order of sums rounds.

    Args:
        models (sequence of torch.nn.Module): The networks, all made alike.
        train (PointCloudBank): The clouds, all of one size.
        protocol (Protocol): How they are trained.
        seeds (sequence of int): Fix the order of the clouds, one for every network.
        bar (tqdm): Counts the epochs of all networks.

    Raises:
        FloatingPointError: If the loss of an epoch is not finite.
        TypeError: If the network has an operation that :obj:`torch.func.vmap` does not support.
    """
    for model in models:
        model.train()
    template = models[0]
    parameters, buffers = stack_module_state(list(models))
    learned = {key: value for key, value in parameters.items() if value.requires_grad}
    fixed = {key: value for key, value in parameters.items() if not value.requires_grad}
    epochs = protocol.epochs_for(len(train))
    optimizer, scheduler = optimizer_of(learned.values(), protocol, epochs)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def loss(learned: dict[str, Tensor], kept: dict[str, Tensor], batch: dict[str, Tensor]) -> Any:
        pos = batch["pos"].view(-1, train.num_points or 0, 3)
        rest = {key: value for key, value in batch.items() if key != "pos"}
        clouds = from_dense(pos, **rest)
        logits = functional_call(template, {**learned, **kept}, (clouds,))
        return nn.functional.cross_entropy(logits, clouds.y)

    step, kept = vmap(grad_and_value(loss), randomness="different"), {**fixed, **buffers}
    with seeded(seeds[0], train.device):
        for epoch in range(1, epochs + 1):
            total = torch.zeros(len(models), device=train.device)
            orders = [batches_of(len(train), protocol, own, train.device) for own in generators]
            for index in map(torch.stack, zip(*orders, strict=True)):
                batch = _batches(train, index, protocol, generators)
                try:
                    grads, losses = step(learned, kept, batch)
                except RuntimeError as error:
                    raise _refusal(template, error) from error
                for key, value in learned.items():
                    value.grad = grads[key]
                optimizer.step()
                total += losses.detach() * index.size(1)
            scheduler.step()
            bar.update(len(models))
            means = [value / len(train) for value in total.tolist()]
            bar.set_postfix(loss=f"{sum(means) / len(means):.3f}")
            for seed, mean in zip(seeds, means, strict=True):
                with which_seed(seed):
                    check_loss(mean, epoch)
    with torch.no_grad():
        for key, values in {**parameters, **buffers}.items():
            for model, value in zip(models, values, strict=True):
                owner, _, name = key.rpartition(".")
                getattr(model.get_submodule(owner), name).copy_(value)


def _batches(
    train: PointCloudBank,
    index: Tensor,
    protocol: Protocol,
    generators: Sequence[torch.Generator],
) -> dict[str, Tensor]:
    """The clouds :obj:`index [S, B]` of the batches of all networks, points and labels."""
    left_out = ("batch", "ptr", "num_points")  # Made anew for each network.
    if protocol.augment is None:
        batch = train.batch(index.flatten())
        return {k: value.unflatten(0, (len(index), -1)) for k, value in batch if k not in left_out}
    augment = protocol.augment
    each = zip(index, generators, strict=True)
    changed = [augment(train.batch(rows), generator) for rows, generator in each]
    keys = [key for key in changed[0].keys() if key not in left_out]  # noqa: SIM118
    return {key: torch.stack([batch[key] for batch in changed]) for key in keys}


def _refusal(model: nn.Module, error: RuntimeError) -> Exception:
    """What is raised where a step fails: another error where the network is not made for it."""
    if not is_vmap_error(error):
        return error
    return TypeError(
        "'together' must be 1 for a network with operations that torch.func.vmap does not "
        f"support, such as {type(model).__name__}; of those of this package only PointNet has none"
    )
