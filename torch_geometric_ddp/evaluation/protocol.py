"""Protocols: how networks are trained before they are tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from torch_geometric_ddp._checks import (
    check_callable,
    check_flag,
    check_int,
    check_json,
    check_number,
    check_text,
    shown,
)
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.evaluation.augment import RandomRotation

__all__ = ["CPU", "PAPER", "QUICK", "SMOKE", "Protocol", "check_protocol"]


@dataclass(frozen=True)
class Protocol:
    r"""How a network is trained before it is tested.

    SGD with one decay of the learning rate; every cloud, real or synthetic, is centred and scaled
    to the unit ball. The papers have no augmentation.

    Args:
        name (str): What figures made by this protocol are called.
        epochs (int): Passes over the training set.
        lr (float): The learning rate. (default: :obj:`0.01`)
        momentum (float): The momentum. (default: :obj:`0.9`)
        weight_decay (float): The weight decay. (default: :obj:`5e-4`)
        batch_size (int): Clouds per step. (default: :obj:`8`)
        decay_after (float): The share of the epochs before the decay. (default: :obj:`0.5`)
        decay (float): The factor of the decay. (default: :obj:`0.1`)
        normalize (bool): Whether clouds are centred and scaled. (default: :obj:`True`)
        min_steps (int): The least number of steps; a set too small for them in :obj:`epochs` gets
            more epochs. (default: :obj:`0`)
        augment (RandomRotation, optional): Changes the clouds of every step, or a dataclass of
            one's own that does, whose fields JSON can hold. (default: nothing)

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of range.
    """

    name: str
    epochs: int
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 8
    decay_after: float = 0.5
    decay: float = 0.1
    normalize: bool = True
    min_steps: int = 0
    augment: RandomRotation | None = None

    def __post_init__(self) -> None:
        # As Python has them, for JSON.
        for name, least in (("min_steps", 0), ("epochs", 1), ("batch_size", 1)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), minimum=least))
        for name in ("lr", "momentum", "weight_decay", "decay_after", "decay"):
            number = check_number(name, getattr(self, name), exclusive=name == "lr")
            object.__setattr__(self, name, number)
        if self.momentum >= 1:
            raise ValueError(f"'momentum' must be below 1, got {self.momentum}")
        if self.decay_after > 1:
            raise ValueError(f"'decay_after' must be at most 1, got {self.decay_after}")
        check_text("name", self.name)
        check_flag("normalize", self.normalize)
        if self.augment is not None:
            _check_augment(self.augment)

    def steps_per_epoch(self, num_clouds: int) -> int:
        """The steps of a pass over so many clouds; one that is left over alone has none of its own.

        Such a cloud joins the batch before, since BatchNorm has no statistics of one row.
        """
        return max(1, -(-(num_clouds - 1) // self.batch_size))

    def epochs_for(self, num_clouds: int) -> int:
        """The passes over a training set of so many clouds."""
        return max(self.epochs, -(-self.min_steps // self.steps_per_epoch(num_clouds)))

    def to_dict(self) -> dict[str, Any]:
        """The settings, for JSON; without the augmentation where there is none.

        One of another class than :class:`RandomRotation` is told with its class.
        """
        told = {key: value for key, value in asdict(self).items() if value is not None}
        if self.augment is not None and type(self.augment) is not RandomRotation:
            # Fields alone would tell two classes alike; those of the package are told as before.
            told["augment"] = {"object": describe(type(self.augment)), "settings": told["augment"]}
        return told

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Protocol:
        """The protocol of such settings.

        Raises:
            TypeError, ValueError: If they are not those of a protocol, or their augmentation is
                none of this package.
        """
        if not isinstance(settings, Mapping):
            raise TypeError(f"'settings' must be a mapping, got {shown(settings)}")
        augment = settings.get("augment")
        if augment is not None:
            if not isinstance(augment, Mapping) or {*augment} != {"axis"}:
                raise ValueError(
                    "'augment' of these settings must be a RandomRotation of this package, got "
                    f"{shown(augment)}: give the protocol itself"
                )
            augment = RandomRotation(**augment)
        return cls(**{**settings, "augment": augment})


def _check_augment(augment: Any) -> None:
    """Raises unless it can be called and told, as figures tell what they were made with."""
    check_callable("augment", augment, optional=False)
    if not is_dataclass(augment) or isinstance(augment, type):
        raise TypeError(
            "'augment' must be a RandomRotation, or a dataclass whose fields JSON can hold, got "
            f"{shown(augment)}"
        )
    check_json("augment", asdict(augment))


def check_protocol(protocol: Any, name: str = "protocol") -> None:
    """Raises unless it is a protocol; names of protocols are none."""
    if not isinstance(protocol, Protocol):
        raise TypeError(f"'{name}' must be a Protocol, such as QUICK, got {shown(protocol)}")


#: The protocol of the papers (DDP, ICLR 2026, experiments), with 500 epochs and 10 seeds.
PAPER = Protocol("paper", epochs=500)
#: The same with fewer epochs, for figures made on a CPU. Ten clouds get the 1,000 steps that they
#: get in the paper, so that no set is judged by networks that have hardly left chance.
CPU = Protocol("cpu", epochs=200, min_steps=1000)
#: Fewer epochs still, for a first look in minutes.
QUICK = Protocol("quick", epochs=100, min_steps=1000)
#: A few epochs, to see that everything runs. Its accuracies mean nothing.
SMOKE = Protocol("smoke", epochs=2)
