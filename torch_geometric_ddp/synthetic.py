"""The distilled set as a PyG data set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch_geometric.data import Data

from torch_geometric_ddp import _hub
from torch_geometric_ddp._checks import (
    check_callable,
    check_finite,
    check_flag,
    check_json,
    check_names,
    check_text,
    shown,
)
from torch_geometric_ddp._files import read_tensors, write_tensors
from torch_geometric_ddp.budget import tensor_bits
from torch_geometric_ddp.clouds.class_names import known_names
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.datasets._columns import prepared
from torch_geometric_ddp.datasets._in_memory import InMemoryClouds
from torch_geometric_ddp.parameterization import Parameterization
from torch_geometric_ddp.parameterization.registry import UnknownClassError, class_named

__all__ = ["SyntheticPointCloudDataset"]

_KIND = "synthetic point cloud data set"
_VERSION = 1

Split = Literal["all", "anchors", "morphs"]

# Names of classes in a repr, and their letters.
_SHOWN, _LETTERS = 3, 20

# The set of the generated shapes that comes with the package.
_EXAMPLE = Path(__file__).with_name("example.safetensors")


class SyntheticPointCloudDataset(InMemoryClouds):
    r"""A distilled set of labelled point clouds.

    What is stored is the parameterization (for DDP the anchors and the weights), in one
    `safetensors <https://huggingface.co/docs/safetensors>`_ file with a JSON header; nothing is
    ever unpickled. What is handed out are the clouds that it unfolds to, as
    :obj:`Data(pos=[N, 3], y=[1])`; where points are labelled with parts, as :obj:`Data(pos=[N, 3],
    y=[N], category=[1])`, as :class:`torch_geometric.datasets.ShapeNet` does.

    .. code-block:: python

        from torch_geometric_ddp import SyntheticPointCloudDataset

        train_set = SyntheticPointCloudDataset("modelnet10_ppc1.safetensors")
        for batch in DataLoader(train_set, batch_size=8, shuffle=True): ...

    Args:
        source (str, path or Parameterization): The file, or a parameterization in memory, which
            is taken as its file would give it (:meth:`Parameterization.stored`).
        split (str): :obj:`"all"` clouds, the :obj:`"anchors"` (all that is stored as a cloud) or
            the :obj:`"morphs"` (computed from the anchors). (default: :obj:`"all"`)
        transform (callable, optional): Applied to a :obj:`Data` at every access.
        pre_transform (callable, optional): Applied to every :obj:`Data` once.
        pre_filter (callable, optional): Decides which :obj:`Data` to keep.
        class_names (sequence of str, optional): The names of the classes, where :obj:`source` is
            a parameterization. (default: their numbers)
        provenance (dict, optional): How the set was made, likewise; anything that JSON can hold.

    Raises:
        FileNotFoundError: If there is no file.
        TypeError: If an argument is of another type.
        ValueError: If the file is truncated, tampered with, of another kind, of a newer format
            version or of a class that is not imported, or an argument does not fit.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Parameterization,
        split: Split = "all",
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        *,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if split not in ("all", "anchors", "morphs"):
            raise ValueError(f"'split' must be 'all', 'anchors' or 'morphs', got {split!r}")
        if isinstance(source, Parameterization):
            self.parameterization = source.stored()
            names = [*map(str, range(source.num_classes))] if class_names is None else class_names
            self.class_names = check_names("class_names", names)
            self.provenance = _checked_provenance(provenance or {})
        elif class_names is not None or provenance is not None:
            raise ValueError("'class_names' and 'provenance' of a file are what the file says")
        elif not isinstance(source, str | os.PathLike):
            raise TypeError(f"'source' must be a file or a Parameterization, got {shown(source)}")
        else:
            self.parameterization, self.class_names, self.provenance = _read(Path(source))
        for name, call in (("transform", transform), ("pre_transform", pre_transform)):
            check_callable(name, call)
        check_callable("pre_filter", pre_filter)
        if len(self.class_names) != self.parameterization.num_classes:
            raise ValueError(
                f"'class_names' must name {self.parameterization.num_classes} classes, got "
                f"{len(self.class_names)}"
            )
        self.split = split
        super().__init__(None, transform, pre_transform, pre_filter)
        clouds = self._clouds()
        if not clouds:
            raise ValueError(f"no cloud is left of split='{split}' and 'pre_filter'")
        self.data, self.slices = self.collate(clouds)

    @classmethod
    def example(
        cls,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
    ) -> Self:
        """The distilled set of the generated shapes, which comes with the package.

        It is made of :class:`~torch_geometric_ddp.datasets.ParametricShapes` of 256 points, with
        the storage of one of them per class. :attr:`provenance` says how, and what PointNet
        reaches that is trained on it (docs/training.rst has the command).

        .. code-block:: python

            train_set = SyntheticPointCloudDataset.example()
            test_set = ParametricShapes(train=False, num_per_class=50, num_points=256)
            print(evaluate(train_set, test_set, protocol=QUICK, seeds=1))

        Args:
            transform (callable, optional): Applied to a :obj:`Data` at every access.
            pre_transform (callable, optional): Applied to every :obj:`Data` once.
        """
        return cls(_EXAMPLE, transform=transform, pre_transform=pre_transform)

    @classmethod
    def from_hub(
        cls,
        repo_id: str,
        filename: str = "distilled.safetensors",
        split: Split = "all",
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """A set from the Hugging Face Hub.

        Only the file that is named is fetched, and it is read like any file: nothing in it is
        unpickled, and no code of the repository is run.

        .. code-block:: python

            train_set = SyntheticPointCloudDataset.from_hub("name/modelnet10-distilled")

        Args:
            repo_id (str): The repository of a data set, like :obj:`"name/set"`.
            filename (str): The file in it. (default: :obj:`"distilled.safetensors"`)
            split (str): As above. (default: :obj:`"all"`)
            transform (callable, optional): Applied to a :obj:`Data` at every access.
            pre_transform (callable, optional): Applied to every :obj:`Data` once.
            pre_filter (callable, optional): Decides which :obj:`Data` to keep.
            revision (str, optional): A branch, tag or commit; of these only a commit always gives
                the same file. (default: the newest)
            token (str or bool, optional): Who asks. (default: who has logged in)
            cache_dir (str or path, optional): Where files are kept. (default: as the Hub does)
            local_files_only (bool): Whether to take only what is kept there.
                (default: :obj:`False`)

        Raises:
            ImportError: If huggingface-hub is not installed: the extra :obj:`hub`.
            TypeError: If an argument is of another type.
            ValueError: If a name is none, or the file is damaged or none of ours.
            OSError: If there is no such repository or file, or the Hub does not answer.
        """
        _hub.check_repo(repo_id, filename)
        check_text("revision", revision, optional=True)
        check_flag("local_files_only", local_files_only)
        path = _hub.download(
            repo_id,
            filename,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        return cls(path, split, transform, pre_transform, pre_filter)

    def push_to_hub(
        self,
        repo_id: str,
        filename: str = "distilled.safetensors",
        *,
        license: str,
        picture: Any = None,
        private: bool = False,
        revision: str | None = None,
        token: str | bool | None = None,
        message: str | None = None,
        overwrite_card: bool = False,
    ) -> str:
        """Shares the whole set on the Hugging Face Hub, with a card, as a data set.

        The card has what the file tells: how the set was made, its figure with network, protocol
        and seeds, and the command that repeats it; and the licence of the real clouds, of which
        parts can be seen in the set. A repository has one card: where there is one, of another set
        or edited by hand, it stays, and a warning says so.

        .. code-block:: python

            picture = plot_distilled(real, synthetic)
            synthetic.push_to_hub("name/modelnet10-distilled", license="other", picture=picture)

        Args:
            repo_id (str): The repository, which is made if it is not there.
            filename (str): What the file is called there.
                (default: :obj:`"distilled.safetensors"`)
            license (str): The licence of the real clouds, as the Hub calls it.
            picture (Figure, str or path, optional): A picture for the card, as Matplotlib or a PNG
                file has it; it is called like the file. (default: none)
            private (bool): Whether a new repository is private. (default: :obj:`False`)
            revision (str, optional): The branch, which must be there. (default: the main one)
            token (str or bool, optional): Who shares it. (default: who has logged in)
            message (str, optional): The message of the commit. (default: one that names the file)
            overwrite_card (bool): Whether the card takes the place of one that is there.
                (default: :obj:`False`)

        Returns:
            The address of the commit.

        Raises:
            ImportError: If huggingface-hub is not installed: the extra :obj:`hub`.
            TypeError: If an argument is of another type.
            ValueError: If a name is none, :obj:`license` is empty, a tensor is not finite, or
                :obj:`picture` is no PNG; all before the Hub is asked.
            OSError: If the Hub does not answer or does not let you.
        """
        _hub.check_repo(repo_id, filename)
        check_text("license", license)
        if not license.strip():
            raise ValueError("'license' must be that of the real clouds, got an empty text")
        check_flag("private", private)
        check_flag("overwrite_card", overwrite_card)
        check_text("revision", revision, optional=True)
        check_text("message", message, optional=True)
        _hub.check_card_picture(picture)
        card = _hub.write_card(
            self.provenance,
            self.describe(),
            self.storage_bits,
            repo_id,
            filename,
            license,
            picture is not None,
        )
        return _hub.upload(
            self.save,
            card,
            picture,
            repo_id,
            filename,
            token=token,
            private=private,
            revision=revision,
            commit_message=message or f"Add {filename}",
            overwrite_card=overwrite_card,
        )

    def _clouds(self) -> list[Data]:
        with torch.no_grad():
            batch = self.parameterization()
        morph = self.parameterization.is_morph()
        chosen = {"all": torch.ones_like(morph), "anchors": ~morph, "morphs": morph}[self.split]
        pos = batch.pos.detach().cpu().view(-1, batch.num_points, 3)
        labels = {"y": batch.y.cpu().view(len(pos), -1)}
        if self.space is not None:
            labels["category"] = batch.category.cpu().view(-1, 1)
        clouds = (
            Data(pos=pos[i].clone(), **{key: value[i].clone() for key, value in labels.items()})
            for i in chosen.nonzero().flatten().tolist()
        )
        return list(prepared(clouds, self.pre_filter, self.pre_transform))

    @property
    def space(self) -> PartSpace | None:
        """The parts that points are labelled with, if they are."""
        labels = self.parameterization.labels
        return None if labels is None else labels.space

    @property
    def num_classes(self) -> int:
        """The number of classes, also of a subset that lacks some; of parts if points have them."""
        return len(self.class_names) if self.space is None else self.space.num_parts

    @property
    def part_names(self) -> list[str] | None:
        """The names of the parts, if points are labelled."""
        return None if self.space is None else list(self.space.part_names)

    @property
    def category_parts(self) -> dict[str, list[int]] | None:
        """The parts of every category, if points are labelled."""
        if self.space is None:
            return None
        rows = zip(self.class_names, self.space.category_parts, strict=True)
        return {name: list(parts) for name, parts in rows}

    @property
    def storage_bits(self) -> int:
        """The bits of what is stored."""
        return self.parameterization.storage_bits()

    def describe(self) -> str:
        """What the set is, in a line for a person: its size, how it was made, and its figure."""
        made, words = self.provenance, [f"{self.parameterization.num_clouds} clouds"]
        words.append(f"{len(self.class_names)} {'classes' if self.space is None else 'categories'}")
        words += self.storage_words()
        words += [f"{made[key]!s:.60}" for key in ("method", "source") if key in made]
        return ", ".join([*words, *self.figure_words()])

    def storage_words(self) -> list[str]:
        """The PPC, if the set tells it, and the bits."""
        ppc = self.provenance.get("ppc")
        words = [f"PPC {ppc:g}"] if isinstance(ppc, int | float) else []
        return [*words, f"{self.storage_bits:,} bits"]

    def figure_words(self) -> list[str]:
        """What networks reached that were trained on it, if the set tells it."""
        told = self.provenance.get("evaluated")
        if not isinstance(told, dict) or not isinstance(told.get("value"), int | float):
            return []
        protocol = told.get("protocol")
        name = protocol.get("name") if isinstance(protocol, dict) else None
        by = "" if name is None else f" ({name!s:.60} protocol)"
        return [f"{told.get('metric', 'figure')!s:.60} {100 * told['value']:.1f} %{by}"]

    def __repr__(self) -> str:
        names = [name[:_LETTERS] for name in known_names(self.class_names)]
        if len(names) > _SHOWN:
            names[_SHOWN:] = ["..."]
        called = f" ({', '.join(names)})" if names else ""
        parts = [f"classes={len(self.class_names)}{called}", f"bits={self.storage_bits}"]
        parts += [
            f"{key}={self.provenance[key]!r:.60}"
            for key in ("ppc", "method")
            if key in self.provenance
        ]
        return f"{type(self).__name__}({', '.join([str(len(self)), *parts])})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the whole set to a file, atomically, whatever split or subset this is.

        Args:
            path (str or path): The file, usually :obj:`*.safetensors`.

        Raises:
            TypeError: If :attr:`provenance` is no mapping that JSON can hold; no file is written.
            ValueError: If a tensor of the parameterization is not finite; likewise.
            OSError: If the file cannot be written.
        """
        storage = self.parameterization.storage()
        for name, tensor in storage.items():
            check_finite(f"parameterization.{name}", tensor)
        header = {
            "parameterization": type(self.parameterization).__name__,
            "config": self.parameterization.config(),
            "num_classes": len(self.class_names),
            "ppc": self.parameterization.ppc,
            "bits": tensor_bits(storage),
            "class_names": self.class_names,
            "provenance": _checked_provenance(self.provenance),
        }
        write_tensors(path, storage, header, _KIND, _VERSION)


def _read(path: Path) -> tuple[Parameterization, list[str], dict[str, Any]]:
    tensors, header = read_tensors(path, _KIND, _VERSION)
    try:
        cls = class_named(Parameterization.registry, "parameterization", header["parameterization"])
        parameterization = cls.from_storage(
            tensors, header["config"], header["num_classes"], header["ppc"]
        )
        names = check_names("class_names", header["class_names"])
        provenance, bits = _checked_provenance(header["provenance"]), header["bits"]
    except UnknownClassError as error:
        raise ValueError(f"'{path}' holds a class that is not known here: {error}") from error
    except KeyError as error:
        raise ValueError(f"'{path}' is damaged: its header has no {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"'{path}' is damaged: {error}") from error
    if bits != parameterization.storage_bits():
        raise ValueError(
            f"'{path}' is damaged: its header says {bits} bits, its tensors have "
            f"{parameterization.storage_bits()}"
        )
    return parameterization, names, provenance


def _checked_provenance(provenance: Any) -> dict[str, Any]:
    if not isinstance(provenance, Mapping):
        raise TypeError(f"'provenance' must be a mapping, got {type(provenance).__name__}")
    check_json("provenance", dict(provenance))
    # As its file would give it, and apart from what the caller has.
    return dict(json.loads(json.dumps(dict(provenance))))
