"""The reader of ShapeNetCore, as the point clouds of the ShapeNet-55 benchmark."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from torch_geometric.data import Data

from torch_geometric_ddp.datasets._benchmark import Benchmark
from torch_geometric_ddp.datasets._formats import (
    as_clouds,
    damaged,
    plain_path,
    read_lines,
    read_npy,
)
from torch_geometric_ddp.datasets._options import ReaderOptions
from torch_geometric_ddp.datasets._sampling import Sampling
from torch_geometric_ddp.datasets._scan import Scan, labelled, scan_files

__all__ = ["ShapeNetCore"]

# In the order of the labels, which is that of the WordNet offsets.
_CLASSES = {
    "02691156": "airplane",
    "02747177": "trash bin",
    "02773838": "bag",
    "02801938": "basket",
    "02808440": "bathtub",
    "02818832": "bed",
    "02828884": "bench",
    "02843684": "birdhouse",
    "02871439": "bookshelf",
    "02876657": "bottle",
    "02880940": "bowl",
    "02924116": "bus",
    "02933112": "cabinet",
    "02942699": "camera",
    "02946921": "can",
    "02954340": "cap",
    "02958343": "car",
    "02992529": "cellphone",
    "03001627": "chair",
    "03046257": "clock",
    "03085013": "keyboard",
    "03207941": "dishwasher",
    "03211117": "display",
    "03261776": "earphone",
    "03325088": "faucet",
    "03337140": "file cabinet",
    "03467517": "guitar",
    "03513137": "helmet",
    "03593526": "jar",
    "03624134": "knife",
    "03636649": "lamp",
    "03642806": "laptop",
    "03691459": "loudspeaker",
    "03710193": "mailbox",
    "03759954": "microphone",
    "03761084": "microwave",
    "03790512": "motorbike",
    "03797390": "mug",
    "03928116": "piano",
    "03938244": "pillow",
    "03948459": "pistol",
    "03991062": "flowerpot",
    "04004475": "printer",
    "04074963": "remote control",
    "04090263": "rifle",
    "04099429": "rocket",
    "04225987": "skateboard",
    "04256520": "sofa",
    "04330267": "stove",
    "04379243": "table",
    "04401088": "telephone",
    "04460130": "tower",
    "04468005": "train",
    "04530566": "watercraft",
    "04554684": "washer",
}


class ShapeNetCore(Benchmark):
    r"""The 55 classes of ShapeNetCore as point clouds of 8,192 points (ShapeNet-55).

    The shapes are those of `"ShapeNet: An Information-Rich 3D Model Repository"
    <https://arxiv.org/abs/1512.03012>`_, the clouds and the split (41,952/10,518) those of
    `"PoinTr: Diverse Point Cloud Completion with Geometry-Aware Transformers"
    <https://arxiv.org/abs/2108.08839>`_. Items are :obj:`Data(pos=[N, 3], y=[1])`. The label is
    the rank of the WordNet offset (:attr:`synset_ids`).

    The terms of ShapeNet must be accepted, so that the files must be fetched by hand: in
    :obj:`root/raw` belong :obj:`shapenet_pc/<offset>-<model>.npy` (:obj:`[8192, 3]`) and the
    lists :obj:`ShapeNet-55/train.txt` and :obj:`ShapeNet-55/test.txt` of such file names.

    The literature draws a random subset of the points, which is the default here (drawn once),
    and then centres it and scales it to the unit ball:
    :class:`~torch_geometric_ddp.transforms.NormalizeSphere` as :obj:`pre_transform`.

    Args:
        num_points (int, optional): The points to keep of each cloud, or :obj:`None` for all
            8,192, which take 5 GB. (default: :obj:`1024`)
        sampling (str): Which: the :obj:`"first"`, those of farthest point sampling
            (:obj:`"fps"`), or a :obj:`"random"` subset drawn once. (default: :obj:`"random"`)

    Raises:
        FileNotFoundError: If a file is missing, with where to get it.
        ValueError: If a file is damaged or the size is not the published one.
    """

    source = (
        "https://github.com/Julie-tang00/Point-BERT (the clouds as DATASET.md says under "
        "ShapeNet55/34, after accepting the terms at https://shapenet.org; the lists are the "
        "folder data/ShapeNet55-34/ShapeNet-55 of the repository)"
    )
    #: The WordNet offsets of the classes, in the order of their labels.
    synset_ids = tuple(_CLASSES)

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        num_points: int | None = 1024,
        sampling: Sampling = "random",
        **options: Unpack[ReaderOptions],
    ) -> None:
        super().__init__(root, split, num_points, sampling, **options)

    @property
    def variant_name(self) -> str:
        """What is read, a name for the folder of the cache."""
        return "shapenet55"

    @property
    def published_sizes(self) -> dict[str, int]:
        """The published number of clouds of the splits."""
        return {"train": 41952, "test": 10518}

    @property
    def raw_file_names(self) -> list[str]:
        """The lists, and the folder of the clouds that they name."""
        return [*(f"ShapeNet-55/{split}.txt" for split in self.splits), "shapenet_pc"]

    def read_class_names(self) -> list[str]:
        """The names of the classes, in the order of their labels."""
        return list(_CLASSES.values())

    def scan(self, split: str) -> Scan:
        """Checks that the files of a split are there."""
        where = Path(self.raw_paths[self.splits.index(split)])
        files = []
        for name in read_lines(where):
            synset = name.partition("-")[0]
            if synset not in _CLASSES:
                raise damaged(where, f"it lists '{name}', which is of none of the 55 classes")
            path = plain_path(where, Path(self.raw_paths[-1]), name)
            files.append((path, self.synset_ids.index(synset)))
        return scan_files(where, files, _read, 8192 if self.strict else None)


def _read(path: Path, label: int) -> Data:
    return labelled(as_clouds(path, read_npy(path)), label)
