"""The distillation loop, and the one function that most people need."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil  # PyG depends on it.
import torch
import torch_geometric
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch_geometric.data import Data
from tqdm import tqdm

import torch_geometric_ddp
from torch_geometric_ddp._checks import check_float, check_int
from torch_geometric_ddp._files import read_tensors, write_tensors
from torch_geometric_ddp.bank import PointCloudBank
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.datasets.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.matching import Matching, UniformityAwareSADM
from torch_geometric_ddp.nn import Backbone, PointNet
from torch_geometric_ddp.parameterization import Parameterization, ShapeMorphing
from torch_geometric_ddp.seeding import seeded

__all__ = ["Distillation", "distill"]

_KIND = "distillation checkpoint"
_VERSION = 1


class Distillation:
    r"""The loop that fits a parameterization to a real set, and the owner of all its state.

    Every step draws real clouds of every class and a randomly initialised network, whose
    parameters are frozen, unfolds the parameterization, and takes an SGD step on the sum of the
    class losses of the matching. A network with BatchNorm first sees a batch of real clouds in
    training mode and then keeps its statistics (DDP, ICLR 2026, and its published code).

    Args:
        bank (PointCloudBank): The real clouds.
        parameterization (Parameterization): What is optimised, on the device of the bank.
        matching (Matching): The loss.
        network (callable): Makes a :class:`~torch_geometric_ddp.nn.Backbone` from the number of
            classes. (default: :obj:`PointNet`)
        batch_size (int): Real clouds per class and step. (default: :obj:`8`)
        momentum (float): The momentum of SGD. (default: :obj:`0.5`, as in the published code)
        generator (torch.Generator, optional): The source of all randomness, on the CPU.
            (default: one seeded with 0)
        classes_per_chunk (int, optional): How many classes are computed at a time; fewer need
            less memory and give the same gradient. (default: as many as the memory allows)
    """

    def __init__(
        self,
        bank: PointCloudBank,
        parameterization: Parameterization,
        matching: Matching,
        network: Callable[[int], Backbone] = PointNet,
        batch_size: int = 8,
        momentum: float = 0.5,
        generator: torch.Generator | None = None,
        classes_per_chunk: int | None = None,
    ) -> None:
        bank.check_every_class()
        if parameterization.num_classes != bank.num_classes:
            raise ValueError(
                f"'parameterization' is for {parameterization.num_classes} classes, the real set "
                f"has {bank.num_classes}"
            )
        self.bank, self.parameterization, self.matching = bank, parameterization, matching
        self.network = network
        self.batch_size = check_int("batch_size", batch_size)
        self.generator = generator or torch.Generator().manual_seed(0)
        if classes_per_chunk is not None:
            check_int("classes_per_chunk", classes_per_chunk)
        self.classes_per_chunk = classes_per_chunk
        self.optimizer = torch.optim.SGD(
            parameterization.parameter_groups(), momentum=check_float("momentum", momentum)
        )
        with torch.no_grad():
            self._num_points: int = parameterization(slice(0, 1)).num_points
        #: What the matching compares of the real clouds, computed once, a row for each of them.
        self.views: dict[str, Tensor] = {}
        self.losses: list[float] = []

    @property
    def num_steps(self) -> int:
        """The number of steps taken so far."""
        return len(self.losses)

    def step(self) -> float:
        """Takes one step and returns the loss, the sum over all classes.

        Raises:
            FloatingPointError: If the loss is not finite; the parameters are as before the step.
        """
        if not self.views:
            self.views = self.matching.prepare(self.bank.dense(), self._num_points)
        network = self._new_network()
        index = self.bank.draw(self.batch_size, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.bank.device, dtype=self.bank.pos.dtype)
        for classes in self._chunks(network):
            real = self.take(index[classes])
            loss = self.matching(network, real, self.parameterization(classes)).sum()
            loss.backward()
            total += loss.detach()
        value = float(total)
        if not torch.isfinite(total):
            raise FloatingPointError(
                f"the loss of step {self.num_steps + 1} is {value}: lower the learning rates"
            )
        self.optimizer.step()
        self.losses.append(value)
        return value

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """The views of the real clouds :obj:`index [...]`, each :obj:`[..., *]`."""
        return {key: view[index] for key, view in self.views.items()}

    def run(
        self,
        steps: int,
        progress: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 50,
        callback: Callable[[Distillation], None] | None = None,
    ) -> None:
        """Goes on until :obj:`steps` steps have been taken altogether.

        Args:
            steps (int): The number of steps, those taken before included.
            progress (bool): Whether to show a progress bar with the loss. (default: :obj:`True`)
            checkpoint (str or path, optional): Where to write the state now and then, and at the
                end.
            checkpoint_every (int): Steps between two checkpoints. (default: :obj:`50`)
            callback (callable, optional): Called with this object after every step.
        """
        steps = check_int("steps", steps, minimum=0)
        check_int("checkpoint_every", checkpoint_every)
        if steps < self.num_steps:
            raise ValueError(
                f"'steps' must be at least the {self.num_steps} that were taken before, got {steps}"
            )
        bar = tqdm(
            total=steps, initial=self.num_steps, desc="Distill", unit="step", disable=not progress
        )
        with bar:
            while self.num_steps < steps:
                bar.set_postfix(loss=f"{self.step() / self.bank.num_classes:.4f}")
                bar.update()
                last = self.num_steps == steps
                if checkpoint is not None and (last or self.num_steps % checkpoint_every == 0):
                    self.save_checkpoint(checkpoint)
                if callback is not None:
                    callback(self)

    @cached_property
    def _real_sha256(self) -> str:
        sha = hashlib.sha256(self.bank.pos.cpu().numpy().tobytes())
        sha.update(self.bank.y.cpu().numpy().tobytes())
        return sha.hexdigest()[:16]

    def config(self) -> dict[str, Any]:
        """What a run must share with a checkpoint to go on from it, as JSON."""
        return {
            "parameterization": self.parameterization.describe(),
            "matching": type(self.matching).__name__,
            **self.matching.config(),
            "network": _name(self.network),
            "batch_size": self.batch_size,
            "seed": self.generator.initial_seed(),
            "momentum": self.optimizer.defaults["momentum"],
            "learning_rates": [group["lr"] for group in self.optimizer.param_groups],
            "num_real_clouds": len(self.bank),
            "real_sha256": self._real_sha256,
        }

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Writes all state of the loop: parameters, momentum, generator and losses."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameterization.named_parameters():
            tensors[f"parameter.{name}"] = parameter
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum.{name}"] = buffer
        tensors["generator"] = self.generator.get_state()
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        write_tensors(path, tensors, {"config": self.config()}, _KIND, _VERSION)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Goes back to a checkpoint; what follows is bit for bit what would have followed.

        Raises:
            FileNotFoundError: If there is no file.
            ValueError: If it is damaged or of a run with other settings or other data.
        """
        tensors, header = read_tensors(path, _KIND, _VERSION)
        mine, theirs = self.config(), header["config"]
        keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        if keys:
            listed = ", ".join(f"{k} ({theirs.get(k)!r}, now {mine.get(k)!r})" for k in keys)
            raise ValueError(
                f"the checkpoint '{path}' is of another run: it differs in {listed}; remove it or "
                "choose another place"
            )
        with torch.no_grad():
            for name, parameter in self.parameterization.named_parameters():
                parameter.copy_(tensors[f"parameter.{name}"])
                if f"momentum.{name}" in tensors:
                    buffer = tensors[f"momentum.{name}"].to(parameter)
                    self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.generator.set_state(tensors["generator"])
        self.losses = tensors["losses"].tolist()

    def _new_network(self) -> Backbone:
        seed = int(torch.randint(2**62, (), generator=self.generator))
        device, dtype = self.bank.device, self.bank.pos.dtype
        with seeded(seed, device):
            network = self.network(self.bank.num_classes).to(device=device, dtype=dtype)
        network.requires_grad_(False).train()
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        if norms:
            index = self.bank.draw(self.batch_size, self.generator).flatten()
            with torch.no_grad():
                network.point_features(from_dense(self.bank.dense()[index]))
            for module in norms:
                module.eval()
        return network

    def _chunks(self, network: Backbone) -> list[slice]:
        """Whole classes that fit the memory together; all of them where they do."""
        num_classes, size = self.bank.num_classes, self.classes_per_chunk
        if size is None:
            # The features of the real clouds are held twice, those of the synthetic ones, with
            # their order and gradients, about eight times.
            per_class = self.parameterization.num_clouds / num_classes
            points = sum(v[0].numel() for v in self.views.values() if v.dim() > 2) / 3
            floats = 3 * self.batch_size * points + 8 * per_class * self._num_points
            bytes_per_class = floats * network.point_channels * self.bank.pos.element_size()
            size = max(1, int(_free_bytes(self.bank.device) / 2 / bytes_per_class))
        return [slice(i, i + size) for i in range(0, num_classes, size)]


def distill(
    dataset: Iterable[Data],
    ppc: int = 1,
    *,
    num_anchors: int = 4,
    anchor_points: int | None = None,
    num_morphs: int = 16,
    uniformity_lambda: float = 1000.0,
    adaptive: bool = True,
    steps: int = 2000,
    batch_size: int = 8,
    network: Callable[[int], Backbone] = PointNet,
    anchor_lr: float = 8.0,
    weight_lr: float = 0.8,
    momentum: float = 0.5,
    normalize: bool = True,
    seed: int = 0,
    device: torch.device | str | None = None,
    source: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    callback: Callable[[Distillation], None] | None = None,
) -> SyntheticPointCloudDataset:
    r"""Distils a labelled set of point clouds into a set a hundred times smaller, by DDP.

    *Parameterization-Based Dataset Distillation of 3D Point Clouds through Learnable Shape
    Morphing* (ICLR 2026): anchors start from real clouds of every class, and they and the convex
    weights of their morphs (:class:`~torch_geometric_ddp.parameterization.ShapeMorphing`) are
    optimised together to look like the real clouds to random networks
    (:class:`~torch_geometric_ddp.matching.UniformityAwareSADM`), within the storage of
    :obj:`ppc` clouds per class (:class:`~torch_geometric_ddp.budget.StorageBudget`).

    .. code-block:: python

        synthetic = distill(ModelNet(root, '10', True, transform=...), ppc=1)
        synthetic.save('modelnet10_ppc1.safetensors')

    Args:
        dataset (Dataset): The real set: items with :obj:`pos [N1, 3]` and one label :obj:`y`, all
            of one size, every class with at least one cloud. It is read once.
        ppc (int): The storage, in full-resolution clouds per class :math:`K`. (default: :obj:`1`)
        num_anchors (int): Anchors per group :math:`M`. (default: :obj:`4`)
        anchor_points (int, optional): Points per anchor :math:`N_2`. (default: as many as fit)
        num_morphs (int): Morphs per group :math:`L`. (default: :obj:`16`)
        uniformity_lambda (float): The sharpness :math:`\lambda` of the uniformity penalty.
            (default: :obj:`1000.0`)
        adaptive (bool): Whether the weights are learned. (default: :obj:`True`)
        steps (int): Optimisation steps. (default: :obj:`2000`)
        batch_size (int): Real clouds per class and step. (default: :obj:`8`)
        network (callable): Makes a backbone from the number of classes. (default:
            :obj:`PointNet`)
        anchor_lr (float): Learning rate of the anchors. (default: :obj:`8.0`; the published code
            has 100 on a loss scaled by 0.08, which is the same, and the paper 10)
        weight_lr (float): Learning rate of the weights. (default: :obj:`0.8`; likewise 10)
        momentum (float): The momentum of SGD. (default: :obj:`0.5`)
        normalize (bool): Whether the real clouds are centred and scaled to the unit ball as they
            are read, as :meth:`evaluate` does; the learning rates are for clouds of that size.
            (default: :obj:`True`)
        seed (int): Makes the run repeatable on one device and number of threads.
            (default: :obj:`0`)
        device (torch.device, optional): Where to compute. (default: where the clouds lie)
        source (str, optional): What to call the real set in the provenance. (default: its
            :obj:`name` or class)
        checkpoint (str or path, optional): A file for the state of the run. If it exists, the run
            goes on from there, bit for bit.
        progress (bool): Whether to show progress bars. (default: :obj:`True`)
        callback (callable, optional): Called with the :class:`Distillation` after every step.

    Returns:
        The distilled set, on the CPU.

    Raises:
        TypeError, ValueError: If the data or an argument do not fit, before any long work.
    """
    check_int("ppc", ppc)
    check_int("steps", steps, minimum=0)
    check_int("seed", seed, minimum=0)
    if anchor_points is not None:
        check_int("anchor_points", anchor_points)
    matching = UniformityAwareSADM(uniformity_lambda, progress=progress)

    bank = PointCloudBank.from_dataset(dataset, device, progress=progress)
    bank.check_every_class()
    bank = bank.normalize() if normalize else bank
    full = bank.dense()
    budget = StorageBudget(full.size(1), bank.num_classes, ppc)
    largest = budget.largest_anchor_points(num_anchors, num_morphs if adaptive else 0)
    anchor_points = largest if anchor_points is None else anchor_points
    if anchor_points > largest:
        raise ValueError(
            f"'anchor_points'={anchor_points} does not fit the storage of ppc={ppc} clouds of "
            f"{full.size(1)} points per class: with num_anchors={num_anchors} and "
            f"num_morphs={num_morphs} it is at most {largest}"
        )

    generator = torch.Generator().manual_seed(seed)
    drawn = full[bank.draw(ppc * num_anchors, generator)]
    parameterization = ShapeMorphing.from_clouds(
        drawn,
        num_anchors,
        anchor_points,
        num_morphs,
        generator,
        adaptive,
        anchor_lr=anchor_lr,
        weight_lr=weight_lr,
    )
    bits = budget.check(parameterization)
    loop = Distillation(bank, parameterization, matching, network, batch_size, momentum, generator)
    if checkpoint is not None and Path(checkpoint).exists():
        loop.load_checkpoint(checkpoint)
    loop.run(steps, progress, checkpoint, callback=callback)

    provenance = {
        "method": "DDP" if adaptive else "DDP-static",
        "source": source or getattr(dataset, "name", None) or type(dataset).__name__,
        "num_points": full.size(1),
        "ppc": ppc,
        "bits": bits,
        "budget_bits": budget.bits,
        "steps": loop.num_steps,
        "normalize": normalize,
        **loop.config(),
        **parameterization.config(),
        "versions": versions(),
    }
    return SyntheticPointCloudDataset(
        parameterization.cpu(), class_names=bank.class_names, provenance=provenance
    )


def versions() -> dict[str, str]:
    """The versions of the packages that a result depends on."""
    return {
        "torch_geometric_ddp": torch_geometric_ddp.__version__,
        "torch": str(torch.__version__),
        "torch_geometric": torch_geometric.__version__,
    }


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def _name(network: Any) -> str:
    while hasattr(network, "func"):
        network = network.func
    return getattr(network, "__name__", type(network).__name__)
