"""Random changes of the clouds of a batch."""

import dataclasses
import math

import pytest
import torch
from helpers import batch_of
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.transform import Rotation
from torch_geometric.data import Batch, Data

from torch_geometric_ddp.evaluation import RandomRotation

AXES = [None, 0, 1, 2]
LIKE = torch.zeros((), dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clouds(*sizes, dtype=torch.float32):
    generator = seeded(1)
    data = [
        Data(
            pos=torch.randn(size, 3, generator=generator, dtype=dtype),
            y=torch.arange(size),
            category=torch.tensor([i]),
        )
        for i, size in enumerate(sizes)
    ]
    return Batch.from_data_list(data)


@pytest.mark.parametrize("axis", AXES)
def test_rotations_are_proper(axis, dtype):
    turn = RandomRotation(axis).rotations(200, seeded(), torch.zeros((), dtype=dtype))
    assert (turn.shape, turn.dtype) == ((200, 3, 3), dtype)
    eye = torch.eye(3, dtype=dtype).expand_as(turn)
    torch.testing.assert_close(turn @ turn.mT, eye)
    torch.testing.assert_close(torch.linalg.det(turn), eye[:, 0, 0])


def test_rotations_are_those_of_their_quaternions():
    turn = RandomRotation().rotations(20, seeded(), LIKE)
    q = torch.randn(20, 4, generator=seeded(), dtype=torch.float64)
    expected = Rotation.from_quat(q.roll(-1, dims=1).numpy()).as_matrix()
    torch.testing.assert_close(turn, torch.from_numpy(expected))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_turns_about_an_axis(axis):
    turn = RandomRotation(axis).rotations(2000, seeded(), LIKE)
    angle = 2 * math.pi * torch.rand(2000, generator=seeded(), dtype=torch.float64)
    fixed = torch.eye(3, dtype=torch.float64)[axis]
    expected = Rotation.from_rotvec((angle[:, None] * fixed).numpy()).as_matrix()
    torch.testing.assert_close(turn, torch.from_numpy(expected))
    torch.testing.assert_close(turn @ fixed, fixed.expand(2000, 3))


def test_rotations_are_uniform():
    turn = RandomRotation().rotations(4000, seeded(), LIKE)
    # Of a uniform direction every coordinate is uniform, and all means are zero.
    for coordinate in turn.reshape(4000, 9).T:
        assert stats.kstest((coordinate + 1) / 2, "uniform").pvalue > 0.01
    assert turn.mean(dim=0).abs().max() < 4 * math.sqrt(1 / 3 / 4000)
    # Haar measure also has it that angles have the density (1 - cos) / pi.
    cos = (torch.diagonal(turn, dim1=1, dim2=2).sum(dim=1) - 1) / 2
    angle = cos.clamp(-1, 1).acos()
    assert stats.kstest((angle - angle.sin()) / math.pi, "uniform").pvalue > 0.01


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_angles_are_uniform(axis):
    turn = RandomRotation(axis).rotations(4000, seeded(), LIKE)
    i, j = [k for k in range(3) if k != axis]
    angle = torch.atan2(turn[:, j, i], turn[:, i, i]) / (2 * math.pi) % 1.0
    assert stats.kstest(angle, "uniform").pvalue > 0.01


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("sizes", [(1,), (5, 5, 5), (4, 1, 7)])
def test_every_cloud_is_turned_by_its_own_rotation(axis, sizes, dtype):
    batch, augment = clouds(*sizes, dtype=dtype), RandomRotation(axis)
    out = augment(batch, seeded())
    assert out.pos.dtype == dtype
    turns = augment.rotations(len(sizes), seeded(), batch.pos)
    for i, turn in enumerate(turns):
        expected = torch.stack([turn @ point for point in batch[i].pos])
        torch.testing.assert_close(out.pos[out.batch == i], expected)
        torch.testing.assert_close(torch.pdist(expected), torch.pdist(batch[i].pos))
    gaps = torch.pdist(turns.flatten(1))
    assert len(sizes) == 1 or gaps.min() > 0.01


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 999))
def test_norms_are_kept(sizes, seed):
    batch = clouds(*sizes)
    out = RandomRotation()(batch, seeded(seed))
    torch.testing.assert_close(out.pos.norm(dim=1), batch.pos.norm(dim=1))


def test_input_and_other_attributes_stay():
    batch = clouds(4, 6)
    before = batch.clone()
    out = RandomRotation()(batch, seeded())
    assert type(out) is type(batch)
    for key, value in before:
        assert torch.equal(batch[key], value)
        assert torch.equal(out[key], value) == (key != "pos")
    assert torch.equal(out[1].pos, out.pos[4:])


def test_batch_of_one_size_made_by_hand():
    pos = torch.randn(3, 5, 3, generator=seeded(2))
    out = RandomRotation()(batch_of(pos), seeded())
    apart = RandomRotation()(Batch.from_data_list([Data(pos=cloud) for cloud in pos]), seeded())
    assert out.num_points == 5
    torch.testing.assert_close(out.pos, apart.pos)


def test_gradient_flows_to_the_points():
    batch = clouds(3, 2, dtype=torch.float64)
    turns = RandomRotation().rotations(2, seeded(), batch.pos)
    pos = batch.pos.requires_grad_()
    weight = torch.randn(5, 3, generator=seeded(3), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((RandomRotation()(batch, seeded()).pos * weight).sum(), pos)
    torch.testing.assert_close(gradient[:3], weight[:3] @ turns[0])
    torch.testing.assert_close(gradient[3:], weight[3:] @ turns[1])


@pytest.mark.parametrize("axis", AXES)
def test_only_the_generator_decides(axis):
    batch, state = clouds(4, 6), torch.get_rng_state()
    generator = seeded(5)
    first, second = (RandomRotation(axis)(batch, generator).pos for _ in range(2))
    assert torch.equal(RandomRotation(axis)(batch, seeded(5)).pos, first)
    assert not torch.allclose(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_same_rotations_on_every_device(device):
    batch = clouds(4, 6)
    out = RandomRotation()(batch.clone().to(device), seeded())
    assert out.pos.device.type == device.type
    torch.testing.assert_close(out.pos.cpu(), RandomRotation()(batch, seeded()).pos)


def test_value_object():
    assert RandomRotation(2) == RandomRotation(axis=2) != RandomRotation()
    with pytest.raises(dataclasses.FrozenInstanceError):
        RandomRotation().axis = 1


@pytest.mark.parametrize(
    ("axis", "error", "message"),
    [
        (3, ValueError, "'axis' must be 0, 1, 2 or None, got 3"),
        (-1, ValueError, "'axis' must be at least 0, got -1"),
        ("z", TypeError, "'axis' must be an integer, got str"),
        (True, TypeError, "'axis' must be an integer, got bool"),
    ],
)
def test_bad_axis(axis, error, message):
    with pytest.raises(error, match=message):
        RandomRotation(axis)


def test_no_points():
    with pytest.raises(ValueError, match=r"'data.pos' must have shape \[N, 3\]"):
        RandomRotation()(Batch(pos=torch.zeros(0, 3), ptr=torch.tensor([0])), seeded())


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_points_of_integers_are_refused(dtype):
    with pytest.raises(TypeError, match=r"'data.pos' must have a floating point dtype, got"):
        RandomRotation()(Data(pos=torch.ones(5, 3, dtype=dtype)))
