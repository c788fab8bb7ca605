"""Halves of clouds that unfold with their mirror images, and the method that stores them."""

import math
from functools import partial

import pytest
import torch
from helpers import TinyNet, toy_parts, toy_set
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_ddp import (
    StorageBudget,
    SyntheticPointCloudDataset,
    TooFewPointsError,
    distill,
)
from torch_geometric_ddp.clouds import LabelledBank, PointCloudBank
from torch_geometric_ddp.matching import KernelRegression
from torch_geometric_ddp.methods import (
    METHODS,
    Method,
    full_resolution,
    mirrored,
    packed,
    packed_count,
    packed_size,
    pkr,
)
from torch_geometric_ddp.parameterization import FLOAT32, Mirrored, PointSet

HALF = PointSet(6, half=True)
X, Y = -1.0, 1.0


def halves_of(num=6, points=5, seed=0):
    pos = 0.5 * torch.randn(num, points, 3, generator=torch.Generator().manual_seed(seed))
    return pos.abs()


def planes_of(num=6):
    return torch.tensor([X, Y]).repeat(num // 2)[:, None]


def sorted_points(cloud):
    return sorted(map(tuple, cloud.tolist()))


def test_a_cloud_is_its_mirror_image():
    halves, planes = halves_of(), planes_of()
    clouds = Mirrored(halves, planes, 3).unfold()
    assert clouds.shape == (6, 10, 3)
    for i, (cloud, plane) in enumerate(zip(clouds.detach(), planes, strict=True)):
        sign = torch.tensor([-1.0, 1, 1] if plane == X else [1.0, -1, 1])
        assert sorted_points(cloud) == sorted_points(cloud * sign)
        first = halves[i] if plane == X else halves[i][:, [1, 0, 2]]
        assert torch.equal(cloud[:5], first)


def test_gradient_reaches_the_halves_from_both_sides():
    halves = halves_of().double()
    stored = Mirrored(halves, planes_of().double(), 3, codec=FLOAT32)
    stored.unfold().square().sum().backward()
    torch.testing.assert_close(stored.halves.grad, 4 * halves)
    assert stored.planes.grad is None or not bool(stored.planes.grad.any())


def symmetric_cloud(axis, num=200, seed=0):
    """A random cloud and its image, whose longest side lies elsewhere."""
    g = torch.Generator().manual_seed(seed)
    half = torch.rand(num, 3, generator=g) * torch.tensor([0.4, 0.4, 0.3])
    half[:, 1 - axis] += half[:, axis]  # Not symmetric along the other axis.
    half[:, axis] += 0.02
    sign = torch.ones(3)
    sign[axis] = -1
    return torch.cat([half, half * sign])


def test_the_side_with_more_points_is_kept():
    """Of either plane that is the one behind it, with all points but one."""
    z = torch.linspace(-1, 1, 7)
    behind = torch.stack([-torch.ones(7), -torch.ones(7), z], dim=1)
    pos = torch.cat([behind, torch.ones(1, 3)])
    halves = Mirrored.from_clouds(pos[None], 1, 14).halves.detach()[0]
    assert bool((halves[:, 0] > 0).all())
    torch.testing.assert_close(halves[:, 2].sort().values, z / 3**0.5)


@pytest.mark.parametrize("axis", [0, 1])
def test_symmetric_clouds_keep_their_points(axis):
    pos = torch.stack([symmetric_cloud(axis, seed=seed) for seed in range(3)])
    stored = Mirrored.from_clouds(pos, 3, 16)
    assert stored.planes.flatten().tolist() == [X if axis == 0 else Y] * 3
    low, high = pos.aminmax(dim=1, keepdim=True)
    unit = pos - (low + high) / 2
    unit = unit / unit.norm(dim=-1).amax(dim=1)[:, None, None]
    clouds = stored.unfold().detach()
    gaps = (clouds[:, :, None] - unit[:, None]).norm(dim=-1).amin(dim=2)
    assert float(gaps.max()) < 1e-5
    assert float(stored.halves.detach()[..., 0].min()) >= 0
    # As far from each other as may be: no two points coincide.
    own = (clouds[:, :, None] - clouds[:, None]).norm(dim=-1) + 9 * torch.eye(16)
    assert float(own.min()) > 0.05


def test_bits_of_a_half():
    assert PointSet(6).cloud_bits(64) == 797
    assert HALF.cloud_bits(32) == 397
    budget = StorageBudget(1024, 10, 1 / 16)
    num = Mirrored.clouds_that_fit(budget, 64, HALF)
    assert num == 15
    halves = torch.rand(10 * num, 32, 3) / 2
    stored = Mirrored(halves, torch.ones(10 * num, 1), 10, codec=HALF)
    assert stored.storage_bits() <= budget.bits
    more = Mirrored(torch.rand(160, 32, 3) / 2, torch.ones(160, 1), 10, codec=HALF)
    assert more.storage_bits() > budget.bits
    with pytest.raises(ValueError, match="'num_points'=64 does not fit"):
        Mirrored.clouds_that_fit(StorageBudget(64, 10, 1 / 64), 64, HALF)
    with pytest.raises(TooFewPointsError, match="at most the 63 of a real cloud, got 64"):
        Mirrored.clouds_that_fit(StorageBudget(63, 10), 64, HALF)


@given(st.integers(1, 8), st.integers(1, 20), st.integers(0, 2**31))
def test_half_codec_round_trip(depth, num, seed):
    codec = PointSet(depth, half=True)
    pos = 2 * torch.randn(3, num, 3, generator=torch.Generator().manual_seed(seed))
    stored = codec.encode(pos)
    assert 8 * stored["sets"].numel() == codec.bits(pos.shape)
    back = codec.decode(stored, pos.shape)
    assert torch.equal(codec.encode(back)["sets"], stored["sets"])
    assert bool((back[..., 0] > 0).all())
    assert float(back.norm(dim=-1).max()) <= 1
    for seen, read in zip(codec.rounded(pos), back, strict=True):
        assert sorted_points(seen) == sorted_points(read)


def test_file(tmp_path):
    stored = Mirrored(halves_of() / 2, planes_of(), 3, codec=HALF).stored()
    SyntheticPointCloudDataset(stored).save(tmp_path / "m.safetensors")
    read = SyntheticPointCloudDataset(tmp_path / "m.safetensors")
    assert read.storage_bits == stored.storage_bits()
    assert torch.equal(read.parameterization.unfold(), stored.unfold())
    assert torch.equal(read.parameterization.planes.flatten(), planes_of().flatten())
    SyntheticPointCloudDataset(read.parameterization).save(tmp_path / "again.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == (
        tmp_path / "again.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Mirrored(halves_of(), torch.zeros(6, 1), 3), ValueError, "'planes' must hold -1"),
        (lambda: Mirrored(halves_of(), torch.ones(6), 3), ValueError, "'planes' must hold -1"),
        (
            lambda: Mirrored(halves_of(), [[1.0]] * 6, 3),
            TypeError,
            r"'planes' must be a tensor of shape \[6 1\], got list",
        ),
        (lambda: Mirrored(halves_of(), planes_of(), 4), ValueError, "'halves' must hold"),
        (lambda: Mirrored.from_clouds(halves_of(), 3, 5), ValueError, "'num_points' must be even"),
        (lambda: Mirrored.from_clouds(halves_of(), 3, 0), ValueError, "'num_points' must be at"),
        (lambda: PointSet(6, half=1), TypeError, "'half' must be True or False, got int"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_forms_are_what_is_stored():
    pos = PointCloudBank.from_dataset(toy_set()).normalize().dense()
    small = packed(8, PointSet(5)).form(pos)
    assert small.shape == (18, 8, 3)
    assert torch.equal(PointSet(5).rounded(small), small)
    folded = mirrored(8, PointSet(5, half=True)).form(pos)
    assert folded.shape == (18, 8, 3)
    assert float(folded.norm(dim=-1).max()) <= 1


def test_labelled_points_are_refused_before_the_start():
    def start(bank, num, generator):
        raise AssertionError("a start may take long")

    method = Method("halves", mirrored(8), KernelRegression, 1, start)
    bank = LabelledBank.from_dataset(toy_parts())
    with pytest.raises(ValueError, match="labelled with parts cannot be mirrored"):
        method.begin(bank, task="segmentation")


def test_whole_clouds_are_what_is_stored_of_them():
    pos = PointCloudBank.from_dataset(toy_set()).dense()
    assert torch.equal(full_resolution().form(pos), pos)


TINY = {"num_points": 8, "depth": 6, "steps": 3, "visits": 5, "ages": (0, 2), "num_trained": 1}


@pytest.mark.parametrize("mirror", [True, False])
def test_pkr(mirror, tmp_path):
    method = pkr(**TINY, real_per_class=4, mirror=mirror)
    kwargs = {"network": TinyNet, "progress": False}
    synthetic = distill(toy_set(), 0.5, method, seed=2, **kwargs)
    assert synthetic.provenance["method"] == "PKR"
    assert synthetic.storage_bits <= StorageBudget(32, 3, 0.5).bits
    assert synthetic.provenance["bits"] == synthetic.storage_bits
    assert synthetic[0].pos.shape == (8, 3)
    again = distill(toy_set(), 0.5, method, seed=2, **kwargs)
    assert torch.equal(again._data.pos, synthetic._data.pos)
    other = distill(toy_set(), 0.5, method, seed=3, **kwargs)
    assert not torch.equal(other._data.pos, synthetic._data.pos)
    start = distill(toy_set(), 0.5, method, seed=2, steps=0, **kwargs)
    assert not torch.equal(start._data.pos, synthetic._data.pos)


@pytest.mark.parametrize(
    ("ppc", "depth", "mirror", "size", "count"),
    [
        (1 / 16, None, True, (32, 5), 37),
        (1 / 4, None, True, (64, 6), 61),
        (1, None, True, (128, 6), 133),
        (1 / 8, None, False, (32, 5), 36),
        (1 / 8, 8, False, (32, 8), 19),
        (1, 8, True, (128, 8), 87),
    ],
)
def test_the_budget_says_what_pkr_stores(ppc, depth, mirror, size, count):
    """The most points of which 48 clouds per class fit."""
    budget = StorageBudget(1024, 10, ppc)
    assert packed_size(budget, depth, mirror) == size
    assert packed_count(budget, *size, mirror) == count
    larger = [n for n in (32, 64, 128) if n > size[0]]
    assert all(packed_count(budget, n, depth or 6, mirror) < 48 for n in larger)


def test_pkr_without_a_size():
    """Is the method of the size that the budget says, from which nothing else is taken."""
    settings = {k: v for k, v in TINY.items() if k not in ("num_points", "depth")}
    kwargs = {"network": TinyNet, "progress": False, "seed": 2}
    found = distill(toy_set(), 0.5, pkr(**settings, real_per_class=4), **kwargs)
    size = packed_size(StorageBudget(32, 3, 0.5))
    same = distill(toy_set(), 0.5, pkr(*size, **settings, real_per_class=4), **kwargs)
    assert torch.equal(found._data.pos, same._data.pos)
    assert found[0].pos.shape == (32, 3)


def test_no_bars_where_none_are_wanted(capsys):
    method = pkr(**TINY, real_per_class=4)
    distill(toy_set(), 0.5, method, network=TinyNet, progress=False)
    assert capsys.readouterr() == ("", "")
    distill(toy_set(), 0.5, method, network=TinyNet)
    assert "Choose" in capsys.readouterr().err


def test_pkr_by_name():
    assert METHODS["pkr"]().name == "PKR"
    few = partial(pkr, **TINY)
    with pytest.raises(ValueError, match="'depth' must be from 1 to 10"):
        few(depth=11)


def test_no_odd_number_of_points_fits():
    with pytest.raises(ValueError, match="'num_points' must be even, got 63"):
        Mirrored.clouds_that_fit(StorageBudget(64, 3), 63, FLOAT32)


def test_half_precision_and_points_that_are_not_finite():
    pos = torch.rand(3, 16, 3)
    halves = Mirrored.from_clouds(pos.half(), 3, 8).halves
    assert halves.dtype == torch.float16
    expected = Mirrored.from_clouds(pos.half().float(), 3, 8).halves
    torch.testing.assert_close(halves.float(), expected, rtol=0, atol=1e-3)
    for value in (math.inf, math.nan):
        with pytest.raises(ValueError, match="'pos' must be finite"):
            Mirrored.from_clouds(torch.full((3, 16, 3), value), 3, 8)
