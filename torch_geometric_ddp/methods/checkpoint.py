"""Checkpoints: the state of a distillation in a file, from which it goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_ddp._files import read_tensors, write_tensors

__all__ = ["read_checkpoint", "write_checkpoint"]

_KIND = "distillation checkpoint"
_VERSION = 2


def write_checkpoint(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    losses: Sequence[float],
) -> None:
    """Writes all state of a distillation, atomically.

    Args:
        path (str or path): The file.
        config (dict): What a run must share to go on from it, as JSON.
        module (torch.nn.Module): What is optimised.
        optimizer (torch.optim.Optimizer): Its optimiser, whose own :meth:`state_dict` is written.
        generator (torch.Generator): The source of all randomness.
        losses (sequence of float): The losses so far.
    """
    tensors: dict[str, Tensor] = {f"parameter.{k}": v for k, v in module.named_parameters()}
    state = _pack(optimizer.state_dict(), "optimizer", tensors)
    tensors["generator"] = generator.get_state()
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    write_tensors(path, tensors, {"config": dict(config), "optimizer": state}, _KIND, _VERSION)


def read_checkpoint(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> list[float]:
    """Brings a module, its optimiser and a generator to the state that a file holds.

    Args:
        path (str or path): The file.
        config (dict): What the run that wrote it must have been made with.
        module (torch.nn.Module): What is optimised.
        optimizer (torch.optim.Optimizer): Its optimiser.
        generator (torch.Generator): The source of all randomness.

    Returns:
        The losses so far.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is damaged, or :obj:`config` is not that of its run. Nothing has changed
            then.
    """
    tensors, header = read_tensors(path, _KIND, _VERSION)
    theirs = header["config"]
    keys = [key for key in {**config, **theirs} if config.get(key) != theirs.get(key)]
    if keys:
        listed = ", ".join(f"{k} ({theirs.get(k)!r}, now {config.get(k)!r})" for k in keys)
        raise ValueError(
            f"the checkpoint '{path}' is of another run: it differs in {listed}; remove it or "
            "choose another place"
        )
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensors[f"parameter.{name}"])
    optimizer.load_state_dict(_unpack(header["optimizer"], tensors))
    generator.set_state(tensors["generator"])
    return tensors["losses"].tolist()


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A tree of dicts, lists and numbers as JSON; its tensors move to :obj:`tensors`."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):  # As pairs, for the keys may be integers.
        pairs = [[key, _pack(item, f"{name}.{key}", tensors)] for key, item in value.items()]
        return {"items": pairs}
    if isinstance(value, list | tuple):
        return [_pack(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    return value


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that :meth:`_pack` took apart, with lists for tuples."""
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if isinstance(value, Mapping):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _unpack(item, tensors) for key, item in value["items"]}
    return value
