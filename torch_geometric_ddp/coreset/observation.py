"""Observations: what a trained network says of the real clouds, in a file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_finite, check_tensor
from torch_geometric_ddp._files import read_tensors, write_tensors

__all__ = ["Observation"]

_KIND = "training observation"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Observation:
    """What a network trained on a real set says of its clouds; coresets are chosen from it.

    Args:
        features (torch.Tensor): The global feature of every cloud, :obj:`[n, F]`, see
            :meth:`global_features`.
        forgetting (torch.Tensor, optional): How often every cloud was forgotten, :obj:`[n]`
            (integers), see :class:`ForgettingEvents`; :obj:`None` where a cloud has several labels.
        y (torch.Tensor): The labels of the clouds, :obj:`[n]`.
        config (dict): How the network was trained; anything that JSON can hold. Coresets of other
            clouds than those of a :obj:`real_sha256` are refused.

    Raises:
        TypeError: If one of them is no tensor.
        ValueError: If a shape, type or value does not fit.
    """

    features: Tensor
    forgetting: Tensor | None
    y: Tensor
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_tensor("features", self.features, "n F")
        if self.features.dim() != 2 or not self.features.is_floating_point():
            raise ValueError(
                "'features' must have shape [n, F] and a floating point dtype, got "
                f"{list(self.features.shape)} and {self.features.dtype}"
            )
        check_finite("features", self.features)
        for name, value in (("forgetting", self.forgetting), ("y", self.y)):
            if value is None and name == "forgetting":
                continue
            value = check_tensor(name, value, "n")
            shape, dtype = list(value.shape), value.dtype
            if shape != [len(self.features)] or dtype.is_floating_point or dtype == torch.bool:
                raise ValueError(
                    f"'{name}' must be {len(self.features)} integers, one for every row of "
                    f"'features', got shape {shape} and {dtype}"
                )
        if self.forgetting is not None and bool((self.forgetting < 0).any()):
            raise ValueError(f"'forgetting' must be at least 0, got {int(self.forgetting.min())}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the observation to a file, atomically.

        Raises:
            TypeError: If :attr:`config` holds what JSON cannot; no file is written.
            OSError: If the file cannot be written.
        """
        tensors = {"features": self.features, "y": self.y}
        if self.forgetting is not None:
            tensors["forgetting"] = self.forgetting
        write_tensors(path, tensors, {"config": self.config}, _KIND, _VERSION)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Observation:
        """Reads a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no file.
            ValueError: If it is damaged or of another kind.
        """
        tensors, header = read_tensors(path, _KIND, _VERSION)
        try:
            values: dict[str, Any] = {"forgetting": None, **tensors}
            return cls(**values, config=header["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{path}' is damaged: {error}") from error
