"""The distillation loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psutil  # PyG depends on it.
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from torch_geometric_ddp._checks import check_float, check_int
from torch_geometric_ddp._files import read_tensors, write_tensors
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.evaluation import Protocol, fit
from torch_geometric_ddp.matching import Matching
from torch_geometric_ddp.memory import saved_bytes
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.parameterization import Parameterization
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["Distillation"]

_KIND = "distillation checkpoint"
_VERSION = 1
# How gradient matching trains its networks between two updates (DC, ICLR 2021, published code).
_INNER = Protocol("inner", epochs=1, momentum=0.5, weight_decay=0.0, normalize=False)


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
        network (callable, optional): Makes a :class:`~torch_geometric_ddp.nn.Backbone` from the
            number of classes, or from those of parts and categories. (default: that of the task)
        batch_size (int): Real clouds per class and step. (default: :obj:`8`)
        momentum (float): The momentum of SGD. (default: :obj:`0.5`, as in the published code)
        generator (torch.Generator, optional): The source of all randomness, on the CPU.
            (default: one seeded with 0)
        outer_loops (int): Updates of the synthetic set with every network, which one step counts
            together (DC, ICLR 2021, algorithm 1). (default: :obj:`1`)
        inner_epochs (int): Epochs of training on the synthetic set that the network receives
            between two updates. (default: :obj:`1`)
        classes_per_chunk (int, optional): How many classes are computed at a time; fewer need
            less memory and give the same gradient. (default: as many as the memory allows)

    Raises:
        TypeError, ValueError: If an argument does not fit, or the parameterization labels points
            otherwise than the real set.
    """

    def __init__(
        self,
        bank: PointCloudBank,
        parameterization: Parameterization,
        matching: Matching,
        network: Callable[..., Backbone] | None = None,
        batch_size: int = 8,
        momentum: float = 0.5,
        generator: torch.Generator | None = None,
        outer_loops: int = 1,
        inner_epochs: int = 1,
        classes_per_chunk: int | None = None,
        task: Task | str = "classification",
    ) -> None:
        self.task = find_task(task)
        bank.check_every_class()
        if parameterization.num_classes != bank.num_classes:
            raise ValueError(
                f"'parameterization' is for {parameterization.num_classes} classes, the real set "
                f"has {bank.num_classes}"
            )
        self.bank, self.parameterization, self.matching = bank, parameterization, matching
        self.network = self.task.network if network is None else network
        self.batch_size = check_int("batch_size", batch_size)
        self.generator = generator or torch.Generator().manual_seed(0)
        self.outer_loops = check_int("outer_loops", outer_loops)
        self.inner_epochs = check_int("inner_epochs", inner_epochs)
        if classes_per_chunk is not None:
            check_int("classes_per_chunk", classes_per_chunk)
        self.classes_per_chunk = classes_per_chunk
        groups = [{**g, "initial_lr": g["lr"]} for g in parameterization.parameter_groups()]
        self.optimizer = torch.optim.SGD(groups, momentum=check_float("momentum", momentum))
        with torch.no_grad():
            self._num_points: int = parameterization(slice(0, 1)).num_points
        self.task.check(bank, parameterization.labels, self._num_points)
        #: What the matching compares of the real clouds, computed once, a row for each of them.
        self.views: dict[str, Tensor] = {}
        self.losses: list[float] = []
        self._saved_per_point: float | None = None

    @property
    def num_steps(self) -> int:
        """The number of steps taken so far."""
        return len(self.losses)

    def prepare(self, progress: bool = False) -> None:
        """Computes :attr:`views`, if they are not there yet; the first step does it otherwise."""
        if not self.views:
            self.views = self.matching.prepare(self.bank, self._num_points, progress)

    def step(self) -> float:
        """Takes one step and returns the loss, the sum over all classes.

        Raises:
            FloatingPointError: If the loss is not finite; the parameters are as before its update.
        """
        self.prepare()
        for group in self.optimizer.param_groups:
            if "halve_every" in group:
                halvings = self.num_steps // group["halve_every"]
                group["lr"] = group["initial_lr"] * 0.5**halvings
        # A network may draw before the features: dropout, or a random first point.
        seed = (self.generator.initial_seed() + self.num_steps) % 2**63
        with seeded(seed, self.bank.device):
            network = self._new_network()
            value = self._update(network)
            for _ in range(1, self.outer_loops):
                self._train(network)
                value = self._update(network)
        self.losses.append(value)
        return value

    def _update(self, network: Backbone) -> float:
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
        return value

    def _train(self, network: Backbone) -> None:
        """Trains the network of the step on the synthetic set as it is (DC, algorithm 1)."""
        with torch.no_grad():
            batch = self.parameterization()
        synthetic = self.task.bank_of(batch, self.bank)
        seed = int(torch.randint(2**62, (), generator=self.generator))
        network.requires_grad_(True)
        with seeded(seed, self.bank.device):  # Dropout reads the global generators.
            fit(network, synthetic, replace(_INNER, epochs=self.inner_epochs), seed)
        self._freeze(network)

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
        if self.num_steps < steps:
            self.prepare(progress)
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
            "learning_rates": [group["initial_lr"] for group in self.optimizer.param_groups],
            "outer_loops": self.outer_loops,
            "inner_epochs": self.inner_epochs,
            "num_real_clouds": len(self.bank),
            "real_sha256": self.bank.sha256(),
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
            network = self.network(*self.bank.network_sizes).to(device=device, dtype=dtype)
        self._freeze(network)
        return network

    def _freeze(self, network: Backbone) -> None:
        """No gradient for the parameters, and the statistics of real clouds for BatchNorm."""
        network.requires_grad_(False).train()
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        if norms:
            index = self.bank.draw(self.batch_size, self.generator).flatten()
            with torch.no_grad():
                network.global_features(from_dense(self.bank.dense()[index]))
            for module in norms:
                module.eval()

    def _chunks(self, network: Backbone) -> list[slice]:
        """Whole classes that fit the memory together; all of them where they do."""
        num_classes, size = self.bank.num_classes, self.classes_per_chunk
        if size is None:
            ours = self.parameterization.num_clouds / num_classes * self._num_points
            real = self.batch_size * sum(v[0].numel() for v in self.views.values() if v.dim() > 2)
            # The features of the real clouds are held twice, those of the synthetic ones, with
            # their order and gradients, about eight times.
            floats = (real + 8 * ours) * network.point_channels
            # And what the layers keep; without a gradient, some of it is there for a moment.
            layers = (real / 9 + ours) * self._layer_bytes(network)
            bytes_per_class = floats * self.bank.pos.element_size() + layers
            size = max(1, int(_free_bytes(self.bank.device) / 2 / bytes_per_class))
        return [slice(i, i + size) for i in range(0, num_classes, size)]

    def _layer_bytes(self, network: Backbone) -> float:
        """What the network keeps for the gradient of a point, measured once on a class."""
        if self._saved_per_point is None:
            batch, shared = self.parameterization(slice(0, 1)), [*network.parameters()]
            with seeded(0, self.bank.device):
                size = saved_bytes(lambda: network.point_features(batch), shared)
            self._saved_per_point = size / len(batch.pos)
        return self._saved_per_point


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def _name(network: Any) -> str:
    while hasattr(network, "func"):
        network = network.func
    return getattr(network, "__name__", type(network).__name__)
