"""The base class of readers: files of a published data set in, one checked cache out."""

from __future__ import annotations

import http.client
import inspect
import os
import re
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch_geometric.data import Data, download_url, extract_zip
from tqdm import tqdm

from torch_geometric_ddp._checks import check_names
from torch_geometric_ddp._files import turn
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.datasets._columns import prepared, read_columns, write_clouds
from torch_geometric_ddp.datasets._formats import DamagedFileError
from torch_geometric_ddp.datasets._in_memory import InMemoryClouds
from torch_geometric_ddp.datasets._options import complete_arguments, complete_signature
from torch_geometric_ddp.datasets._sampling import Sampling, check_sampling, choose_points
from torch_geometric_ddp.datasets._scan import Scan
from torch_geometric_ddp.transforms._single import take_points

_BLOCK = 64


class Benchmark(InMemoryClouds):
    r"""Base class of a published data set that lies in files of its own format.

    A reader says what its files are (:obj:`raw_file_names`), where they come from
    (:attr:`source`), what the classes are called and how to read a split. All splits are
    processed at once, as in PyG, to a folder of :obj:`root/processed` that names whatever changes
    the result: to temporary files which take their places when all is read and checked. These
    files have a checksum, and nothing in them is unpickled.

    A reader with arguments of its own takes :class:`ReaderOptions` beside them and hands these on.
    It describes its own; those below come into its signature and its docstring by themselves.

    Args:
        root (str or path): The folder of the data set.
        split (str): :obj:`"train"` or :obj:`"test"`. (default: :obj:`"train"`)
        num_points (int, optional): The points to keep of each cloud, or :obj:`None` for all.
            (default: :obj:`1024`)
        sampling (str): Which: the :obj:`"first"`, those of farthest point sampling
            (:obj:`"fps"`), or a :obj:`"random"` subset drawn once. (default: :obj:`"first"`)
        transform (callable, optional): Applied to a :obj:`Data` at every access.
        pre_transform (callable, optional): Applied to every :obj:`Data` once, after sampling.
        pre_filter (callable, optional): Decides which :obj:`Data` to keep.
        force_reload (bool): Whether to process the files again. (default: :obj:`False`)
        strict (bool): Whether the set must have the published size. (default: :obj:`True`)
    """

    #: The splits there are.
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    #: Where a person finds the files.
    source: str
    #: An archive that may be downloaded without asking, and the folder that it holds.
    url: str | None = None
    #: Whether clouds with too few points repeat theirs instead of raising.
    repeats: ClassVar[bool] = False
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__signature__ = complete_signature(cls, Benchmark)
        if cls.__doc__ and Benchmark.__doc__:  # Python leaves them out under -OO.
            cls.__doc__ = complete_arguments(cls.__doc__, cls.__signature__, Benchmark.__doc__)

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        num_points: int | None = 1024,
        sampling: Sampling = "first",
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        force_reload: bool = False,
        strict: bool = True,
    ) -> None:
        if split not in self.splits:
            raise ValueError(f"'split' must be one of {self.splits}, got {split!r}")
        check_sampling(num_points, sampling)
        self.split, self.strict = split, strict
        self.num_points, self.sampling = num_points, sampling
        # Before any is used, as what an object holds may change by that.
        self._made_by = {
            "pre_transform": describe(pre_transform),
            "pre_filter": describe(pre_filter),
        }
        root = os.fspath(root)
        super().__init__(root, transform, pre_transform, pre_filter, force_reload=force_reload)
        self._read_cache()

    def _read_cache(self) -> None:
        path = Path(self.processed_paths[self.splits.index(self.split)])
        try:
            self.data, self.slices, header = read_columns(path)
            self.class_names = check_names("class_names", header["class_names"])
            self._check_values()
        except Exception as error:  # Any file may lie there.
            raise ValueError(
                f"'{path}' is damaged: delete the folder '{path.parent}', or pass "
                f"force_reload=True, to process the data set again ({error})"
            ) from error
        for name, described in self._made_by.items():
            told = header.get(name)
            if told != described and told != _as_before(getattr(self, name)):
                warnings.warn(
                    f"'{path}' was made with another '{name}' ({told!s:.200}): pass "
                    "force_reload=True to process the data set again",
                    stacklevel=4,
                )

    def _check_values(self) -> None:
        """Raises if a position or a label is none, as only :obj:`pre_transform` can make them."""
        pos = self._data.pos
        # Least and largest are NaN if any is.
        if not bool(torch.isfinite(torch.stack(torch.aminmax(pos))).all()):
            raise ValueError("its 'pos' must be finite, it has NaN or infinite values")
        for key, bound in (("y", self.num_classes), ("category", len(self.class_names))):
            labels = self._data.get(key)
            if labels is not None and labels.dtype == torch.int64 and labels.numel():
                low, high = (int(end) for end in torch.aminmax(labels))
                if low < 0 or high >= bound:
                    raise ValueError(f"its '{key}' must lie in 0..{bound - 1}, got {low}..{high}")

    @property
    def variant_name(self) -> str:
        """What is read, a name for the folder of the cache."""
        raise NotImplementedError

    @property
    def published_sizes(self) -> Mapping[str, int]:
        """The published number of clouds of the splits, where there is one."""
        return {}

    def read_class_names(self) -> list[str]:
        """The names of the classes, in the order of their labels."""
        raise NotImplementedError

    def scan(self, split: str) -> Scan:
        """Checks that the files of a split are there, without reading the clouds."""
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        """The number of classes, also of a subset that lacks some."""
        return len(self.class_names)

    @property
    def processed_dir(self) -> str:
        """The folder of what these arguments give."""
        points = "all" if self.num_points is None else f"{self.num_points}_{self.sampling}"
        name = f"{self.variant_name}_{points}{'' if self.strict else '_partial'}"
        return os.path.join(self.root, "processed", name)

    @property
    def processed_file_names(self) -> list[str]:
        """One file for each split."""
        return [f"{split}.safetensors" for split in self.splits]

    def _is_processed(self) -> bool:
        return not self.force_reload and all(map(os.path.exists, self.processed_paths))

    def _download(self) -> None:
        if not self._is_processed():  # What is processed does not need the files any more.
            super()._download()

    def _process(self) -> None:
        # In place of PyG's, which unpickles whatever lies in the folder.
        if not self._is_processed():
            os.makedirs(self.processed_dir, exist_ok=True)
            self.process()

    def download(self) -> None:
        """Downloads the archive where that is allowed, and otherwise says where to get it."""
        missing = [path for path in self.raw_paths if not os.path.exists(path)]
        folder = None if self.url is None else Path(self.raw_dir, Path(self.url).stem)
        if folder is None or folder.exists():
            raise FileNotFoundError(f"'{missing[0]}' is missing: {self._remedy()}")
        with tempfile.TemporaryDirectory(dir=self.raw_dir) as temporary:
            try:
                extract_zip(download_url(self.url, temporary), temporary)
                try:
                    os.replace(Path(temporary, folder.name), folder)
                except OSError:
                    if not folder.exists():  # Else another process has just downloaded it, too.
                        raise
            except (OSError, http.client.HTTPException, zipfile.BadZipFile, zlib.error) as error:
                raise ConnectionError(
                    f"'{self.url}' could not be downloaded ({error}); try again, or get it by "
                    f"other means and unpack it in '{self.raw_dir}'"
                ) from error

    def process(self) -> None:
        """Reads the files of all splits and writes the cache, or nothing at all."""
        with tempfile.TemporaryDirectory(dir=self.processed_dir) as folder:
            made = [Path(folder, os.path.basename(path)) for path in self.processed_paths]
            try:
                header = {"class_names": self.read_class_names(), **self._made_by}
                # All that can be wrong at a glance comes before the long work.
                scans = [self._checked(split, self.scan(split)) for split in self.splits]
                for split, scan, path in zip(self.splits, scans, made, strict=True):
                    if not write_clouds(path, self._prepare(split, scan), header):
                        raise ValueError(f"the files and 'pre_filter' leave no cloud for '{split}'")
            except (DamagedFileError, FileNotFoundError) as error:
                raise type(error)(f"{error}; {self._remedy()}") from error
            # Without its last file a cache is none: no two of them are ever mixed, not even where
            # processes write them at once.
            with turn(Path(self.processed_dir)):
                Path(self.processed_paths[-1]).unlink(missing_ok=True)
                for path, final in zip(made, self.processed_paths, strict=True):
                    os.replace(path, final)

    def _remedy(self) -> str:
        text = f"get it from {self.source}, and unpack it in '{self.raw_dir}'"
        if self.url is not None:
            text += f", or delete '{Path(self.raw_dir, Path(self.url).stem)}' to download it again"
        return text

    def _checked(self, split: str, scan: Scan) -> Scan:
        expected = self.published_sizes.get(split, scan.size)
        if self.strict and scan.size != expected:
            raise ValueError(
                f"'{scan.where}' must have the {expected} clouds of the published split '{split}', "
                f"it has {scan.size}; {self._remedy()}; strict=False reads a part of the data set"
            )
        return scan

    def _prepare(self, split: str, scan: Scan) -> Iterator[Data]:
        """Samples, filters and transforms the clouds of a split."""
        # Drawn once, and the same on every machine.
        generator = torch.Generator().manual_seed(0)
        # One iterator: every iteration over the bar itself would begin again.
        clouds = iter(tqdm(scan.clouds, f"Read {split}", scan.size, unit="cloud", disable=None))
        while block := list(islice(clouds, _BLOCK)):
            sampled = self._sample(block, generator)
            yield from prepared(sampled, self.pre_filter, self.pre_transform)

    def _sample(self, block: list[tuple[Path, Data]], generator: torch.Generator) -> Iterator[Data]:
        for size, group in groupby(block, lambda item: item[1].num_nodes):
            paths, clouds = zip(*group, strict=True)
            if self.num_points is None:
                yield from clouds
                continue
            if size < self.num_points and not self.repeats:
                raise ValueError(
                    f"'num_points' is {self.num_points}, but '{paths[0]}' has {size} points"
                )
            pos = torch.stack([data.pos for data in clouds])
            chosen = choose_points(pos, self.num_points, self.sampling, generator)
            for data, index in zip(clouds, chosen, strict=True):
                yield take_points(data, index)


def _as_before(function: Callable[[Data], Any] | None) -> str:
    """How older files tell a transform: alike for all lambdas of one place."""
    return re.sub(r" at 0x\w+", "", str(function))
