"""What the coresets share: the real set and what was observed, and chosen clouds as a set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import scatter

from torch_geometric_ddp._checks import check_finite, check_int, check_ppc, check_tensor
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.coreset.observation import Observation
from torch_geometric_ddp.parameterization import FLOAT32, Codec, FullResolution
from torch_geometric_ddp.parameterization.codecs.base import check_codec
from torch_geometric_ddp.quotas import Quotas, check_quotas, first_of_each, told_quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = [
    "check_stored",
    "class_means",
    "counts_that_fit",
    "nearest_to_mean",
    "observed_coreset",
    "real_coreset",
]


def observed_coreset(
    name: str,
    choose: Callable[[PointCloudBank, Tensor, int], Tensor],
    dataset: Iterable[Data],
    ppc: float,
    observation: Observation,
    task: Task | str,
    num_points: int | None = None,
    codec: Codec = FLOAT32,
    seed: int | None = None,
    quotas: Quotas = "uniform",
) -> SyntheticPointCloudDataset:
    """Real clouds that are chosen by what a network learned of them.

    Args:
        name (str): What the choice is called.
        choose (callable): Gives as many clouds of every class, :obj:`[C, K]`, from the real clouds,
            their features :obj:`[n, F]` in double precision and this number. Those that come later
            do not change the first ones, which are taken where classes have different quotas.
        dataset (Dataset): The real set, clouds of one size.
        ppc (float): The storage, in full-resolution clouds per class.
        observation (Observation): What :func:`observe` saw of the same clouds.
        task (Task or str): What networks learn.
        num_points (int, optional): To how many points clouds are reduced. (default: to none)
        codec (Codec): How they are stored. (default: :class:`Float32`)
        seed (int, optional): That of the choice. (default: there is none)
        quotas (str or sequence of float): How the storage is divided among the classes.
            (default: :obj:`"uniform"`)

    Raises:
        TypeError, ValueError: If the data or :obj:`ppc` do not fit, another set was observed, or
            nothing fits.
    """
    task = find_task(task)
    num_points = check_stored(num_points, codec)
    check_quotas(quotas)
    bank, features = _observed(dataset, ppc, observation, task)
    counts = counts_that_fit(bank, ppc, num_points, codec, quotas)
    index = choose(bank, features, max(counts))
    provenance = {"method": name, "seed": seed, "observation": observation.config}
    return real_coreset(bank, index, provenance, task, ppc, num_points, codec, counts, quotas)


def counts_that_fit(
    bank: PointCloudBank,
    ppc: float,
    num_points: int | None = None,
    codec: Codec = FLOAT32,
    quotas: Quotas = "uniform",
) -> tuple[int, ...]:
    """How many clouds of every class fit; see :func:`observed_coreset`."""
    budget = bank.budget(ppc, quotas)
    return budget.counts(FullResolution.clouds_that_fit(budget, num_points, codec))


def _observed(
    dataset: Iterable[Data], ppc: float, observation: Observation, task: Task
) -> tuple[PointCloudBank, Tensor]:
    """Reads a real set that was observed.

    Returns:
        The clouds, and their features :obj:`[n, F]` on the same device in double precision, so
        that what is chosen doesn't hang on the order in which a sum is taken.

    Raises:
        TypeError, ValueError: If the data or :obj:`ppc` do not fit or another set was observed.
    """
    check_ppc(ppc)
    if not isinstance(observation, Observation):
        raise TypeError(f"'observation' must be an Observation, got {type(observation).__name__}")
    bank = task.read(dataset)
    bank.check_every_class()
    bank.dense()  # Raises if the clouds have different sizes.
    if not torch.equal(bank.y, observation.y.to(bank.y)):
        raise ValueError(
            "'observation' must be of the clouds of 'dataset' in their order, got one of "
            f"{len(observation.y)} clouds for {len(bank)} clouds of other labels"
        )
    seen = observation.config.get("real_sha256")  # Those of before do not tell it.
    if seen is not None and seen != bank.sha256():
        raise ValueError(
            "'observation' must be of the clouds of 'dataset', got one of other clouds with the "
            f"same labels ({seen}, here {bank.sha256()}); where a transform draws anew, read the "
            "set once, by PointCloudBank.from_dataset"
        )
    return bank, observation.features.to(bank.device, torch.float64)


def check_stored(num_points: int | None, codec: Codec) -> int | None:
    """Returns to how many points clouds are reduced, if they can be and be stored so."""
    check_codec("codec", codec)
    return None if num_points is None else check_int("num_points", num_points)


def class_means(bank: PointCloudBank, features: Tensor) -> Tensor:
    """The means :obj:`[C, F]` of the features :obj:`[n, F]` of every class."""
    return scatter(features, bank.y, dim_size=bank.num_classes, reduce="mean")


def nearest_to_mean(bank: PointCloudBank, features: Tensor, num: int = 1) -> Tensor:
    r"""The clouds of every class whose features lie nearest to the mean of the class.

    They come by :math:`\| f_i - \mu_c \|`, nearest first; PCC starts from them. A class with
    fewer than :obj:`num` clouds starts again from the nearest.

    Args:
        bank (PointCloudBank): The real clouds.
        features (torch.Tensor): Their features :obj:`[n, F]`.
        num (int): The number of clouds of each class. (default: :obj:`1`)

    Returns:
        Their indices :obj:`[C, num]`.

    Raises:
        TypeError, ValueError: If an argument does not fit or a class has no clouds.
    """
    if check_tensor("features", features, "n F").dim() != 2 or len(features) != len(bank):
        raise ValueError(
            f"'features' must have shape [{len(bank)}, F], a row for every cloud, got "
            f"{list(features.shape)}"
        )
    check_finite("features", features)
    features = features.to(bank.device, torch.float64)
    away = features - class_means(bank, features)[bank.y]
    return bank.smallest(away.square().sum(dim=1), num)


def real_coreset(
    bank: PointCloudBank,
    index: Tensor,
    provenance: Mapping[str, Any],
    task: Task,
    ppc: float,
    num_points: int | None,
    codec: Codec,
    counts: Sequence[int],
    quotas: Quotas,
) -> SyntheticPointCloudDataset:
    """The real clouds :obj:`index [C, K]` as a set.

    What is not stored in single precision is scaled to the unit ball before.

    Args:
        bank (PointCloudBank): The real clouds.
        index (torch.Tensor): Which are chosen, as many as :meth:`FullResolution.clouds_that_fit`.
        provenance (dict): How; it gains the task, the PPC, the bits and the indices.
        task (Task): What networks learn.
        ppc (float): The PPC of the budget.
        num_points (int, optional): To how many points they are reduced by farthest point sampling;
            none keeps them all.
        codec (Codec): How they are stored.
        counts (sequence of int): How many of every class are taken, the first ones.
        quotas (str or sequence of float): What these follow from.
    """
    chosen = first_of_each(index, counts)
    bank.dense()  # Raises if the clouds have different sizes.
    bank = bank.select(chosen)
    bank = bank.unscaled() if codec == FLOAT32 else bank.normalize()
    bank = bank if num_points is None else bank.farthest_points(num_points)
    pos, labels = task.stored(bank)
    together = bank.num_classes if len({*counts}) == 1 else 1
    clouds = FullResolution(pos, together, labels=labels, codec=codec).divide(counts)
    special = {} if codec == FLOAT32 else {"codec": codec.config()}
    provenance = {
        **provenance,
        **({} if num_points is None else {"num_points": num_points}),
        **special,
        **told_quotas(quotas),
        "task": task.name,
        "ppc": check_ppc(ppc),
        "bits": clouds.storage_bits(),
        "chosen": chosen.tolist(),
    }
    return SyntheticPointCloudDataset(clouds, class_names=bank.class_names, provenance=provenance)
