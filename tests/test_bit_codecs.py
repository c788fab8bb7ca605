"""Codecs of few bits: numbers on even grids, and points as sets in the unit ball."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import TinyNet, toy_set
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torch_geometric_ddp import SMOKE, Method, SyntheticPointCloudDataset, ops
from torch_geometric_ddp.budget import tensor_bits
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.comparison import CONTROL_FAMILIES, CONTROLS, Distilled, Lab, Preset
from torch_geometric_ddp.coreset import (
    Observation,
    herding_coreset,
    k_center_coreset,
    random_coreset,
)
from torch_geometric_ddp.matching import SADM
from torch_geometric_ddp.methods import ddp, full_resolution, morphing, packed, pkr
from torch_geometric_ddp.parameterization import (
    FLOAT32,
    Codec,
    Float16,
    Float64,
    FullResolution,
    Mirrored,
    PointSet,
    ShapeMorphing,
    Uniform,
)
from torch_geometric_ddp.parameterization.codecs.packing import pack_bits, unpack_bits
from torch_geometric_ddp.tasks import Segmentation

C, K, M, N, L = 3, 2, 3, 9, 4

UNIFORM = [
    Uniform(1),
    Uniform(6),
    Uniform(8, reach=4.0),
    Uniform(16, reach=1e-40),
    Uniform(3, "cloud"),
    Uniform(16, "cloud"),
    Uniform(8, "axis"),
    Uniform(16, "axis"),
]
SETS = [
    PointSet(1),
    PointSet(3),
    PointSet(),
    PointSet(8),
    PointSet(1, half=True),
    PointSet(6, half=True),
]
CODECS = [*UNIFORM, *SETS]

# Clouds as hard as they come: one point, none, duplicates, zeros of both signs, and any scale.
shapes = st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(0, 5), st.just(3))
values = st.one_of(
    st.floats(-1.5, 1.5, width=32),
    st.floats(-60000, 60000, width=32),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-9, -1e-9, 0.125]),
)
clouds = shapes.flatmap(lambda s: hnp.arrays(np.float32, s, elements=values)).map(torch.from_numpy)


def rand(*shape, seed=0, scale=0.5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def same_tensors(first, second):
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert tensor.dtype == second[key].dtype
        assert torch.equal(tensor, second[key])


def as_sets(pos):
    """The points of every cloud, sorted."""
    return [sorted(cloud) for cloud in pos.flatten(0, -3).tolist()]


# Bits in bytes ####################################################################################


@given(
    st.integers(1, 32).flatmap(lambda w: st.tuples(st.just(w), st.lists(st.integers(0, 2**w - 1))))
)
def test_numbers_of_any_width_there_and_back(drawn):
    width, numbers = drawn
    packed = pack_bits(torch.tensor(numbers, dtype=torch.long), width)
    assert packed.numel() == math.ceil(width * len(numbers) / 8)
    digits = "".join(f"{n:0{width}b}" for n in numbers)
    assert "".join(f"{byte:08b}" for byte in packed.tolist()).rstrip("0") == digits.rstrip("0")
    assert unpack_bits(packed, width, len(numbers)).tolist() == numbers


def test_bytes_of_another_size_or_filling():
    packed = pack_bits(torch.arange(5), 3)
    for wrong in (packed[:1], torch.cat([packed, packed]), packed.int()):
        with pytest.raises(ValueError, match=r"must be 15 binary digits in 2 bytes \(uint8\), got"):
            unpack_bits(wrong, 3, 5)
    packed[-1] += 1
    with pytest.raises(ValueError, match="must be zero behind its 15 binary digits"):
        unpack_bits(packed, 3, 5)


# Every codec ######################################################################################


@pytest.mark.parametrize("codec", CODECS, ids=str)
@given(tensor=clouds)
def test_there_and_back_is_the_same_bytes_and_the_same_numbers(codec, tensor):
    stored = codec.encode(tensor)
    decoded = codec.decode(stored, tensor.shape)
    assert (decoded.dtype, decoded.shape) == (torch.float32, tensor.shape)
    same_tensors(codec.encode(decoded), stored)
    assert torch.equal(codec.decode(codec.encode(decoded), tensor.shape), decoded)
    assert codec.bits(tensor.shape) == tensor_bits(stored)


@pytest.mark.parametrize("span", ["cloud", "axis"])
def test_double_precision_on_a_grid_finer_than_single_is_stored_as_it_is_read(span):
    """Several codes have one value in single precision, of which one is found again."""
    codec = Uniform(16, span)
    tensor = 1000 + torch.linspace(0, 0.5, 99, dtype=torch.float64).view(1, 33, 3)
    stored = codec.encode(tensor)
    same_tensors(codec.encode(codec.decode(stored, tensor.shape)), stored)


@pytest.mark.parametrize("span", ["cloud", "axis"])
def test_a_range_that_begins_just_below_zero_is_the_same_bytes_again(span):
    """In half precision that is a zero, whose sign no number of the range would keep."""
    codec, tensor = Uniform(8, span), torch.tensor([-1e-9, 0.5, 1.0]).view(1, 3, 1)
    stored = codec.encode(tensor)
    again = codec.encode(codec.decode(stored, tensor.shape))
    assert again["ends"].numpy().tobytes() == stored["ends"].numpy().tobytes()


@pytest.mark.parametrize("span", ["cloud", "axis"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_that_ends_a_range_becomes_the_end_as_it_is_stored(span, sign):
    """The nearest of the grid would be another one, and end another range."""
    codec, tensor = Uniform(2, span), sign * torch.tensor([1000.0, 1000.76]).view(1, 2, 1)
    decoded = codec.decode(codec.encode(tensor), tensor.shape)
    assert decoded.flatten().tolist() == [sign * 1000, sign * 1001]


@pytest.mark.parametrize("codec", CODECS, ids=str)
@given(tensor=clouds)
def test_seen_is_what_is_stored(codec, tensor):
    decoded = codec.decode(codec.encode(tensor), tensor.shape)
    for dtype in (torch.float32, torch.float64):
        seen = codec.seen(tensor.to(dtype))
        assert (seen.dtype, seen.shape) == (dtype, tensor.shape)
        if codec.keeps_order and dtype == torch.float32:
            assert torch.equal(seen, decoded)
        elif dtype == torch.float32:
            assert as_sets(seen) == as_sets(decoded)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_every_group_is_rounded_by_itself(codec):
    tensor = rand(5, 2, 4, 3)
    for some in (slice(0, 1), slice(2, 4), slice(4, 9)):
        assert torch.equal(codec.seen(tensor[some]), codec.seen(tensor)[some])


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_gradients_pass_straight_through(codec):
    tensor, weight = rand(4, 6, 3).requires_grad_(), rand(4, 6, 3, seed=1)
    (codec.seen(tensor) * weight).sum().backward()
    assert torch.equal(tensor.grad, weight)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_seen_on_the_device_is_what_is_stored(codec, device):
    tensor = rand(3, 2, 50, 3)
    seen = codec.seen(tensor.to(device))
    assert seen.device.type == device.type
    assert torch.equal(seen.cpu(), codec.seen(tensor))
    same_tensors(codec.encode(tensor.to(device)), codec.encode(tensor))


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(codec, value):
    tensor = rand(2, 4, 3)
    tensor[1, 2, 0] = value
    with pytest.raises(ValueError, match=r"'tensor' must be finite, got 1 NaN or infinite"):
        codec.encode(tensor)
    if math.isnan(value):  # The loop sees it in the loss.
        assert not bool(codec.seen(tensor).isfinite().all())


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_config_there_and_back(codec):
    assert Codec.from_config(json.loads(json.dumps(codec.config()))) == codec
    config = {k: np.int64(v) if k == "depth" else v for k, v in codec.config().items()}
    assert json.dumps(Codec.from_config(config).config()) == json.dumps(codec.config())


# Even grids #######################################################################################


@pytest.mark.parametrize("depth", [1, 2, 6, 11, 16])
@given(tensor=hnp.arrays(np.float32, (2, 5, 3), elements=st.floats(-2, 2, width=32)))
def test_fixed_range_is_the_nearest_of_the_grid(depth, tensor):
    tensor, codec = torch.from_numpy(tensor), Uniform(depth, reach=1.5)
    grid = torch.linspace(-1.5, 1.5, 2**depth, dtype=torch.float64)
    clipped = tensor.double().clamp(-1.5, 1.5)
    step = 3 / (2**depth - 1)
    assert float((codec.seen(tensor) - clipped).abs().max()) <= step / 2 + 1e-7
    nearest = torch.searchsorted(grid, codec.seen(tensor).double() - step / 4)
    torch.testing.assert_close(codec.seen(tensor).double(), grid[nearest], atol=1e-6, rtol=0)


@pytest.mark.parametrize("span", ["cloud", "axis"])
def test_ranges_are_those_of_what_shares_them(span):
    tensor = rand(4, 2, 50, 3) * torch.tensor([1.0, 10.0, 0.1]) + 3
    codec = Uniform(8, span)
    dims = (-2, -1) if span == "cloud" else -2
    low, high = tensor.amin(dims, keepdim=True).half(), tensor.amax(dims, keepdim=True).half()
    assert torch.equal(codec.encode(tensor)["ends"], torch.stack([low, high]))
    # Half a step, and what half precision takes from the ends.
    bound = (high.float() - low.float()) / 255 / 2 + 2.0**-11 * tensor.abs()
    assert bool(((codec.seen(tensor) - tensor).abs() <= bound).all())
    assert codec.bits((4, 2, 50, 3)) == 4 * 2 * 50 * 3 * 8 + 32 * 4 * 2 * (3 if dims == -2 else 1)


def test_size_of_weights():
    assert Uniform(8, "cloud").bits((20, 16, 3)) == 20 * (16 * 3 * 8 + 32)
    assert Uniform(6, reach=4.0).bits((20, 16, 3)) == 20 * 16 * 3 * 6
    # One anchor has no weights, and these no ranges.
    for codec in UNIFORM:
        assert codec.bits((20, 16, 0)) == 0


def test_too_large_for_half_precision():
    tensor = torch.tensor([[[1.0], [-7e4]]])
    with pytest.raises(ValueError, match=r"within ±65504, as the ends .* got 70000"):
        Uniform(8, "cloud").encode(tensor)
    assert not bool(Uniform(8, "cloud").seen(tensor).isfinite().all())
    assert Uniform(8).seen(tensor).flatten().tolist() == [1.0, -1.0]


@pytest.mark.parametrize("ends", [[1.0, 0.5], [0.0, math.inf], [math.nan, 1.0]])
def test_ends_that_are_none(ends):
    stored = Uniform(8, "cloud").encode(rand(1, 4, 3))
    stored["ends"] = torch.tensor(ends).half().view(2, 1, 1, 1)
    with pytest.raises(ValueError, match="'ends' must be finite, and the first"):
        Uniform(8, "cloud").decode(stored, (1, 4, 3))
    with pytest.raises(ValueError, match=r"'ends' must be of shape \[2, 2, 1, 1\], got"):
        Uniform(8, "cloud").decode(stored, (2, 2, 3))


@pytest.mark.parametrize("shape", [(3,), (3, 5)])
def test_ranges_need_groups(shape):
    for call in (Uniform(8, "cloud").bits, lambda s: Uniform(8, "cloud").encode(rand(*s))):
        with pytest.raises(ValueError, match=r"\[G, \*, N, D\] has a range for every cloud, got"):
            call(shape)
    assert Uniform(8).bits(shape) == 8 * math.prod(shape)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "'depth' must be at least 1, got 0"),
        ((17,), ValueError, "'depth' must be from 1 to 16 bits, got 17"),
        ((8.0,), TypeError, "'depth' must be an integer, got float"),
        ((8, "row"), ValueError, r"'span' must be one of \['fixed', 'cloud', 'axis'\], got 'row'"),
        ((8, "fixed", 0.0), ValueError, "'reach' must be finite and above 0, got 0"),
        ((8, "fixed", 1e39), ValueError, "'reach' must be at most 3.40282e"),
    ],
)
def test_uniform_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        Uniform(*arguments)


# Sets in the ball #################################################################################


def ball(depth):
    """All middles in the ball."""
    axis = (2 * torch.arange(2**depth, dtype=torch.float64) + 1) / 2**depth - 1
    grid = torch.cartesian_prod(axis, axis, axis)
    return grid[grid.square().sum(dim=1) <= 1]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_points_become_the_nearest_middle_in_the_ball(depth, device):
    pos = torch.cat([rand(300, 1, 3, scale=s) for s in (0.3, 0.7, 5.0)]).to(device)
    drawn = pos / pos.norm(dim=-1, keepdim=True).clamp_min(1)
    middles = PointSet(depth).seen(pos)
    nearest = torch.cdist(drawn.double().cpu().flatten(0, 1), ball(depth)).amin(dim=1)
    away = (middles - drawn).norm(dim=-1).flatten().double().cpu()
    torch.testing.assert_close(away, nearest, atol=1e-6, rtol=0)
    assert float(middles.norm(dim=-1).max()) <= 1


@pytest.mark.parametrize(("depth", "size"), [(1, 1), (1, 3), (2, 2), (2, 3)])
def test_every_set_has_a_number_and_every_number_a_set(depth, size):
    codec, cells = PointSet(depth), len(ball(depth))
    count = math.comb(cells + size - 1, size)
    width = (count - 1).bit_length()
    assert codec.cloud_bits(size) == width
    bits = torch.tensor([[int(d) for d in f"{rank:0{width}b}"] for rank in range(count)])
    stored = {"sets": pack_bits(bits, 1)}
    pos = codec.decode(stored, (count, size, 3))
    assert len(set(map(str, as_sets(pos)))) == count
    assert as_sets(pos) == pos.tolist()  # Each sorted.
    same_tensors(codec.encode(pos), stored)
    for rank in {count, 2**width - 1} if count < 2**width else ():
        bits = torch.tensor([int(d) for d in f"{rank:0{width}b}"])
        with pytest.raises(ValueError, match=rf"sets of {size} points, got one beyond the last"):
            codec.decode({"sets": pack_bits(bits, 1)}, (1, size, 3))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size", [64, 128])
def test_the_members_of_large_sets_are_found(size, half):
    """Whose numbers are beyond floating point, so that a guess of a member is off."""
    codec, middles = PointSet(6, half), ball(6)
    middles = middles[len(middles) // 2 :] if half else middles
    drawn = torch.randint(len(middles), (20, size), generator=torch.Generator().manual_seed(0))
    # Beside these the first set, the last one, and the two of one cell and one other.
    first, last = torch.zeros(size, dtype=torch.long), torch.full((size,), len(middles) - 1)
    one_up, one_down = first.clone(), last.clone()
    one_up[-1], one_down[0] = len(middles) - 1, 0
    drawn = torch.cat([drawn, torch.stack([first, last, one_up, one_down])]).sort(dim=1).values
    pos = middles[drawn].float()
    assert torch.equal(codec.decode(codec.encode(pos), pos.shape), pos)


def test_order_does_not_count():
    pos = rand(4, 2, 20, 3)
    shuffled = pos[:, :, torch.randperm(20, generator=torch.Generator().manual_seed(0))]
    same_tensors(PointSet().encode(shuffled), PointSet().encode(pos))


@pytest.mark.parametrize(
    ("depth", "size", "bits"), [(6, 64, 797), (6, 128, 1469), (6, 256, 2686), (8, 252, 4161)]
)
def test_bits_of_a_cloud(depth, size, bits):
    assert PointSet(depth).cloud_bits(size) == bits
    assert PointSet(depth).bits((10, 3, size, 3)) == 8 * math.ceil(30 * bits / 8)
    assert bits < 3 * depth * size - math.lgamma(size + 1) / math.log(2)


def test_far_points_keep_their_direction():
    pos = torch.tensor([[[3e38, 0.0, 0.0], [-3e38, 3e38, 3e38], [1e30, 1e30, -1e30]]])
    expected = torch.tensor(
        [[1.0, 0.0, 0.0], [-(3**-0.5), 3**-0.5, 3**-0.5], [3**-0.5, 3**-0.5, -(3**-0.5)]]
    )
    assert float((PointSet(8).seen(pos)[0] - expected).abs().max()) < 2**-6


@pytest.mark.parametrize(
    ("depth", "error", "message"),
    [
        (0, ValueError, "'depth' must be at least 1"),
        (11, ValueError, "'depth' must be from 1 to 10 bits, got 11"),
        ("6", TypeError, "'depth' must be an integer, got str"),
    ],
)
def test_point_set_refuses(depth, error, message):
    with pytest.raises(error, match=message):
        PointSet(depth)


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 2), (3,)])
def test_sets_of_points_only(shape):
    for call in (PointSet().bits, lambda s: PointSet().encode(rand(*s))):
        with pytest.raises(ValueError, match=r"must be of shape \[G, \*, N, 3\], got"):
            call(shape)


# In a parameterization and its file ###############################################################


def made(codec, seed=0):
    if codec == "morphs":
        anchors, weights = rand(C * K, M, N, 3, seed=seed), rand(C * K, L, M, seed=seed + 1)
        codecs = {"codec": PointSet(5), "weight_codec": Uniform(6, "cloud")}
        return ShapeMorphing(anchors, C, L, weights, **codecs)
    if codec == "mirrored":
        halves = rand(C * K, N, 3, seed=seed)
        planes = torch.tensor([-1.0, 1.0]).repeat(C)[:, None]
        return Mirrored(halves, planes, C, codec=PointSet(4, half=True))
    return FullResolution(rand(C * K, N, 3, seed=seed), C, codec=codec)


EVEN = [Uniform(5), Uniform(7, "cloud"), Uniform(4, "axis")]
WAYS = [*EVEN, PointSet(), PointSet(3), Float16(), Float64(), "morphs", "mirrored"]


@pytest.mark.parametrize("codec", WAYS, ids=str)
def test_file_there_and_back(codec, tmp_path):
    SyntheticPointCloudDataset(made(codec).stored()).save(tmp_path / "set")
    read = SyntheticPointCloudDataset(tmp_path / "set")
    read.save(tmp_path / "again")
    content = (tmp_path / "set").read_bytes()
    assert (tmp_path / "again").read_bytes() == content
    header = int.from_bytes(content[:8], "little")
    assert len(content) == 8 + header + read.storage_bits // 8
    assert read.storage_bits == made(codec).storage_bits()


@pytest.mark.parametrize("codec", WAYS, ids=str)
def test_a_thousand_damages(codec, tmp_path):
    whole = SyntheticPointCloudDataset(made(codec).stored())
    whole.save(tmp_path / "set")
    content, generator = (tmp_path / "set").read_bytes(), np.random.default_rng(0)
    for _ in range(1000):
        damaged = bytearray(content)
        kind, place = generator.integers(3), int(generator.integers(len(content)))
        if kind == 0:
            damaged[place] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            del damaged[place:]
        else:
            damaged[place : place + 8] = generator.bytes(8)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            read = SyntheticPointCloudDataset(tmp_path / "damaged")
        except ValueError:
            continue
        same_tensors(read.parameterization.storage(), whole.parameterization.storage())
        assert torch.equal(read.parameterization.unfold(), whole.parameterization.unfold())


@pytest.mark.parametrize("codec", WAYS, ids=str)
def test_damages_behind_the_checksum(codec):
    whole, generator = made(codec).stored(), np.random.default_rng(0)
    storage, config = whole.storage(), whole.config()
    for _ in range(200):
        damaged = {key: tensor.clone() for key, tensor in storage.items()}
        chosen = damaged[sorted(damaged)[generator.integers(len(damaged))]]
        content = chosen.view(-1).view(torch.uint8)
        content[int(generator.integers(len(content)))] ^= 1 << int(generator.integers(8))
        try:
            read = type(whole).from_storage(damaged, config, C, K)
        except ValueError:
            continue
        # What is another set is written as it was read, but for how a range is written.
        again = type(whole).from_storage(read.storage(), read.config(), C, K)
        torch.testing.assert_close(again.unfold(), read.unfold())


# Correspondence ###################################################################################


def test_morphs_of_sets_are_those_of_the_file():
    model = made("morphs")
    sets = as_sets(model.anchors)
    model.reorder()
    assert as_sets(model.anchors) == sets
    assert torch.equal(model.unfold(), model.stored().unfold())
    first = model.anchors.clone()
    model.reorder()
    assert torch.equal(model.anchors, first)
    seen = model._seen("anchors", slice(None))
    for group in seen:
        assert torch.equal(ops.alignment(group), torch.arange(N).expand(M, N))


def test_state_of_points_goes_with_them():
    model = made("morphs")
    optimizer = torch.optim.Adam(model.parameter_groups())
    model.unfold().square().sum().backward()
    optimizer.step()
    state = optimizer.state[model.anchors]
    state["exp_avg"].copy_(2 * model.anchors.detach())
    model.reorder(optimizer)
    assert torch.equal(state["exp_avg"], 2 * model.anchors.detach())


def test_codecs_that_keep_the_order_are_left_alone():
    model = FullResolution(rand(C, N, 3), C, codec=Uniform(8))
    before = model.pos.detach().clone()
    model.reorder()
    assert torch.equal(model.pos, before)


@pytest.mark.parametrize("codec", [Uniform(6), Uniform(8, "cloud"), PointSet(6)], ids=str)
def test_distillation_sees_what_it_stores(codec, tmp_path):
    storing = morphing(M, None, L, codec=codec, weight_codec=Uniform(8, "cloud"), anchor_lr=0.5)
    method = Method("toy", storing, SADM, steps=12)
    bank = PointCloudBank.from_dataset(toy_set())
    loop = method.begin(bank, network=TinyNet)
    loop.run(12, progress=False)
    loop.parameterization.reorder()
    synthetic = method.finish(loop)
    assert torch.equal(loop.parameterization.unfold(), synthetic.parameterization.unfold())
    assert synthetic.storage_bits <= bank.budget(1).bits
    synthetic.save(tmp_path / "set")
    read = SyntheticPointCloudDataset(tmp_path / "set")
    assert torch.equal(read.parameterization.unfold(), synthetic.parameterization.unfold())


def test_checkpoint_of_sets_goes_on_bit_for_bit(tmp_path):
    storing = morphing(M, 8, L, codec=PointSet(5), anchor_lr=0.5)
    method = Method("toy", storing, SADM, steps=12)
    bank = PointCloudBank.from_dataset(toy_set())
    whole = method.begin(bank, network=TinyNet)
    whole.run(13, progress=False)
    first = method.begin(bank, network=TinyNet)
    first.run(7, progress=False, checkpoint=tmp_path / "state")
    second = method.begin(bank, network=TinyNet)
    second.load_checkpoint(tmp_path / "state")
    second.run(13, progress=False)
    assert second.losses == whole.losses
    assert torch.equal(second.parameterization.anchors, whole.parameterization.anchors)


def test_rounding_afterwards_is_that_of_the_parameters():
    codecs = {"codec": Uniform(4), "weight_codec": Uniform(8, "cloud")}
    runs = {}
    for name, kwargs in {"plain": {}, "during": codecs, "after": codecs}.items():
        method = ddp(M, 8, L, anchor_lr=0.5, sees_stored=name == "during", **kwargs)
        loop = method.begin(PointCloudBank.from_dataset(toy_set()), network=TinyNet)
        loop.run(3, progress=False)
        runs[name] = loop
    assert runs["after"].losses == runs["plain"].losses != runs["during"].losses
    anchors = runs["plain"].parameterization.anchors
    assert torch.equal(runs["after"].parameterization.anchors, anchors)
    synthetic = ddp(sees_stored=False).finish(runs["after"])
    assert torch.equal(synthetic.parameterization.anchors, Uniform(4).rounded(anchors.detach()))
    assert "sees_stored=False" in synthetic.provenance["parameterization"]


# Packed clouds ####################################################################################


@pytest.mark.parametrize("ppc", [0.25, 1, 2.5])
@pytest.mark.parametrize("codec", [FLOAT32, Uniform(5), PointSet(4)], ids=str)
def test_as_many_packed_clouds_as_fit(ppc, codec):
    method = Method("packed", packed(8, codec), SADM, steps=1)
    bank = PointCloudBank.from_dataset(toy_set())
    loop = method.begin(bank, ppc, network=TinyNet)
    model, budget = loop.parameterization, bank.budget(ppc)
    assert codec.bits((3 * model.ppc, 8, 3)) == model.storage_bits() <= budget.bits
    assert codec.bits((3 * (model.ppc + 1), 8, 3)) > budget.bits
    loop.run(1, progress=False)
    synthetic = method.finish(loop)
    assert (synthetic.provenance["ppc"], synthetic.provenance["budget_bits"]) == (ppc, budget.bits)
    # They start from farthest points of real clouds.
    chosen = bank.dense()[bank.draw(model.ppc, torch.Generator().manual_seed(0))].flatten(0, 1)
    start = method.begin(bank, ppc, network=TinyNet).parameterization.pos
    assert torch.equal(start, ops.gather_points(chosen, ops.farthest_point_sample(chosen, 8)))


@pytest.mark.parametrize("ppc", [0.25, 1])
@pytest.mark.parametrize("codec", [Uniform(6, "cloud"), PointSet(4)], ids=str)
def test_coresets_of_packed_clouds(ppc, codec):
    real = toy_set()
    bank = PointCloudBank.from_dataset(real)
    seen = Observation(bank.pos.view(len(bank), -1), None, bank.y)
    num = FullResolution.clouds_that_fit(bank.budget(ppc), 8, codec)
    settings = {"num_points": 8, "codec": codec}
    for coreset in (
        random_coreset(real, ppc, **settings),
        herding_coreset(real, ppc, seen, **settings),
        k_center_coreset(real, ppc, seen, **settings),
    ):
        assert len(coreset) == 3 * num
        assert coreset.storage_bits == coreset.provenance["bits"] <= bank.budget(ppc).bits
        chosen = bank.select(torch.tensor(coreset.provenance["chosen"])).normalize()
        pos = chosen.farthest_points(8).dense()
        assert as_sets(coreset.parameterization.pos.detach()) == as_sets(codec.rounded(pos))
        assert (coreset.provenance["ppc"], coreset.provenance["num_points"]) == (ppc, 8)


def test_whole_clouds_of_few_bits():
    bank = PointCloudBank.from_dataset(toy_set())
    method = Method("full", full_resolution(codec=Uniform(8)), SADM, steps=0)
    assert method.begin(bank, 0.25).parameterization.pos.shape == (3, 32, 3)
    method = Method("full", full_resolution(), SADM, steps=0)
    with pytest.raises(ValueError, match=r"'num_points'=32 does not fit .* at most 8 points"):
        method.begin(bank, 0.25)
    with pytest.raises(ValueError, match=r"'num_points'=8 does not fit .* at most 0 points"):
        Method("packed", packed(8), SADM, steps=0).begin(bank, 1e-3)


def test_groups_that_fill_the_budget():
    bank = PointCloudBank.from_dataset(toy_set())
    kwargs = {"codec": PointSet(4), "weight_codec": Uniform(8, "cloud")}
    filled = ddp(2, 8, 3, fill=True, **kwargs).begin(bank, network=TinyNet).parameterization
    most = ShapeMorphing.most_groups(bank.budget(1), 2, 8, 3, *kwargs.values())
    assert filled.ppc == most > 1
    with pytest.raises(ValueError, match="'fill' must be with 'anchor_points'"):
        ddp(fill=True)


# The names that the forms of the families stand for.
FORMS = {
    "random NxB[ in order], herding NxB[ in order]": r"(random|herding) \d+x(32|16|\d( in order)?)",
    "DDP-Bbit[-after]": r"DDP-\dbit(-after)?",
    "DDP NxB": r"DDP \d+x\d",
    "DDP-text, DDP-code": r"DDP-(text|code)",
    "mirrored NxB": r"mirrored \d+x\d",
    "PKR N[-chosen|-moved|-unmirrored]": r"PKR \d+(-chosen|-moved|-unmirrored)?",
}


def test_controls_are_named_as_their_families_say():
    assert [family.form for family in CONTROL_FAMILIES] == list(FORMS)
    rows = {family.form: [row.name for row in family.rows] for family in CONTROL_FAMILIES}
    assert list(CONTROLS) == [name for names in rows.values() for name in names]
    assert [len(names) for names in rows.values()] == [60, 8, 12, 2, 3, 12]
    for form, names in rows.items():
        assert [name for name in CONTROLS if re.fullmatch(FORMS[form], name)] == names


FEW = {"visits": 2, "ages": (0, 2), "num_trained": 1, "real_per_class": 4}


@pytest.mark.parametrize("entry", CONTROLS.values(), ids=CONTROLS)
def test_every_control_within_the_same_bits(entry, tmp_path):
    train, test = toy_set(num_points=128), toy_set(num_points=128, seed=1)
    lab = Lab(train, test, tmp_path, Preset("tiny", SMOKE, SMOKE, 1, 1), {"Tiny": TinyNet})
    if isinstance(entry, Distilled):
        small = {ddp: {"num_anchors": 2, "num_morphs": 3}, pkr: FEW}[entry.build]
        entry = replace(entry, settings={**small, **entry.settings})
    (run,) = lab.run(lab.cells([entry], [1.5], [0]))
    assert (run["ppc"], run["budget_bits"]) == (1.5, 3 * 3 * 64 * 96)
    assert run["bits"] <= run["budget_bits"]
    # Points with labels need their order.
    ends = ("x32", "x16", "-text", "-code")
    kept = "order" in entry.name or "bit" in entry.name or entry.name.endswith(ends)
    assert entry.serves(Segmentation()) == kept
