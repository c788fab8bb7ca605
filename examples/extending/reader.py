"""A reader of one's own: clouds in text files, a folder for each class.

python examples/extending/reader.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data, InMemoryDataset

from torch_geometric_ddp import SMOKE, ParametricShapes, distill, evaluate
from torch_geometric_ddp.datasets import READERS, Reader
from torch_geometric_ddp.transforms import FarthestPointSample


class TextClouds(InMemoryDataset):
    """Reads `root/raw/train/CLASS/*.xyz` and `root/raw/test/CLASS/*.xyz`, a point a line."""

    def __init__(self, root: str, train: bool = True, transform=None, pre_transform=None) -> None:
        super().__init__(root, transform, pre_transform)
        self.load(self.processed_paths[0 if train else 1])
        self.class_names = self._class_names()  # Tables and files call the classes by these.

    @property
    def raw_file_names(self) -> list[str]:
        return ["train", "test"]

    @property
    def processed_file_names(self) -> list[str]:
        return ["train.pt", "test.pt"]

    def _class_names(self) -> list[str]:
        return sorted(path.name for path in Path(self.raw_dir, "train").iterdir())

    def process(self) -> None:
        for split, path in zip(self.raw_file_names, self.processed_paths, strict=True):
            clouds = []
            for label, name in enumerate(self._class_names()):
                for file in sorted(Path(self.raw_dir, split, name).glob("*.xyz")):
                    pos = torch.from_numpy(np.loadtxt(file, dtype=np.float32))
                    clouds.append(Data(pos=pos, y=torch.tensor([label])))
            if self.pre_transform is not None:
                clouds = [self.pre_transform(data) for data in clouds]
            self.save(clouds, path)


def read(root: str, train: bool, task: str, num_points: int | None) -> TextClouds:
    sampled = None if num_points is None else FarthestPointSample(num_points)
    return TextClouds(root, train, transform=sampled)


READERS["text"] = Reader("clouds in text files", read, num_points=None)  # By name, if you like.


def write_shapes(root: Path) -> None:
    """Writes some generated shapes as such files, so that there is something to read."""
    for split in ("train", "test"):
        shapes = ParametricShapes(split == "train", 4, num_points=64)
        for i, data in enumerate(shapes):
            folder = root / "raw" / split / shapes.class_names[int(data.y)]
            folder.mkdir(parents=True, exist_ok=True)
            np.savetxt(folder / f"{i}.xyz", data.pos.numpy())


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        write_shapes(Path(root))
        train_set, test_set = (TextClouds(root, train) for train in (True, False))
        synthetic = distill(train_set, ppc=1, steps=5)
        # Two epochs of training, to see that everything runs: the figure means nothing.
        print(evaluate(synthetic, test_set, protocol=SMOKE, seeds=1))


if __name__ == "__main__":
    main()
