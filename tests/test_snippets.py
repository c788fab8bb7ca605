"""Every Python snippet of README and documentation runs, with shorter settings."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch_geometric.datasets
from helpers import toy_arrays, toy_set
from safetensors.torch import save_model
from test_pages import PAGES, snippets

from torch_geometric_ddp import SMOKE, ParametricShapes, SyntheticPointCloudDataset, distill
from torch_geometric_ddp.methods import METHODS, pkr
from torch_geometric_ddp.nn import PointNet

#: Of every page: what is written otherwise, so that it ends within seconds and needs no download.
SHORTER = {
    r"steps=\d+": "steps=1",
    r"\bQUICK\b": "SMOKE",
    r"device=\"cuda\"": 'device="cpu"',
    r"ParametricShapes\(train=True, num_points=256\)": "ParametricShapes(True, 2, 64)",
    r"ParametricShapes\(False, 50,": "ParametricShapes(False, 2,",
    r"train=False, num_per_class=\d+": "train=False, num_per_class=2",
    r"ppc=1 / 16": "ppc=1",
    r'method="pkr"': "method=SHORT_PKR",
    r"max_epochs=\d+": "max_epochs=1",
    r"min_steps=300": "min_steps=2",
    r"seeds=2": "seeds=1",
    r"n_trials=30": "n_trials=1, steps=1, protocol=SMOKE",
    r"n_trials=50": "n_trials=3, steps=1, protocol=SMOKE",
    r"ppc=10\b": "ppc=1",
    r"num_points=512": "num_points=16",
    r"SamplePoints\(1024\)": "SamplePoints(64)",
}

#: What pages use that the extra `test` does not have.
NEEDS = {"tracking": "tensorboard", "viewer": "plotly"}

#: What a program of its own would have around the snippet.
TOGETHER = [path for path in PAGES if snippets(path)]


class Meshes(list):
    """Stands for a downloaded data set of meshes."""

    def __init__(self, root, name, train=True, pre_transform=None, **_):
        clouds = toy_set() if train else toy_set(seed=1)
        super().__init__(clouds)
        self.class_names = clouds.class_names


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The names that pages speak of, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch_geometric.datasets, "ModelNet", Meshes)
    points, labels = toy_arrays()
    for i, name in enumerate(("class0", "class1")):
        (tmp_path / "clouds" / "train" / name).mkdir(parents=True)
        np.save(tmp_path / "clouds" / "train" / name / "a.npy", points[labels == i][0])
    small = distill(toy_set(), steps=0, progress=False)
    small.save(tmp_path / "out" / "distill" / "distilled.safetensors")
    # What talks to others has tests of its own.
    monkeypatch.setattr(SyntheticPointCloudDataset, "push_to_hub", lambda *args, **kwargs: "")
    monkeypatch.setattr(SyntheticPointCloudDataset, "from_hub", lambda *args, **kwargs: small)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setenv("LOCAL_RANK", "0")  # As torchrun does.
    wandb = SimpleNamespace(
        init=lambda project: None,
        log=lambda told, step: None,
        finish=lambda: None,
        Object3D=lambda points: points,
    )
    for name in ("best.safetensors", "best.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "out" / "train").mkdir(parents=True)
    save_model(PointNet(10), str(tmp_path / "out" / "train" / "network.safetensors"))
    # A page shows how a method gets a name, which the tests that follow shall not find.
    monkeypatch.setitem(METHODS, "dc on morphs", None)
    torch.manual_seed(0)
    parts = {"num_per_class": 2, "num_points": 64, "segmentation": True}
    return {
        "real_dataset": toy_set(),
        "train_set": toy_set(),
        "test_set": toy_set(seed=1),
        "train_parts": ParametricShapes(True, **parts),
        "test_parts": ParametricShapes(False, **parts),
        **dict(zip("abcd", (points, labels, points, labels), strict=True)),
        "real": toy_set(),
        "wandb": wandb,
        "SMOKE": SMOKE,
        "SHORT_PKR": pkr(8, visits=1, ages=(0, 2), num_trained=1, steps=1),
    }


# Lightning warns of few workers, and uses what PyTorch warns of.
@pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec:FutureWarning", "ignore::Warning:pytorch_lightning"
)
@pytest.mark.parametrize("path", TOGETHER, ids=lambda path: path.stem)
def test_snippets_run(path, world):
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem])
    for snippet in snippets(path):
        text = snippet
        for long, short in SHORTER.items():
            text = re.sub(long, short, text)
        exec(compile(text, f"{path.name}: {snippet.splitlines()[0]}", "exec"), world)


@pytest.mark.parametrize("path", TOGETHER, ids=lambda path: path.stem)
def test_snippets_that_take_long_say_how_long(path):
    for snippet in snippets(path):
        # Without a number of steps it would be that of the paper; PKR has few by itself.
        calls = [line for line in snippet.splitlines() if "= distill(" in line]
        assert all("steps=" in line or "pkr" in line for line in calls)
        if re.search(r"\b(distill|evaluate|tune)\(", snippet):
            assert re.search(r"#.*(second|minute|hour)", snippet, re.IGNORECASE), snippet


def test_what_is_shortened_stands_somewhere():
    text = "".join(snippet for path in TOGETHER for snippet in snippets(path))
    assert [long for long in SHORTER if not re.search(long, text)] == []
