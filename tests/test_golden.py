"""Five sets of before: their files are read as they are, and the runs come out as they did.

Files are as the first version wrote them. What runs gave is in a folder of its own, since it was
written anew, by `python tests/test_golden.py`. Runs have double precision: in single, the rounding
of another processor now and then picks another point at a maximum, and the gradient follows it.
"""

import contextlib
import functools
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from torch_geometric_ddp import ParametricShapes, SyntheticPointCloudDataset, ops
from torch_geometric_ddp.methods import dc, ddp, sadm
from torch_geometric_ddp.nn import PointNetSegmentation
from torch_geometric_ddp.tasks import Classification, Segmentation

FOLDER = Path(__file__).parent / "golden"
CAME_OUT = FOLDER / "runs"
SMALL = functools.partial(PointNetSegmentation, width=0.25)

RUNS = {
    "ddp": (ddp(num_anchors=4, num_morphs=4, anchor_lr=0.5), {}),
    "static": (ddp(num_anchors=3, num_morphs=2, adaptive=False, anchor_lr=0.5), {}),
    "sadm": (sadm(), {}),
    # At PPC 1, since networks that are trained between updates multiply what rounding differs by.
    "dc": (dc(), {}),
    "segmentation": (
        ddp(num_anchors=4, num_morphs=2, anchor_lr=0.5),
        {"network": SMALL},
    ),
}
# A rounding of the files, whose numbers have single precision, below one in size.
ROUNDING = 2e-6


class Double:
    """Clouds are read in double precision."""

    def read(self, dataset, device=None, dtype=None, progress=False, class_names=None):
        return super().read(dataset, device, torch.float64, progress, class_names)


class DoubleClassification(Double, Classification):
    pass


class DoubleSegmentation(Double, Segmentation):
    pass


@pytest.fixture(params=RUNS)
def name(request):
    return request.param


def raw(path):
    """The tensors and the header of a file, read without this package."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["torch_geometric_ddp"].split(" ", 1)[1])
    return tensors, header


def clouds_of(tensors, config):
    """The clouds of a file, from its numbers alone."""
    if "pos" in tensors:
        return tensors["pos"]
    anchors = tensors["anchors"]
    shape = (len(anchors), config["num_morphs"], config["num_anchors"])
    logits = torch.zeros(shape)
    if config["adaptive"]:
        logits[..., 1:] = tensors["weights"]
    morphs = ops.morph(anchors, logits.softmax(dim=-1))
    return torch.cat([anchors, morphs], dim=1).flatten(0, 1)


def test_files_of_before_are_read(name, tmp_path):
    path = FOLDER / f"{name}.safetensors"
    tensors, header = raw(path)
    dataset = SyntheticPointCloudDataset(path)
    assert type(dataset.parameterization).__name__ == header["parameterization"]
    assert dataset.storage_bits == header["bits"]
    assert dataset.parameterization.config() == header["config"]
    stored = torch.stack([data.pos for data in dataset])
    assert torch.equal(stored, clouds_of(tensors, header["config"]))
    if "part_counts" in tensors:
        counts = tensors["part_counts"].split([len(p) for p in dataset.category_parts.values()])
        parts = [torch.tensor(parts) for parts in dataset.category_parts.values()]
        for data in dataset:
            c = data.category.item()
            assert torch.equal(data.y, parts[c].repeat_interleave(counts[c]))
    # And written again as they were, to the bit.
    dataset.save(tmp_path / "set")
    again, header_again = raw(tmp_path / "set")
    assert header_again == header
    assert {key: tensor.dtype for key, tensor in again.items()} == {
        key: tensor.dtype for key, tensor in tensors.items()
    }
    assert all(torch.equal(again[key], tensor) for key, tensor in tensors.items())


@contextlib.contextmanager
def double():
    """Networks are made in double precision, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@double()
def run(name, steps):
    method, options = RUNS[name]
    parts = name == "segmentation"
    task = DoubleSegmentation() if parts else DoubleClassification()
    shapes = ParametricShapes(True, 6, 64, segmentation=parts)
    settings = {"ppc": 1, "seed": 3, "progress": False, "source": "shapes", **options}
    return method.distill(shapes, steps=steps, task=task, **settings)


@pytest.mark.usefixtures("one_thread")
def test_runs_come_out_as_before(name, tmp_path):
    for steps, file in ((0, "start"), (4, "set")):
        run(name, steps).save(tmp_path / file)
    (ours, header), (theirs, before) = raw(tmp_path / "set"), raw(CAME_OUT / f"{name}.safetensors")
    for key in ("parameterization", "config", "num_classes", "ppc", "bits", "class_names"):
        assert header[key] == before[key], key
    assert set(ours) == set(theirs)
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, rtol=0, atol=ROUNDING)
    points = "pos" if "pos" in theirs else "anchors"
    start, _ = raw(tmp_path / "start")
    assert float((theirs[points] - start[points]).abs().max()) > 10 * ROUNDING


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in RUNS:
        run(name, 4).save(CAME_OUT / f"{name}.safetensors")
