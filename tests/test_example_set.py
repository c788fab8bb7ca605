"""The distilled set that comes with the package: what it says of itself holds."""

import math
import tomllib
from pathlib import Path

import torch_geometric.transforms as T

from torch_geometric_ddp import (
    ParametricShapes,
    Protocol,
    StorageBudget,
    SyntheticPointCloudDataset,
    evaluate,
)
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.nn import BACKBONES
from torch_geometric_ddp.transforms import NormalizeSphere

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "torch_geometric_ddp" / "example.safetensors"


def test_it_is_small_and_of_the_storage_of_a_shape_per_class():
    example = SyntheticPointCloudDataset.example()
    shapes = ParametricShapes(num_per_class=1, num_points=256)
    assert FILE.stat().st_size < 100_000
    assert example.class_names == shapes.class_names
    assert example.storage_bits <= StorageBudget(256, 10, 1).bits
    assert example.provenance["method"] == "DDP"
    assert example.provenance["steps"] > 0


def test_it_is_installed():
    """The list of what goes into a wheel names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert FILE.name in project["tool"]["setuptools"]["package-data"]["torch_geometric_ddp"]


def test_its_clouds_are_transformed():
    plain = SyntheticPointCloudDataset.example()
    example = SyntheticPointCloudDataset.example(T.FixedPoints(5), NormalizeSphere())
    assert len(example) == len(plain)
    assert example[0].pos.shape == (5, 3)
    assert float(example[0].pos.norm(dim=1).max()) <= 1 + 1e-6


def test_it_repeats_its_figure():
    """A network of one of its seeds reaches what the file tells, within the spread of the file."""
    example = SyntheticPointCloudDataset.example()
    told = example.provenance["evaluated"]
    test_set = ParametricShapes(train=False, num_per_class=50, num_points=256)
    assert PointCloudBank.from_dataset(test_set).sha256() == told["test_sha256"]
    network = BACKBONES[told["backbone"]]
    assert describe(network) == told["network"]
    protocol = Protocol.from_dict(told["protocol"])
    result = evaluate(example, test_set, network, protocol, told["seeds"][:1], progress=False)
    mean = sum(told["values"]) / len(told["values"])
    assert math.isclose(mean, told["value"])
    # Three networks tell little of their spread: that of a share of the test clouds beside it.
    spread = max(told["values"]) - min(told["values"]) + math.sqrt(mean * (1 - mean) / 500)
    assert abs(result.mean - told["value"]) <= spread


def test_what_it_says_of_itself():
    synthetic = SyntheticPointCloudDataset.example()
    name = "SyntheticPointCloudDataset"
    classes = ", ".join(synthetic.class_names[:3])
    made = "bits=245760, ppc=1, method='DDP'"
    assert repr(synthetic) == f"{name}(80, classes=10 ({classes}, ...), {made})"
    words = (
        "80 clouds, 10 classes, PPC 1, 245,760 bits, DDP, shapes, accuracy 68.7 % (quick protocol)"
    )
    assert synthetic.describe() == words
    plain = SyntheticPointCloudDataset(synthetic.parameterization, "morphs")
    assert repr(plain) == f"{name}(40, classes=10, bits=245760)"
    assert plain.describe() == "80 clouds, 10 classes, 245,760 bits"


def test_what_a_foreign_file_tells_of_itself_is_cut():
    made = {"ppc": [1], "method": "x" * 10**5, "source": {}, "evaluated": {"value": "much"}}
    stored = SyntheticPointCloudDataset.example().parameterization
    synthetic = SyntheticPointCloudDataset(stored, provenance=made)
    assert len(repr(synthetic)) < 200
    assert len(synthetic.describe()) < 200
