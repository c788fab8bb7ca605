"""Repeating the figure that a distilled set tells, from its file alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_dataset
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp._version import versions
from torch_geometric_ddp.evaluation.evaluating import (
    Evaluation,
    evaluate,
    name_of,
    percent,
    seed_list,
)
from torch_geometric_ddp.evaluation.protocol import Protocol
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["Repeated", "network_of_figure", "repeat_figure", "told_figure"]

# What a set that tells its figure says of it at least.
_TOLD = {"backbone", "network", "protocol", "seeds", "metric", "value", "test_sha256"}


@dataclass(frozen=True)
class Repeated:
    """The figure of a set, made again.

    Args:
        told (dict): What the set tells of its figure; empty if it tells none.
        evaluation (Evaluation): The figure now.
        network (str): What the network is called now.
        differences (list of str): What was made otherwise than the set tells, in words.
    """

    told: Mapping[str, Any]
    evaluation: Evaluation
    network: str
    differences: list[str]

    def __str__(self) -> str:
        now, told = self.evaluation, self.told
        lines = [
            f"{now.metric}: {percent(now.values)} now "
            f"({self.network}, {now.protocol.name}, seeds {now.seeds})"
        ]
        if told:
            lines.append(
                f"{told['metric']}: {100 * told['value']:.1f} % in the file "
                f"({told['backbone']}, {told['protocol']['name']}, seeds {told['seeds']})"
            )
        lines += [f"They were made with another {what}." for what in self.differences]
        return "\n".join(lines)


def told_figure(synthetic: SyntheticPointCloudDataset) -> dict[str, Any]:
    """What a set tells of its figure: the figure, the network, the protocol, the seeds.

    Args:
        synthetic (SyntheticPointCloudDataset): The set.

    Returns:
        The figure and what it was made with; empty if the set tells none.

    Raises:
        ValueError: If it tells a part of it only.
    """
    told = synthetic.provenance.get("evaluated", {})
    if not isinstance(told, dict) or (told and not told.keys() >= _TOLD):
        raise ValueError(f"the figure that a set tells must have {sorted(_TOLD)}, got {told!r:.80}")
    return told


def network_of_figure(told: Mapping[str, Any], task: Task) -> Callable[..., nn.Module]:
    """Makes the networks that a figure was made with, one of those of this package.

    Args:
        told (dict): What a set tells of its figure (:func:`told_figure`).
        task (Task): What the networks learn.

    Raises:
        ValueError: If the package has no such network for the task.
    """
    described, known = told["network"], task.backbones
    # Tables call a network by its name and, after a comma, what is special about it.
    make: Callable[..., nn.Module] | None = known.get(str(told["backbone"]).partition(",")[0])
    keywords = described.get("keywords") if isinstance(described, dict) else None
    if make is not None and isinstance(keywords, dict):
        make = partial(make, **keywords)
    if make is None or describe(make) != described:
        raise ValueError(
            f"'network' must be given, as the figure was made with {described!r:.80}, which is "
            f"none of {', '.join(known)}"
        )
    return make


def repeat_figure(
    synthetic: SyntheticPointCloudDataset,
    test_set: Iterable[Data],
    network: Callable[..., nn.Module] | None = None,
    protocol: Protocol | None = None,
    seeds: int | Sequence[int] | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
    name: str | None = None,
    task: Task | str | None = None,
    workers: int = 1,
    together: int = 1,
) -> Repeated:
    """Trains again on a distilled set as the figure in its file says, and tells both figures.

    The sets of the programs and of :class:`~torch_geometric_ddp.comparison.Lab` tell the network,
    protocol and seeds of their figure, the test clouds by a digest, and the machine. What is given
    here takes their place, and is named among the differences, and so are other training clouds: a
    split or subset of the set, or what a transform or filter makes of it. With the same clouds,
    device, number of threads and versions the figure is the same.

    .. code-block:: python

        print(repeat_figure(SyntheticPointCloudDataset("set.safetensors"), test_set))

    Args:
        synthetic (SyntheticPointCloudDataset): The set.
        test_set (Dataset): The test clouds of the figure.
        network (callable, optional): Makes a network. (default: that of the figure)
        protocol (Protocol, optional): How it is trained. (default: that of the figure)
        seeds (int or sequence of int, optional): The seeds. (default: those of the figure)
        device (torch.device, optional): Where to train. (default: where the set lies)
        progress (bool): Whether to show the progress. (default: :obj:`True`)
        name (str, optional): What to call the network, also in the bar, which then stands alone.
            (default: its name)
        task (Task or str, optional): What networks learn. (default: what the set tells, else
            :obj:`"classification"`)
        workers (int): How many seeds are trained side by side, see
            :func:`~torch_geometric_ddp.evaluate`. (default: :obj:`1`)
        together (int): How many are trained in the operations of one. (default: :obj:`1`)

    Raises:
        TypeError, ValueError: As :func:`~torch_geometric_ddp.evaluate`; or if the set tells no
            figure and :obj:`network`, :obj:`protocol` or :obj:`seeds` is not given, tells a part of
            one only, or its network or what its protocol changes clouds by is none of this package
            and not given.
        FloatingPointError: If a network diverges.
    """
    if not isinstance(synthetic, SyntheticPointCloudDataset):
        raise TypeError(
            f"'synthetic' must be a SyntheticPointCloudDataset, got {type(synthetic).__name__}"
        )
    check_dataset("test_set", test_set)
    told = told_figure(synthetic)
    for what, given in {"network": network, "protocol": protocol, "seeds": seeds}.items():
        if given is None and not told:
            raise ValueError(f"'{what}' must be given for a set that tells no figure, got None")
    if task is None:
        task = synthetic.provenance.get("task", "classification")
    task = find_task(task)
    network = network_of_figure(told, task) if network is None else network
    protocol = Protocol.from_dict(told["protocol"]) if protocol is None else protocol
    seeds = seed_list(told["seeds"] if seeds is None else seeds)
    # Read once, so that a random transform draws what the digest is of.
    train, test = task.read(synthetic), task.read(test_set)
    place = train.device if device is None else device
    evaluation = evaluate(
        train,
        test,
        network,
        protocol,
        seeds,
        device,
        progress,
        name,
        task=task,
        workers=workers,
        together=together,
    )
    now = {
        "test set": ("test_sha256", test.sha256()),
        "network": ("network", describe(network)),
        "protocol": ("protocol", protocol.to_dict()),
        "choice of seeds": ("seeds", seeds),
        "device": ("device", str(torch.empty(0, device=place).device)),
        "number of threads": ("threads", 1 if workers > 1 else torch.get_num_threads()),
        "set of versions": ("versions", versions()),
    }
    # Sets of before do not tell of the machine.
    differences = [what for what, (key, value) in now.items() if told.get(key, value) != value]
    whole = SyntheticPointCloudDataset(
        synthetic.parameterization, class_names=synthetic.class_names
    )
    if task.read(whole).sha256() != train.sha256():  # The figure is that of all clouds.
        differences.insert(0, "set of training clouds")
    if together > 1:  # No figure that a file tells is of networks that were trained so.
        differences.append("way of training")
    called = name_of(network) if name is None else name
    return Repeated(told, evaluation, called, differences if told else [])
