"""How tensors are stored: the codecs that there are, and a codec and a parameterization of ours."""

import json
import math
import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import TinyNet, toy_set
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torch_geometric_ddp import (
    Distillation,
    Method,
    StorageBudget,
    SyntheticPointCloudDataset,
    _files,
    ops,
)
from torch_geometric_ddp.budget import tensor_bits
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.matching import SADM, UniformityAwareSADM
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.methods.storing import full_resolution, morphing
from torch_geometric_ddp.parameterization import (
    FLOAT32,
    Codec,
    Float16,
    Float32,
    Float64,
    Form,
    FullResolution,
    Parameterization,
    PartLabels,
    PointSet,
    ShapeMorphing,
    straight_through,
)
from torch_geometric_ddp.parameterization.codecs import float_codec

C, K, M, N, L = 3, 2, 3, 10, 4

# Codecs of our own ################################################################################


@dataclass(frozen=True)
class ToyBytes(Codec):
    """A byte a number."""

    reach: float = 4.0

    def bits(self, shape):
        return 8 * math.prod(shape)

    def encode(self, tensor):
        share = (tensor.float() / self.reach + 1) / 2
        return {"codes": (255 * share).round().clamp(0, 255).to(torch.uint8)}

    def decode(self, stored, shape):
        return self.reach * (stored["codes"].float() / 255 * 2 - 1)


@dataclass(frozen=True)
class ToyHalves(Codec):
    """Sixteen bits a number in two tensors, one of them without a name."""

    def bits(self, shape):
        return 16 * math.prod(shape)

    def encode(self, tensor):
        codes = (tensor.double() * 4096).round().clamp(-(2**15), 2**15 - 1).to(torch.int32) + 2**15
        return {"": (codes >> 8).to(torch.uint8), "low": (codes & 255).to(torch.uint8)}

    def decode(self, stored, shape):
        codes = stored[""].int() * 256 + stored["low"].int() - 2**15
        return codes.float() / 4096


@dataclass(frozen=True)
class ToySet(Codec):
    """Points on a grid, sorted and deflated: neither their order nor the size is that of before."""

    keeps_order: ClassVar[bool] = False
    steps: int = 8

    def bits(self, shape):
        return None

    def _codes(self, tensor):
        return (tensor.float() * self.steps).round().clamp(-128, 127)

    def rounded(self, tensor):
        return self._codes(tensor) / self.steps

    def encode(self, tensor):
        clouds = self._codes(tensor).to(torch.int8).flatten(0, -3).tolist()
        points = np.array([sorted(cloud) for cloud in clouds], dtype=np.int8)
        return {"deflated": torch.tensor(list(zlib.compress(points.tobytes())), dtype=torch.uint8)}

    def decode(self, stored, shape):
        try:
            content = zlib.decompress(bytes(stored["deflated"].tolist()))
        except zlib.error as error:
            raise ValueError(f"'stored' must be deflated, got {error}") from error
        points = torch.tensor(np.frombuffer(content, dtype=np.int8).copy())
        return points.view(*shape).float() / self.steps


FLOATS = [Float16(), Float32(), Float64()]
FIXED = [*FLOATS, ToyBytes(), ToyBytes(0.5), ToyHalves()]
LOSSY = [Float16(), ToyBytes(), ToyHalves()]

shapes = hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)


def rand(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def tensors(dtype=np.float32, reach=60000.0):
    width = np.dtype(dtype).itemsize * 8
    reach = float(np.dtype(dtype).type(reach))
    values = st.floats(-reach, reach, width=width)
    return hnp.arrays(dtype, shapes, elements=values).map(torch.from_numpy)


def same_tensors(first, second):
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert tensor.dtype == second[key].dtype
        assert torch.equal(tensor, second[key])


# Each codec #######################################################################################


@pytest.mark.parametrize("codec", FIXED, ids=str)
@given(tensor=tensors())
def test_what_is_stored_is_stored_again_to_the_bit(codec, tensor):
    stored = codec.encode(tensor)
    decoded = codec.decode(stored, tensor.shape)
    assert decoded.shape == tensor.shape
    same_tensors(codec.encode(decoded), stored)
    assert torch.equal(codec.decode(codec.encode(decoded), tensor.shape), decoded)


@pytest.mark.parametrize("codec", FIXED, ids=str)
@given(tensor=tensors())
def test_bits_are_the_bytes_that_are_written(codec, tensor):
    stored = codec.encode(tensor)
    written = sum(8 * len(value.numpy().tobytes()) for value in stored.values())
    assert codec.bits(tensor.shape) == written == tensor_bits(stored)


@pytest.mark.parametrize("codec", FIXED, ids=str)
@given(tensor=st.one_of(tensors(), tensors(np.float64), tensors(np.float16)))
def test_seen_is_what_is_decoded(codec, tensor):
    seen = codec.seen(tensor)
    decoded = codec.decode(codec.encode(tensor), tensor.shape)
    assert (seen.dtype, seen.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(seen, decoded.to(tensor.dtype))


@pytest.mark.parametrize("codec", FIXED, ids=str)
def test_every_row_is_rounded_by_itself(codec):
    tensor = rand(5, 2, 4, 3)
    for some in (slice(0, 1), slice(2, 4), slice(4, 9)):
        assert torch.equal(codec.seen(tensor[some]), codec.seen(tensor)[some])


def test_seen_where_the_tensor_lies():
    @dataclass(frozen=True)
    class ToyOnHost(ToyBytes):
        def rounded(self, tensor):
            return torch.zeros(tensor.shape, dtype=torch.float64)

    seen = ToyOnHost().seen(torch.ones(2, 3, device="meta"))
    assert (seen.device.type, seen.dtype) == ("meta", torch.float32)


@pytest.mark.parametrize("codec", [*FIXED, ToySet()], ids=str)
def test_gradients_pass_straight_through(codec):
    tensor, weight = rand(4, 6, 3).requires_grad_(), rand(4, 6, 3, seed=1)
    (codec.seen(tensor) * weight).sum().backward()
    assert torch.equal(tensor.grad, weight)
    # That of what is seen, where it is not linear.
    tensor.grad = None
    codec.seen(tensor).pow(3).sum().backward()
    torch.testing.assert_close(tensor.grad, 3 * codec.seen(tensor).detach() ** 2)


@given(tensor=hnp.arrays(np.float32, (2, 7, 3), elements=st.floats(-9, 9, width=32)))
def test_points_in_another_order_are_the_same_points(tensor):
    codec, tensor = ToySet(), torch.from_numpy(tensor)
    stored = codec.encode(tensor)
    decoded = codec.decode(stored, tensor.shape)
    for ours, theirs in zip(decoded, codec.seen(tensor), strict=True):
        assert sorted(ours.tolist()) == sorted(theirs.tolist())
    same_tensors(codec.encode(decoded), stored)
    same_tensors(codec.encode(tensor.flip(1)), stored)


@pytest.mark.parametrize("codec", [*FIXED, ToySet(), ToySet(3)], ids=str)
def test_config_there_and_back(codec):
    config = json.loads(json.dumps(codec.config()))
    assert Codec.from_config(config) == codec
    assert Codec.from_config(config) != ToyBytes(17.0)
    assert {codec: 1}[Codec.from_config(config)] == 1


def test_names():
    assert [*map(str, FLOATS)] == ["Float16", "Float32", "Float64"]
    assert [*map(str, (ToyBytes(), ToyHalves()))] == ["ToyBytes(reach=4.0)", "ToyHalves"]
    assert {"Float16", "Float32", "Float64", "ToyBytes", "ToySet"} <= Codec.registry.keys()
    assert not any(name.startswith("_") for name in Codec.registry)


# Floating point numbers ###########################################################################


@pytest.mark.parametrize(
    ("codec", "dtype", "exact"),
    [
        (Float16(), torch.float16, True),
        (Float16(), torch.bfloat16, False),
        (Float16(), torch.float32, False),
        (Float32(), torch.float16, True),
        (Float32(), torch.bfloat16, True),
        (Float32(), torch.float32, True),
        (Float32(), torch.float64, False),
        (Float64(), torch.float64, True),
    ],
)
def test_exact_numbers_are_seen_themselves(codec, dtype, exact):
    tensor = rand(2, 3, dtype=dtype)
    assert codec.exact(dtype) == exact
    assert (codec.seen(tensor) is tensor) == exact


@given(tensor=tensors())
def test_half_precision_is_the_nearest_half(tensor):
    (stored,) = Float16().encode(tensor).values()
    assert stored.dtype == torch.float16
    assert torch.equal(stored, torch.from_numpy(tensor.numpy().astype(np.float16)))
    decoded = Float16().decode({"": stored}, tensor.shape)
    assert decoded.dtype == torch.float32
    bound = tensor.abs() * 2.0**-11 + 2.0**-25  # Half a unit in the last place; below, a denormal.
    assert bool(((decoded - tensor).abs() <= bound).all())


@pytest.mark.parametrize("value", [65520.0, -7e4, 3e38])
def test_numbers_too_large_for_half_precision(value):
    tensor = torch.tensor([[1.0, value]])
    message = rf"must lie within ±65504 to be stored as Float16, got {abs(value):g}".replace(
        "+", r"\+"
    )
    with pytest.raises(ValueError, match=message):
        Float16().encode(tensor)
    # The loop stops at a loss that is not finite; it is not asked for a number in every step.
    assert Float16().seen(tensor).tolist() == [[1.0, math.copysign(math.inf, value)]]
    assert Float16().encode(torch.tensor([65519.0]))[""].tolist() == [65504.0]


def test_numbers_too_large_for_single_precision():
    with pytest.raises(ValueError, match=r"within ±3\.40282e\+38 to be stored as Float32, got 1e"):
        Float32().encode(torch.tensor([1e39], dtype=torch.float64))


def test_numbers_as_they_are():
    for codec in FLOATS:
        assert float_codec(codec.dtype) == codec
    with pytest.raises(ValueError, match=r"'dtype' must be one of \['torch.float16', .*bfloat16"):
        float_codec(torch.bfloat16)


def test_straight_through_refuses():
    for value in (torch.zeros(3), torch.zeros(2, dtype=torch.float64)):
        with pytest.raises(ValueError, match=r"'value' must be torch.float32 of shape \[2\], got"):
            straight_through(torch.zeros(2), value)


# What cannot be forgotten #########################################################################


def test_codec_that_loses_its_settings():
    class ToyCareless(ToyBytes):
        def __init__(self, reach, other):
            super().__init__(reach)
            object.__setattr__(self, "other", other)

    with pytest.raises(
        TypeError, match=r"must be a frozen dataclass, .* \['other'\] are no fields"
    ):
        ToyCareless(1.0, 2).config()
    with pytest.raises(TypeError, match="must be a frozen dataclass"):
        FullResolution(rand(C, N, 3), C, codec=ToyCareless(1.0, 2))


def test_codec_without_order_says_what_is_seen():
    with pytest.raises(TypeError, match=r"'ToyUnordered' must override 'rounded' .*'keeps_order'"):

        class ToyUnordered(ToyBytes):
            keeps_order = False


def test_two_of_a_name():
    def again():
        class ToyTwice(ToyBytes):
            pass

        return ToyTwice

    again()
    twice = again()  # The same place once more, as a cell of a notebook is.
    assert Codec.registry["ToyTwice"] is twice
    with pytest.raises(TypeError, match=r"must have a name of its own, .* 'ToyTwice', which is"):

        class ToyTwice(ToyBytes):
            pass

    with pytest.raises(
        TypeError, match=r"must have a name of its own, .* 'FullResolution', which is"
    ):

        class FullResolution(Parameterization):
            pass


@pytest.mark.parametrize("config", [{}, {"name": "None"}, {"name": 3}, {"name": None}])
def test_unknown_codec(config):
    with pytest.raises(ValueError, match=r"'codec' must be one of \['Float16'.*, got"):
        Codec.from_config(config)


# A parameterization of our own ####################################################################


class ToyMirrored(Parameterization):
    """Half clouds, and their mirror images."""

    clouds_per_group = 2

    def __init__(self, halves, num_classes, axis=0, codec=FLOAT32, rotation_lr=None):
        super().__init__(num_classes, len(halves) // num_classes, halves.size(1))
        self.axis = axis
        self.keep("halves", halves, lr=1.0, codec=codec, rotation_lr=rotation_lr)

    def sizes(self):
        return {"axis": self.axis}

    def clouds(self, halves):
        flip = halves.new_ones(3)
        flip[self.axis] = -1
        return torch.stack([halves, flip * halves], dim=1).flatten(0, 1)


def dtype_of(codec):
    """The type of what is optimised, which the file gives back."""
    return torch.float64 if codec == Float64() else torch.float32


def mirrored(codec, seed=0, **kwargs):
    halves = rand(C * K, N, 3, seed=seed, dtype=dtype_of(codec))
    return ToyMirrored(halves, C, axis=1, codec=codec, **kwargs)


def full(codec, seed=0, **kwargs):
    pos = rand(C * K, N, 3, seed=seed, dtype=dtype_of(codec))
    return FullResolution(pos, C, codec=codec, **kwargs)


def shape_of(codec, seed=0, weight_codec=None, **kwargs):
    weight_codec = weight_codec or codec
    anchors = rand(C * K, M, N, 3, seed=seed, dtype=dtype_of(codec))
    weights = rand(C * K, L, M, seed=seed + 1, dtype=dtype_of(weight_codec))
    return ShapeMorphing(anchors, C, L, weights, codec=codec, weight_codec=weight_codec, **kwargs)


def mixed(codec, seed=0, **kwargs):
    """Weights in another precision than the anchors."""
    return shape_of(codec, seed, Float16(), **kwargs)


MAKERS = {
    "ToyMirrored": mirrored,
    "FullResolution": full,
    "ShapeMorphing": shape_of,
    "mixed": mixed,
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture(params=[Float32(), Float64(), *LOSSY], ids=str)
def codec(request):
    return request.param


@pytest.fixture(params=LOSSY, ids=str)
def lossy(request):
    return request.param


def same_clouds(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.pos, b.pos)
        assert torch.equal(a.y, b.y)


def test_what_optimisation_sees_is_what_is_stored(make, lossy):
    made = make(lossy)
    assert torch.equal(made.unfold(), made.stored().unfold())
    assert not torch.equal(made.unfold(), make(FLOAT32).unfold())


def test_some_groups_are_seen_as_all_of_them(make, codec):
    made = make(codec)
    size = made.clouds_per_group
    assert torch.equal(made.unfold(slice(1, 4)), made.unfold()[size : 4 * size])
    assert torch.equal(made(slice(1, 2)).pos, made().pos.view(C, -1, 3)[1])


def test_file_there_and_back(make, codec, tmp_path):
    made = make(codec).stored()
    written = SyntheticPointCloudDataset(made)
    written.save(tmp_path / "set")
    read = SyntheticPointCloudDataset(tmp_path / "set")
    same_clouds(read, written)
    assert type(read.parameterization) is type(made)
    same_tensors(read.parameterization.storage(), made.storage())
    assert read.parameterization.config() == made.config()
    assert read.parameterization.describe() == made.describe()
    read.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "set").read_bytes()
    # The payload of the file is what is counted, to the byte.
    header = int.from_bytes((tmp_path / "set").read_bytes()[:8], "little")
    assert (tmp_path / "set").stat().st_size == 8 + header + read.storage_bits // 8


def test_bits_are_those_of_the_codec(make, codec):
    made = make(codec)
    clouds, weights = codec.bits((C * K, N, 3)), C * K * L * (M - 1)
    expected = {
        shape_of: M * clouds + codec.bits((weights,)),
        mixed: M * clouds + Float16().bits((weights,)),
    }.get(make, clouds)
    assert made.storage_bits() == expected
    budget = StorageBudget(2 * N * (M + 1), C, K)
    assert made.check_budget(budget) == expected
    with pytest.raises(ValueError, match=r"more than the budget"):
        made.check_budget(StorageBudget(1, C, 1))


def test_bits_that_are_sure_are_counted_without_writing(make, lossy, monkeypatch):
    dataset = SyntheticPointCloudDataset(make(lossy))
    expected, told = tensor_bits(dataset.parameterization.storage()), repr(dataset)
    for codec in (*FIXED, ToySet()):
        monkeypatch.setattr(type(codec), "encode", None)
    assert dataset.storage_bits == expected
    assert repr(dataset) == told


def test_codec_that_tells_other_bits_than_it_writes():
    @dataclass(frozen=True)
    class ToyModest(ToyBytes):
        def bits(self, shape):
            return 4 * math.prod(shape)

    made = full(ToyModest())
    with pytest.raises(ValueError, match=r"'pos' must be 720 bits to be of shape .*, got 1440"):
        made.stored()


def test_every_parameter_has_a_gradient(make, codec):
    made = make(codec)
    made().pos.pow(3).sum().backward()
    for parameter in made.parameters():
        assert bool(parameter.grad.isfinite().all())
        assert float(parameter.grad.abs().sum()) > 0


def test_weights_are_rounded_as_they_are_stored(lossy):
    made = shape_of(FLOAT32, weight_codec=lossy)
    differences = made.weights[..., 1:] - made.weights[..., :1]
    stored = lossy.decode(lossy.encode(differences), differences.shape)
    logits = torch.nn.functional.pad(stored, (1, 0))
    expected = ops.morph(made.anchors, logits.softmax(dim=-1))
    assert torch.equal(made.unfold().view(C * K, M + L, N, 3)[:, M:], expected)
    # And optimisation sees the logits themselves where nothing is lost.
    exact = shape_of(FLOAT32)
    expected = ops.morph(exact.anchors, exact.weights.softmax(dim=-1))
    assert torch.equal(exact.unfold().view(C * K, M + L, N, 3)[:, M:], expected)


def test_turned_clouds_are_stored_turned_and_rounded(make, codec):
    made = make(codec, rotation_lr=0.1)
    before = made.storage_bits()
    made.rotation.angle.data.normal_()
    made.rotation.tilt.data.normal_()
    name = next(name for name, _ in made.named_parameters() if name != "weights")
    turned = made.rotation(getattr(made, name)).detach()
    stored = {
        key.partition(".")[2]: value
        for key, value in made.storage().items()
        if key.partition(".")[0] == name
    }
    same_tensors(stored, codec.encode(turned))
    assert made.storage_bits() == before
    again = made.stored()
    assert again.rotation is None
    if codec in LOSSY:
        assert torch.equal(again.unfold(), made.unfold())
    torch.testing.assert_close(again.unfold(), made.unfold())


def test_double_precision_is_rounded_by_default():
    pos = rand(C * K, N, 3, dtype=torch.float64)
    single, double = FullResolution(pos, C), FullResolution(pos, C, codec=Float64())
    assert single.storage_bits() * 2 == double.storage_bits()
    assert torch.equal(single.unfold(), pos.float().double())
    assert torch.equal(double.unfold(), pos)
    assert torch.equal(double.stored().unfold(), pos)


def test_files_of_numbers_as_they_were(tmp_path):
    """Before there were codecs, numbers were written in the type that they had."""
    for dtype in (torch.float16, torch.float64):
        pos = rand(C * K, N, 3, dtype=dtype)
        read = FullResolution.from_storage({"pos": pos}, {}, C, K)
        assert read.storage()["pos"].dtype == dtype
        assert torch.equal(read.unfold().to(dtype), pos)


def test_config_says_nothing_of_the_default():
    for make in (mirrored, full, shape_of):
        assert not {"codecs", "shapes"} & make(Float32()).config().keys()
        config = make(ToyBytes(4.0)).config()
        assert all(one == {"name": "ToyBytes", "reach": 4.0} for one in config["codecs"].values())
        assert config["codecs"].keys() == config["shapes"].keys()


def test_describe():
    assert mirrored(FLOAT32).describe() == "ToyMirrored(C=3, K=2, N=10, axis=1)"
    assert full(Float16()).describe() == "FullResolution(C=3, K=2, N=10, pos=Float16)"
    assert shape_of(FLOAT32, weight_codec=ToyBytes()).describe() == (
        "ShapeMorphing(C=3, K=2, M=3, N2=10, L=4, weights=ToyBytes(reach=4.0))"
    )


# Without order ####################################################################################


def test_clouds_without_order(tmp_path):
    made = full(ToySet())
    SyntheticPointCloudDataset(made.stored()).save(tmp_path / "set")
    read = SyntheticPointCloudDataset(tmp_path / "set")
    for ours, theirs in zip(read, made.unfold(), strict=True):
        assert sorted(ours.pos.tolist()) == sorted(theirs.tolist())
    same_tensors(read.parameterization.storage(), made.storage())
    assert read.storage_bits == 8 * made.storage()["pos.deflated"].numel()
    same_clouds(read, SyntheticPointCloudDataset(read.parameterization.stored()))


def test_anchors_without_order_are_aligned_where_they_are_read(tmp_path):
    made = shape_of(ToySet(), weight_codec=FLOAT32)
    written = SyntheticPointCloudDataset(made)
    written.save(tmp_path / "set")
    read = SyntheticPointCloudDataset(tmp_path / "set")
    same_clouds(read, written)
    anchors = read.parameterization.anchors
    shape = [C * K, M, N, 3]
    decoded = ToySet().decode({"deflated": made.storage()["anchors.deflated"]}, shape)
    for ours, group in zip(anchors, decoded, strict=True):
        assert torch.equal(ours, ops.align_points(group))
    same_tensors(read.parameterization.storage(), written.parameterization.storage())


def test_set_in_memory_is_that_of_its_file(make, lossy, tmp_path):
    made = make(lossy, rotation_lr=0.1)
    made.rotation.angle.data.normal_()
    made.sees_stored = False
    written = SyntheticPointCloudDataset(made)
    written.save(tmp_path / "set")
    made.rotation.angle.data.normal_()  # What goes on is another one.
    written.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "set").read_bytes()
    same_clouds(SyntheticPointCloudDataset(tmp_path / "set"), written)


def test_order_that_matters_is_kept():
    with pytest.raises(ValueError, match=r"codec of 'halves' must keep .* made point by point"):
        mirrored(ToySet())
    with pytest.raises(ValueError, match=r"codec of 'weights' must keep the order"):
        shape_of(FLOAT32, weight_codec=ToySet())
    labels = PartLabels(torch.tensor([[N, 0], [0, N]]), PartSpace(("a", "b"), ((0,), (1,))))
    with pytest.raises(ValueError, match=r"'pos' must keep the order .* points have part labels"):
        FullResolution(rand(2, N, 3), 2, labels=labels, codec=ToySet())
    with pytest.raises(ValueError, match=r"points have part labels, got ToySet\(steps=8\)"):
        FullResolution(rand(2, N, 3), 2, codec=ToySet()).label_with(labels)


# What fits ########################################################################################


@pytest.mark.parametrize(
    ("codec", "anchor_points", "morphs", "clouds", "points"),
    [
        (Float32(), 252, 1020, 1, 1024),
        (Float16(), 508, 2044, 2, 2048),
        (ToyBytes(), 1020, 4092, 4, 4096),
    ],
)
def test_what_fits(codec, anchor_points, morphs, clouds, points):
    budget = StorageBudget(1024, 10, 1)
    assert ShapeMorphing.largest_anchor_points(budget, 4, 16, codec, codec) == anchor_points
    assert ShapeMorphing.most_morphs(budget, 4, codec, codec) == morphs
    assert FullResolution.most_clouds(budget, codec=codec) == clouds
    assert FullResolution.largest_points(budget, codec=codec) == points


@given(
    codec=st.sampled_from([Float32(), Float16(), ToyBytes()]),
    num_points=st.integers(1, 40),
    num_classes=st.integers(1, 3),
    ppc=st.integers(1, 3),
    num=st.integers(1, 60),
    label_bits=st.integers(0, 500),
)
def test_most_clouds_and_largest_points(codec, num_points, num_classes, ppc, num, label_bits):
    budget = StorageBudget(num_points, num_classes, ppc, label_bits)

    def bits(clouds, points):
        return codec.bits((num_classes * clouds, points, 3)) + clouds * label_bits

    most = FullResolution.most_clouds(budget, num, codec)
    assert bits(most, num) <= budget.bits < bits(most + 1, num)
    largest = FullResolution.largest_points(budget, num, codec)
    assert budget.bits < bits(num, largest + 1)
    assert largest == 0 or bits(num, largest) <= budget.bits
    assert FullResolution.largest_points(budget) == num_points
    assert FullResolution.most_clouds(budget) == ppc


@pytest.mark.parametrize("anchor_points", [None, 64])
def test_sets_of_points_are_fitted_to_large_clouds(anchor_points):
    """Of 4,096 points; a cloud of all points that would fit is longer than a codec takes."""
    budget, codec = StorageBudget(4096, 10, 8), PointSet(6)
    with pytest.raises(ValueError, match="at most 16,384 points"):
        ShapeMorphing.largest_anchor_points(budget, 1, 0, codec)
    assert ShapeMorphing.largest_anchor_points(budget, 1, 0, codec, most=4096) == 4096
    storing = ddp(1, anchor_points, 4, codec=codec).storing
    assert storing.fitting(budget)[1] == (anchor_points or 4096)


def test_size_that_depends_on_the_data_is_no_size_before():
    budget = StorageBudget(100, 2)
    for ask in (
        lambda: ShapeMorphing.largest_anchor_points(budget, 2, 1, ToySet()),
        lambda: ShapeMorphing.most_morphs(budget, 2, ToySet()),
        lambda: FullResolution.most_clouds(budget, codec=ToySet()),
        lambda: FullResolution.largest_points(budget, codec=ToySet()),
    ):
        with pytest.raises(ValueError, match=r"'codec' must write as many bits .*, got ToySet"):
            ask()


def test_cost_without_an_end():
    with pytest.raises(ValueError, match="'cost' must exceed the budget"):
        StorageBudget(10, 2).largest(lambda num: 0)


# Distilled ########################################################################################


def mirrored_storing(bank, budget, start, generator, task):
    clouds = start(bank, budget.num_groups, generator).flatten(0, 1)
    return ToyMirrored(clouds, bank.num_classes, axis=2, codec=ToyBytes())


METHODS = {
    "toy": Method("toy", mirrored_storing, SADM, 3, batch_size=2),
    "morphing": Method(
        "bytes",
        morphing(2, num_morphs=3, codec=ToyBytes(), weight_codec=ToyHalves(), anchor_lr=0.5),
        UniformityAwareSADM,
        3,
        batch_size=2,
    ),
    "half": Method("half", full_resolution(0.1, 0.01, Float16()), SADM, 3, batch_size=2),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_distilled_set_is_the_one_of_its_file(method, tmp_path):
    bank = PointCloudBank.from_dataset(toy_set())
    loop = method.begin(bank, network=TinyNet)
    before = loop.parameterization.unfold().detach()
    loop.run(3, progress=False)
    seen = loop.parameterization.unfold().detach()
    assert not torch.equal(before, seen)
    synthetic = method.finish(loop)
    # What the last step left, what is evaluated and what is read are one, to the bit.
    assert torch.equal(torch.stack([data.pos for data in synthetic]), seen)
    synthetic.save(tmp_path / "set")
    same_clouds(SyntheticPointCloudDataset(tmp_path / "set"), synthetic)
    assert synthetic.provenance["bits"] == synthetic.storage_bits <= bank.budget(1).bits
    assert synthetic.provenance["codecs"] == synthetic.parameterization.config()["codecs"]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_checkpoint_is_resumed(method, tmp_path):
    settings = {"network": TinyNet, "progress": False}
    whole = method.distill(toy_set(), steps=4, **settings)
    method.distill(toy_set(), steps=2, checkpoint=tmp_path / "checkpoint", **settings)
    resumed = method.distill(toy_set(), steps=4, checkpoint=tmp_path / "checkpoint", **settings)
    same_clouds(resumed, whole)
    same_tensors(resumed.parameterization.storage(), whole.parameterization.storage())


def test_distilled_without_order(tmp_path):
    """Which points correspond is not stored: it is found in what is read."""
    storing = morphing(2, 12, 3, codec=ToySet(64), anchor_lr=0.5)
    method = Method("set", storing, SADM, 2, batch_size=2)
    synthetic = method.distill(toy_set(), network=TinyNet, progress=False)
    synthetic.save(tmp_path / "set")
    same_clouds(SyntheticPointCloudDataset(tmp_path / "set"), synthetic)
    wanting = Method("set", morphing(2, codec=ToySet(64)), SADM, 2)
    with pytest.raises(ValueError, match=r"'codec' must write as many bits .*, got ToySet"):
        wanting.distill(toy_set(), network=TinyNet, progress=False)
    large = Method("set", morphing(8, 32, 0, codec=ToySet(64)), SADM, 2)
    with pytest.raises(
        ValueError, match=r"ShapeMorphing\(.* stores .* bits, which is .* more than"
    ):
        large.distill(toy_set(), network=TinyNet, progress=False)


def test_checkpoint_of_another_codec_is_refused(tmp_path):
    settings = {"network": TinyNet, "progress": False, "checkpoint": tmp_path / "checkpoint"}
    for codec in (Float16(), ToyBytes(), ToyBytes(3.0)):
        method = Method("half", full_resolution(0.1, codec=codec), SADM, 1, batch_size=2)
        if (tmp_path / "checkpoint").exists():
            with pytest.raises(ValueError, match=r"differs in parameterization .*pos=Float16"):
                method.distill(toy_set(), **settings)
        else:
            method.distill(toy_set(), **settings)


def test_anchors_are_as_large_as_their_codec_lets_them():
    bank = PointCloudBank.from_dataset(toy_set())
    sizes = []
    for codec in (FLOAT32, Float16()):
        method = Method("m", morphing(4, num_morphs=2, codec=codec), SADM, 1)
        loop = method.begin(bank, network=TinyNet)
        sizes.append(loop.parameterization.anchor_points)
    assert sizes == [7, 15]
    # Nor larger than the clouds that they start from, whatever fits.
    loop = Method("m", morphing(1, codec=Float16()), SADM, 1).begin(bank, network=TinyNet)
    assert loop.parameterization.anchor_points == 32
    method = Method("m", morphing(4, 16, 2, codec=Float16()), SADM, 1)
    with pytest.raises(ValueError, match=r"'anchor_points'=16 does not fit .* it is at most 15"):
        method.begin(bank, network=TinyNet)


# Damage ###########################################################################################


def rewrite(path, change):
    tensors, header = _files.read_tensors(path, "synthetic point cloud data set", 1)
    change(header, tensors)
    kind, version = header.pop("kind"), header.pop("version")
    header["bits"] = sum(8 * t.numel() * t.element_size() for t in tensors.values())
    _files.write_tensors(path, tensors, header, kind, version)


def config(**changes):
    return lambda header, _: header["config"].update(changes)


def codes(change):
    def apply(_, tensors):
        tensors["halves.codes"] = change(tensors["halves.codes"])

    return apply


BYTES = {"name": "ToyBytes", "reach": 4.0}
DAMAGE = {
    "no codecs": (lambda header, _: header["config"].pop("codecs"), "must be floating point of"),
    "no shapes": (lambda header, _: header["config"].pop("shapes"), "shape .* 'halves' is missing"),
    "codec of no name": (config(codecs={"halves": {"name": 3}}), "'codec' must be one of"),
    "other codec": (config(codecs={"halves": {"name": "Float16"}}), "must be 2880 bits to be of"),
    "two tensors": (config(codecs={"halves": {"name": "ToyHalves"}}), "must be 2880 bits"),
    "same size": (config(codecs={"halves": {"name": "ToySet", "steps": 8}}), "not what ToySet"),
    "setting of none": (config(codecs={"halves": {**BYTES, "a": 1}}), "unexpected keyword"),
    "codecs of text": (config(codecs="halves"), "string indices"),
    "codec of text": (config(codecs={"halves": "ToyBytes"}), "dictionary update"),
    "codec of more": (config(codecs={"halves": BYTES, "others": BYTES}), "header must agree"),
    "reach of text": (
        config(codecs={"halves": {"name": "ToyBytes", "reach": "a"}}),
        "unsupported operand",
    ),
    "shapes of more": (config(shapes={"halves": [N, 3], "others": [3]}), "header must agree"),
    "another shape": (config(shapes={"halves": [N, 4]}), "must be 1920 bits to be of shape"),
    "turned shape": (config(shapes={"halves": [3, N]}), r"\[6, 3, 10\]"),
    "negative shape": (config(shapes={"halves": [-N, -3]}), "'shapes' must be at least 0"),
    "broken shape": (config(shapes={"halves": [N, 3.0]}), "'shapes' must be an integer"),
    "vast shape": (config(shapes={"halves": [10**12, 3]}), "bits to be of shape"),
    "no axis": (lambda header, _: header["config"].pop("axis"), None),
    "unknown size": (config(lr=3.0), r"header must agree .* 'lr'=3.0 \(not None\)"),
    "argument": (config(rotation_lr=3.0), "header must agree"),
    "wider": (codes(lambda c: c.int()), "must be 1440 bits"),
    "as wide": (codes(lambda c: c.to(torch.int8)), "must be {'codes': 'torch.uint8"),
    "other sizes": (codes(lambda c: c.view(6, 3, N)), "must be {'codes': 'torch.uint8"),
    "shorter": (codes(lambda c: c[1:]), "must be 1440 bits"),
    "one more": (lambda _, tensors: tensors.update({"a": torch.zeros(1)}), r"\['a'\] are none"),
    "a part more": (
        lambda _, tensors: tensors.update({"halves.b": torch.zeros(1)}),
        "must be 1440 bits",
    ),
    "missing": (lambda _, tensors: tensors.pop("halves.codes"), "'halves' is missing, there is"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files(change, message, tmp_path):
    path = tmp_path / "set"
    SyntheticPointCloudDataset(mirrored(ToyBytes()).stored()).save(path)
    rewrite(path, lambda header, tensors: None)
    same_clouds(
        SyntheticPointCloudDataset(path), SyntheticPointCloudDataset(mirrored(ToyBytes()).stored())
    )
    rewrite(path, change)
    if message is None:  # A size that has a default need not be said.
        assert SyntheticPointCloudDataset(path).parameterization.axis == 0
        return
    with pytest.raises(ValueError, match=f"is damaged: .*{message}"):
        SyntheticPointCloudDataset(path)


def test_codec_that_is_not_imported(tmp_path):
    SyntheticPointCloudDataset(mirrored(ToyBytes())).save(tmp_path / "set")
    rewrite(tmp_path / "set", config(codecs={"halves": {"name": "Lost"}}))
    with pytest.raises(
        ValueError, match=r"set' holds a class that is not known .*got 'Lost': import the module"
    ):
        SyntheticPointCloudDataset(tmp_path / "set")


def test_points_that_cannot_be_deflated(tmp_path):
    path = tmp_path / "set"
    SyntheticPointCloudDataset(full(ToySet()).stored()).save(path)

    def damage(_, tensors):
        tensors["pos.deflated"] = tensors["pos.deflated"].flip(0)

    rewrite(path, damage)
    with pytest.raises(ValueError, match="is damaged: 'stored' must be deflated"):
        SyntheticPointCloudDataset(path)


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from([*MAKERS]))
def test_flipped_bytes(seed, kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "set"
    SyntheticPointCloudDataset(MAKERS[kind](ToyHalves()).stored()).save(path)
    content, generator = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for i in generator.integers(len(content), size=generator.integers(1, 5)):
        content[i] ^= generator.integers(1, 256)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"truncated|damaged|not written by"):
        SyntheticPointCloudDataset(path)


# A file that would not give back what was optimised ###############################################


class ToyRepeated(Parameterization):
    """Points that come several times, where the file is told how often."""

    told: ClassVar[dict] = {"times": 2}

    def __init__(self, pos, num_classes, times=1):
        super().__init__(num_classes, len(pos) // num_classes, times * pos.size(1))
        self.times = times
        self.keep("pos", pos, lr=1.0)

    def sizes(self):
        return self.told

    def clouds(self, pos):
        return pos.repeat(1, self.times, 1)


@pytest.mark.parametrize(
    ("told", "error", "message"),
    [
        ({"codecs": {}}, ValueError, r"'ToyRepeated.sizes' must not have names .*, got 'codecs'"),
        ({"shapes": 2}, ValueError, "got 'shapes'"),
        ({"parts": 2}, ValueError, "got 'parts'"),
        ({"class_groups": [1]}, ValueError, "got 'class_groups'"),
        ({"times": np.int64(2)}, TypeError, "'ToyRepeated.sizes.times' must be what JSON can hold"),
        (
            {"times": "2"},
            ValueError,
            r"given back by its file, which ToyRepeated\(.*times=2\) is not: 'num_points' must be",
        ),
        ({}, ValueError, r"clouds of shape \[1, 20, 3\], and read again of shape \[1, 10, 3\]"),
    ],
)
def test_what_its_file_would_not_give_back_is_refused_before_the_first_step(
    told, error, message, monkeypatch
):
    bank = PointCloudBank.from_dataset(toy_set())
    made = ToyRepeated(rand(C, N, 3), C, times=2)
    Distillation(bank, made, SADM(), TinyNet)
    monkeypatch.setattr(ToyRepeated, "told", told)
    with pytest.raises(error, match=message):
        Distillation(bank, made, SADM(), TinyNet)


# What keep refuses ################################################################################


class ToyKeeper(Parameterization):
    """Keeps what it is told."""

    forms: ClassVar = {"pos": Form()}

    def __init__(self, pos, num_classes, other=None, **kwargs):
        super().__init__(num_classes, 2, 4)
        kept = {"name": "pos", "tensor": pos, "lr": 1.0, **kwargs}
        self.keep(**kept)
        if other is not None:
            self.keep("other", other, 1.0, rotation_lr=0.1)

    def clouds(self, pos, other=None):
        return pos


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"name": "else"}, ValueError, r"'name' must be .* one of \['pos', 'other'\], got 'else'"),
        ({"tensor": [[1.0]]}, TypeError, r"'pos' must be a tensor of shape \[4 \*\], got list"),
        ({"tensor": rand(3, 4, 3)}, ValueError, "'pos' must be .* a row for each of 4 groups"),
        ({"tensor": torch.zeros(())}, ValueError, "'pos' must be .* a row for each of 4 groups"),
        ({"tensor": torch.zeros(4, 4, 3).int()}, ValueError, r"floating .*, got torch.int32"),
        ({"lr": -1.0}, ValueError, "'lr' must be finite and at least 0"),
        ({"lr": "1"}, TypeError, "'lr' must be a number"),
        ({"rotation_lr": -1.0}, ValueError, "'rotation_lr' must be finite and at least 0"),
        (
            {"rotation_lr": 0.1, "other": rand(4, 4, 3)},
            ValueError,
            "'rotation_lr' must be given for one tensor, got it for 'other'",
        ),
    ],
)
def test_keep_refuses(kwargs, error, message):
    with pytest.raises(error, match=message):
        ToyKeeper(rand(4, 4, 3), 2, **kwargs)


def test_reading_what_does_not_say_enough():
    storage = {"halves": rand(C * K, N, 3)}
    assert ToyMirrored.from_storage(storage, {"axis": 2}, C, K).axis == 2
    for settings in (None, 3, "axis"):
        with pytest.raises(TypeError, match="'config' must be a mapping of sizes, got"):
            ToyMirrored.from_storage(storage, settings, C, K)
    with pytest.raises(ValueError, match=r"the size 'num_morphs' is missing, there is \['adap"):
        ShapeMorphing.from_storage({"anchors": rand(2, M, N, 3)}, {"adaptive": False}, 2, 1)
