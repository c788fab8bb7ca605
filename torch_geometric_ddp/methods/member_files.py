"""Files of trained networks, with which another process need not train them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_geometric_ddp._files import read_tensors, write_tensors
from torch_geometric_ddp._version import versions
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching.kernel_regression import JointFeatures
from torch_geometric_ddp.nn import Backbone

__all__ = ["Member", "kept_members"]

_KIND, _VERSION = "trained networks", 1


@dataclass(frozen=True, eq=False)
class Member:
    """A trained network and what it knows of some real clouds of every class.

    Args:
        network (Backbone): The network, frozen, in evaluation mode.
        joint (JointFeatures): Makes one feature of its layers from the global pool on.
        features (torch.Tensor): Those of the real clouds, :obj:`[C, B, F]`.
    """

    network: Backbone
    joint: JointFeatures
    features: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """All that it is, but for the kind of its network."""
        own = {"mean": self.joint.mean, "scale": self.joint.scale, "features": self.features}
        state = self.network.state_dict()  # Whose tensors may be tied.
        return {**own, **{f"network.{key}": value.clone() for key, value in state.items()}}

    @classmethod
    def of(cls, network: Backbone, tensors: Mapping[str, Tensor]) -> Member:
        """That of these :meth:`tensors`, which a network of their kind receives."""
        head = "network."
        state = {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
        network.load_state_dict(state)
        network.eval().requires_grad_(False)
        mean, scale, features = (tensors[key].clone() for key in ("mean", "scale", "features"))
        return cls(network, JointFeatures(mean, scale), features)  # Of no file any more.


def kept_members(
    bank: PointCloudBank,
    made_with: Mapping[str, Any],
    fresh: Callable[[], Backbone],
    train: Callable[[], list[Member]],
) -> list[Member]:
    """Networks of a file in the folder of a bank, or those that are trained, which it then keeps.

    A file that is damaged is written anew. Without a folder
    (:attr:`~torch_geometric_ddp.clouds.bank.PointCloudBank.kept_in`) they are trained.

    Args:
        bank (PointCloudBank): The real clouds that they are trained on.
        made_with (dict): All that tells them from others of these clouds, as JSON.
        fresh (callable): Makes a network of their kind.
        train (callable): Trains them.
    """
    if bank.kept_in is None:
        return train()
    # Another number of threads gives other last bits.
    machine = {"threads": torch.get_num_threads(), "versions": versions()}
    key = {**made_with, "real": bank.sha256(), **machine}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = bank.kept_in / f"networks-{name}.safetensors"
    with suppress(FileNotFoundError, ValueError, RuntimeError):  # Or for other layers.
        return _read(path, fresh)
    members = train()
    each = enumerate(member.tensors() for member in members)
    tensors = {f"{i}.{name}": tensor for i, part in each for name, tensor in part.items()}
    try:
        write_tensors(path, tensors, {"num_members": len(members), **key}, _KIND, _VERSION)
    except OSError as error:  # What was trained is not lost by it.
        warnings.warn(f"trained networks could not be kept in '{path}': {error}", stacklevel=2)
    return members


def _read(path: Path, fresh: Callable[[], Backbone]) -> list[Member]:
    tensors, header = read_tensors(path, _KIND, _VERSION)
    parts: list[dict[str, Tensor]] = [{} for _ in range(header["num_members"])]
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        parts[int(number)][name] = tensor
    return [Member.of(fresh(), part) for part in parts]
