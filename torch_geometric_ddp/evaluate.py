"""The evaluation protocol: train from scratch on one set, test on another, several seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_ddp._checks import check_float, check_int
from torch_geometric_ddp.augment import RandomRotation
from torch_geometric_ddp.bank import PointCloudBank
from torch_geometric_ddp.nn import PointNet
from torch_geometric_ddp.seeding import seeded

__all__ = ["CPU", "PAPER", "QUICK", "SMOKE", "Evaluation", "Protocol", "evaluate", "fit"]


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
        augment (RandomRotation, optional): Changes the clouds of every step. (default: nothing)
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
        check_int("min_steps", self.min_steps, minimum=0)
        check_int("epochs", self.epochs)
        check_int("batch_size", self.batch_size)
        check_float("lr", self.lr, exclusive=True)
        for name in ("momentum", "weight_decay", "decay_after", "decay"):
            check_float(name, getattr(self, name))

    def epochs_for(self, num_clouds: int) -> int:
        """The passes over a training set of so many clouds."""
        return max(self.epochs, -(-self.min_steps // -(-num_clouds // self.batch_size)))

    def to_dict(self) -> dict[str, Any]:
        """The settings, for JSON; without the augmentation where there is none."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def for_large_sets(self) -> Protocol:
        """The shortened version for sets of thousands of clouds; the paper's has none."""
        if self.name == PAPER.name:
            return self
        return replace(self, name=f"{self.name}-whole", epochs=max(1, self.epochs // 5))


#: The protocol of the papers (DDP, ICLR 2026, experiments), with 500 epochs and 10 seeds.
PAPER = Protocol("paper", epochs=500)
#: The same with fewer epochs, for figures made on a CPU.
CPU = Protocol("cpu", epochs=200)
#: Fewer still, for a first look in a minute.
QUICK = Protocol("quick", epochs=100)
#: A few epochs, to see that everything runs. Its accuracies mean nothing.
SMOKE = Protocol("smoke", epochs=2)


@dataclass(frozen=True)
class Evaluation:
    """The accuracies of several networks, one per seed.

    Args:
        accuracy (torch.Tensor): The share of test clouds classified rightly after the last
            epoch, :obj:`[S]`, in 0..1.
        confusion (torch.Tensor): How often true class (row) is taken for class (column), summed
            over the seeds, :obj:`[C, C]` (:obj:`int64`).
        class_names (list of str): The names of the classes.
        seeds (list of int): The seeds.
        protocol (Protocol): The protocol.
        num_clouds (int): The number of training clouds.
        num_points (int): The number of all their points.
    """

    accuracy: Tensor
    confusion: Tensor
    class_names: list[str]
    seeds: list[int]
    protocol: Protocol
    num_clouds: int
    num_points: int

    @property
    def mean(self) -> float:
        """The mean accuracy over the seeds, in 0..1."""
        return float(self.accuracy.mean())

    @property
    def std(self) -> float:
        """The sample standard deviation over the seeds, in 0..1; NaN for a single seed."""
        return float(self.accuracy.std()) if len(self.accuracy) > 1 else float("nan")

    @property
    def class_accuracy(self) -> Tensor:
        """The accuracy of every class over all seeds, :obj:`[C]`; NaN without test clouds."""
        return self.confusion.diagonal() / self.confusion.sum(dim=1)

    @classmethod
    def join(cls, evaluations: Sequence[Evaluation]) -> Evaluation:
        """One evaluation of several sets made alike, such as draws with different seeds."""
        first = evaluations[0]
        return replace(
            first,
            accuracy=torch.cat([evaluation.accuracy for evaluation in evaluations]),
            confusion=torch.stack([evaluation.confusion for evaluation in evaluations]).sum(dim=0),
            seeds=[seed for evaluation in evaluations for seed in evaluation.seeds],
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures and what they were made with, for JSON."""
        return {
            "accuracy": self.accuracy.tolist(),
            "mean": self.mean,
            "std": self.std if len(self.accuracy) > 1 else None,
            "confusion": self.confusion.tolist(),
            "class_names": self.class_names,
            "seeds": self.seeds,
            "protocol": self.protocol.to_dict(),
            "num_clouds": self.num_clouds,
            "num_points": self.num_points,
        }

    def __str__(self) -> str:
        return f"{percent(self.accuracy)} ({made_by(self.protocol, self.seeds)})"


def percent(values: Tensor) -> str:
    """The mean and, of several values, the sample standard deviation, in percent."""
    spread = f" ± {100 * float(values.std()):.1f}" if len(values) > 1 else ""
    return f"{100 * float(values.mean()):.1f}{spread} %"


def made_by(protocol: Protocol, seeds: Sequence[int]) -> str:
    """The protocol and the number of seeds, which every figure is read with."""
    return f"{protocol.name} protocol, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


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
    torch's global generators: make the network and train it inside of one
    :meth:`~torch_geometric_ddp.seeding.seeded` to repeat both.

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
    """
    if bar is None:
        bar = tqdm(disable=True)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=protocol.lr,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        fused=True,  # One pass over the parameters instead of several.
    )
    epochs = protocol.epochs_for(len(train))
    milestone = max(1, round(epochs * protocol.decay_after))
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [milestone], protocol.decay)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        total = torch.zeros((), device=train.device)
        batches = [*torch.randperm(len(train), generator=generator).split(protocol.batch_size)]
        if len(batches) > 1 and len(batches[-1]) == 1:  # Of one row BatchNorm has no statistics.
            batches[-2:] = [torch.cat(batches[-2:])]
        for index in batches:
            index = index.to(train.device)
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
        bar.set_postfix(loss=f"{float(total) / len(train):.3f}")


def evaluate(
    train_set: Iterable[Data],
    test_set: Iterable[Data],
    network: Callable[[int], nn.Module] = PointNet,
    protocol: Protocol = PAPER,
    seeds: int | Sequence[int] = 10,
    device: torch.device | str | None = None,
    progress: bool = True,
    name: str = "Evaluate",
    trainer: Trainer = fit,
) -> Evaluation:
    r"""Trains networks from scratch on one set and tests them on another.

    The protocol of the papers (DDP, ICLR 2026, experiments): no augmentation, the accuracy after
    the last epoch, several seeds. Every data set is read once, so that a random :obj:`transform`
    draws every cloud once.

    Args:
        train_set (Dataset): Labelled clouds, such as a :obj:`SyntheticPointCloudDataset`.
        test_set (Dataset): Labelled clouds of the same classes, never seen in training.
        network (callable): Makes a network from the number of classes; the network takes a PyG
            batch and gives logits :obj:`[B, C]`. (default: :obj:`PointNet`)
        protocol (Protocol): How it is trained. (default: :obj:`PAPER`)
        seeds (int or sequence of int): The seeds, or how many of them, counted from 0. A seed
            fixes the initial network, the order of the clouds and the dropout on one device and
            number of threads. (default: :obj:`10`)
        device (torch.device, optional): Where to train. (default: where the training set lies)
        progress (bool): Whether to show the progress. (default: :obj:`True`)
        name (str): What to call it in the progress bar. (default: :obj:`"Evaluate"`)
        trainer (callable): Trains a network in place, such as
            :meth:`~torch_geometric_ddp.coreset.watch`, which keeps what it sees of the training.
            (default: :meth:`fit`)

    Returns:
        The :class:`Evaluation`.

    Raises:
        TypeError, ValueError: If a set is empty, the classes differ or a cloud or a label does not
            fit.
    """
    seeds = seed_list(seeds)
    train = PointCloudBank.from_dataset(train_set, device)
    test = PointCloudBank.from_dataset(test_set, train.device)
    pairs = zip(train.class_names, test.class_names, strict=False)
    # Classes without names are called by their numbers.
    if any(a != b and str(i) not in (a, b) for i, (a, b) in enumerate(pairs)):
        raise ValueError(
            f"'train_set' and 'test_set' must have the same classes, got {train.class_names} and "
            f"{test.class_names}"
        )
    num_classes = max(train.num_classes, test.num_classes)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.long)
    accuracy: list[float] = []

    def score(model: nn.Module, test: PointCloudBank) -> str:
        table = _confusion(model, test, num_classes)
        confusion.add_(table)
        accuracy.append(int(table.diagonal().sum()) / int(table.sum()))
        return f"{100 * accuracy[-1]:.1f} %"

    train_and_score(
        train, test, lambda: network(num_classes), protocol, seeds, progress, name, trainer, score
    )
    class_names = max(train.class_names, test.class_names, key=len)
    points = int(train.sizes.sum())
    scores = torch.tensor(accuracy, dtype=torch.float64)
    return Evaluation(scores, confusion, class_names, seeds, protocol, len(train), points)


def seed_list(seeds: int | Sequence[int]) -> list[int]:
    """The seeds, or as many as are asked for, from 0."""
    seeds = list(range(check_int("seeds", seeds))) if isinstance(seeds, int) else list(seeds)
    if not seeds:
        raise ValueError("'seeds' must hold at least one seed, got none")
    return seeds


def train_and_score(
    train: PointCloudBank,
    test: PointCloudBank,
    make: Callable[[], nn.Module],
    protocol: Protocol,
    seeds: Sequence[int],
    progress: bool,
    name: str,
    trainer: Trainer,
    score: Callable[[nn.Module, PointCloudBank], str],
) -> None:
    """Trains a network with every seed and hands it to :obj:`score`, which says what it reached."""
    if protocol.normalize:
        train, test = train.normalize(), test.normalize()
    total = len(seeds) * protocol.epochs_for(len(train))
    with tqdm(total=total, desc=name, unit="epoch", disable=not progress) as bar:
        for seed in seeds:
            with seeded(seed, train.device):
                model = make().to(train.device)
                trainer(model, train, protocol, seed, bar)
            model.eval()
            with torch.no_grad():
                bar.set_postfix(accuracy=score(model, test))


def _confusion(model: nn.Module, test: PointCloudBank, num_classes: int) -> Tensor:
    guess = torch.cat([model(batch).argmax(dim=1) for batch in test.batches()])
    pairs = torch.bincount(test.y * num_classes + guess, minlength=num_classes**2)
    return pairs.view(num_classes, num_classes).cpu()
