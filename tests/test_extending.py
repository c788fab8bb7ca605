"""The programs of `examples/extending/`, which the page "Extend" of the documentation shows."""

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import TinyNet, TinySegmenter, toy_parts, toy_set

from torch_geometric_ddp import SMOKE, Method, SyntheticPointCloudDataset, distill, evaluate
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.comparison import Distilled, Lab, Preset
from torch_geometric_ddp.datasets import READERS
from torch_geometric_ddp.matching import SADM
from torch_geometric_ddp.methods import METHODS, ddp
from torch_geometric_ddp.nn import BACKBONES
from torch_geometric_ddp.parameterization import Codec, Parameterization

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "extending"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
BITS = 3 * 96 * 32  # Three classes of one cloud of 32 points.


@pytest.fixture(scope="module")
def own():
    """The programs as modules. What they registered is gone afterwards."""
    registries = METHODS, BACKBONES, READERS, Codec.registry, Parameterization.registry
    before = [dict(registry) for registry in registries]
    modules = {}
    for name in NAMES:
        spec = importlib.util.spec_from_file_location(f"extending_{name}", FOLDER / f"{name}.py")
        modules[name] = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = modules[name]
        spec.loader.exec_module(modules[name])
    yield SimpleNamespace(**modules)
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


def life(method, tmp_path, network=TinyNet, train_set=None, test_set=None, task="classification"):
    """Distils, resumes, writes, reads and evaluates a set, and gives what was read."""
    train_set, test_set = train_set or toy_set(), test_set or toy_set(seed=1)
    settings = {"network": network, "task": task, "progress": False}
    made = distill(train_set, 1, method, steps=4, **settings)

    checkpoint = tmp_path / "checkpoint"
    distill(train_set, 1, method, steps=2, checkpoint=checkpoint, **settings)
    resumed = distill(train_set, 1, method, steps=4, checkpoint=checkpoint, **settings)
    for key, tensor in made.parameterization.storage().items():
        assert torch.equal(tensor, resumed.parameterization.storage()[key])
    start = distill(train_set, 1, method, steps=0, **settings)
    assert any(not torch.equal(a.pos, b.pos) for a, b in zip(made, start, strict=True))

    made.save(tmp_path / "set.safetensors")
    read = SyntheticPointCloudDataset(tmp_path / "set.safetensors")
    assert read.provenance == made.provenance
    assert read.provenance["bits"] == read.storage_bits <= read.provenance["budget_bits"]
    for ours, theirs in zip(read, made, strict=True):
        assert torch.equal(ours.pos, theirs.pos)
        assert torch.equal(ours.y, theirs.y)

    found = evaluate(read, test_set, network, SMOKE, 2, progress=False, task=task)
    assert found.values.shape == (2,)
    assert found.num_clouds == len(read)
    return read


def test_every_program_is_tested():
    tested = set(re.findall(r"own\.(\w+)\.", Path(__file__).read_text(encoding="utf-8")))
    assert tested == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_program(own, name, capsys, monkeypatch):
    monkeypatch.setattr(SMOKE.__class__, "epochs_for", lambda self, num: 1)
    getattr(own, name).main()
    assert "(accuracy, smoke protocol, 1 seed)" in capsys.readouterr().out


def test_at_most_one_line_registers():
    for name in NAMES:
        text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        assert len(re.findall(r"^[A-Z]+\[.+\] = ", text, re.MULTILINE)) <= 1


def test_matching(own, tmp_path):
    read = life("moments", tmp_path)
    assert read.provenance["method"] == "moments"
    assert read.provenance["variance_weight"] == 1.0
    # A checkpoint of other settings is refused, although nobody listed them.
    moments = own.matching.moments()
    other = Method("moments", moments.storing, lambda: own.matching.MomentMatching(0.5), 500)
    with pytest.raises(ValueError, match="variance_weight"):
        distill(toy_set(), 1, other, steps=4, network=TinyNet, checkpoint=tmp_path / "checkpoint")


def test_matching_against_a_loop(own):
    bank = PointCloudBank.from_dataset(toy_set())
    loop = own.matching.moments().begin(bank, network=TinyNet)
    loop.prepare()
    torch.manual_seed(0)
    network, real = TinyNet(3), loop.take(bank.draw(4, torch.Generator()))
    found = loop.matching(network, real, loop.parameterization())
    ours = loop.parameterization.unfold().view(3, -1, *loop.parameterization.unfold().shape[1:])
    for c in range(3):
        rows = [
            torch.stack([network.mlp(cloud).amax(dim=0) for cloud in clouds[c]])
            for clouds in (real["pos"], ours)
        ]
        x, y = (torch.cat([r.mean(0), r.var(0, correction=0)]) for r in rows)
        torch.testing.assert_close(found[c], (x - y).square().sum())


def test_backbone(own, tmp_path):
    read = life(ddp(num_morphs=2), tmp_path, own.backbone.DeepSets)
    assert "DeepSets" in str(read.provenance["network"])


def test_backbone_by_name(own, tmp_path):
    assert BACKBONES["DeepSets"] is own.backbone.DeepSets
    preset = Preset("tiny", SMOKE, SMOKE, 1, 1)
    lab = Lab(toy_set(), toy_set(seed=1), tmp_path, preset, {"DeepSets": BACKBONES["DeepSets"]})
    entry = Distilled("DDP", {"num_anchors": 2, "num_morphs": 2}, build=ddp)
    (run,) = lab.run(lab.cells([entry], [1], [0]))
    assert run["backbone"] == "DeepSets"


def test_parameterization(own, tmp_path):
    method = Method("stretched", own.parameterization.stretching(3), SADM, 500)
    read = life(method, tmp_path)
    made = read.parameterization
    assert type(made) is own.parameterization.Stretched
    assert read.storage_bits == BITS
    assert len(read) == 3 * 4
    assert sorted(made.storage()) == ["base", "scales"]
    torch.testing.assert_close(made.unfold()[1], made.base[0] * made.scales[0, 0])


@pytest.mark.parametrize("ppc", [0.25, 0.5, 0.99, 1, 1.5, 2, 2.5, 3])
@pytest.mark.parametrize("coded", [False, True])
def test_parameterization_of_any_storage(own, ppc, coded):
    codec = {"codec": own.codec.EightBit(2.0)} if coded else {}
    method = Method("stretched", own.parameterization.stretching(3, **codec), SADM, 500)
    made = distill(toy_set(), ppc, method, steps=1, network=TinyNet, progress=False)
    assert made.parameterization.counts == (max(1, int(ppc)),) * 3
    assert len(made) == 3 * max(1, int(ppc)) * 4
    budget = PointCloudBank.from_dataset(toy_set()).budget(ppc)
    assert made.storage_bits <= budget.bits
    if not coded:  # One point more for each would not fit.
        groups = 3 * max(1, int(ppc))
        fits = made.parameterization.num_points == budget.num_points
        assert fits or made.storage_bits + 3 * 32 * groups > budget.bits


def test_parameterization_without_room_says_so(own):
    method = Method("stretched", own.parameterization.stretching(16), SADM, 500)
    with pytest.raises(ValueError, match=r"'num_copies'=16 leaves no room at ppc=0\.5"):
        distill(toy_set(), 0.5, method, steps=1, network=TinyNet, progress=False)


def test_parameterization_of_labelled_points_in_another_codec(own, tmp_path):
    codec = own.codec.EightBit(2.0)
    method = Method("stretched", own.parameterization.stretching(2, codec), SADM, 500)
    sets = toy_parts(), toy_parts(seed=1)
    read = life(method, tmp_path, TinySegmenter, *sets, task="segmentation")
    assert read.parameterization.labels is not None
    assert "base=EightBit(reach=2.0)" in read.parameterization.describe()


def test_codec(own, tmp_path):
    read = life(ddp(num_anchors=16, num_morphs=0, codec=own.codec.EightBit()), tmp_path)
    # 24 bits a point instead of 96: four times as many points in the same room.
    assert read.storage_bits == BITS == 3 * 24 * 4 * 32
    assert read.parameterization.storage()["anchors.codes"].dtype == torch.uint8
    steps = (torch.stack([data.pos for data in read]) / 1.5 + 1) / 2 * 255
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)


def test_reader(own, tmp_path):
    own.reader.write_shapes(tmp_path)
    train_set, test_set = READERS["text"].load(str(tmp_path))
    assert type(train_set) is own.reader.TextClouds
    assert (len(train_set), len(test_set)) == (40, 40)
    read = life(ddp(num_morphs=2), tmp_path, TinyNet, train_set, test_set)
    assert read.class_names == train_set.class_names == sorted(train_set.class_names)
    assert read.provenance["source"] == "TextClouds"


def test_reader_takes_the_points_that_are_asked_for(own, tmp_path):
    own.reader.write_shapes(tmp_path)
    for num, found in ((None, 64), (64, 64), (16, 16), (1, 1)):
        for split in READERS["text"].load(str(tmp_path), num):
            assert {len(data.pos) for data in split} == {found}
    with pytest.raises(ValueError, match="65"):
        READERS["text"].load(str(tmp_path), 65)[0][0]


def test_start(own, tmp_path):
    life(ddp(num_morphs=2, start=own.start.jittered_clouds(0.1)), tmp_path)
    bank = PointCloudBank.from_dataset(toy_set())
    plain, moved = (
        own.start.jittered_clouds(sigma)(bank, 2, torch.Generator().manual_seed(3))
        for sigma in (0.0, 0.1)
    )
    assert plain.shape == (3, 2, 32, 3)
    assert 0.05 < float((moved - plain).std()) < 0.15
