"""Geometry at any scale and any place: what does not depend on them comes out as it is."""

import numpy as np
import pytest
import torch
from helpers import TinyNet, toy_set
from torch_geometric.data import Data

from torch_geometric_ddp import PointCloudArrays, Protocol, distill, edges, evaluate, ops
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.datasets._formats import as_clouds, read_text
from torch_geometric_ddp.datasets._meshes import sample_mesh
from torch_geometric_ddp.nn.levels import Level
from torch_geometric_ddp.nn.pointnet2_segmentation import Interpolation
from torch_geometric_ddp.parameterization import Mirrored
from torch_geometric_ddp.transforms import NormalizeSphere

SHORT = Protocol("short", epochs=2)

# Powers of two, so that what comes out can be the same to the last bit.
SCALES = [2.0**-100, 2.0**-83, 1.0, 2.0**63, 2.0**100, 2.0**120]
OFFSETS = [1e3, 1e4, 5.4e6, 1e8]


def cloud(num=256, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, 3, generator=generator, dtype=torch.float64).to(dtype)


def normalized(pos):
    """By another way, in long numbers."""
    pos = pos.numpy().astype(np.longdouble)
    pos = pos - pos[0]
    pos = pos / np.abs(pos).max()
    pos = pos - pos.mean(axis=0)
    return torch.from_numpy((pos / np.sqrt((pos**2).sum(axis=1)).max()).astype(np.float64))


def assert_near(found, expected, atol):
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [*SCALES, 1e19, 1e-25, 1e30, 1e-30])
def test_a_cloud_of_any_size_is_normalised_alike(scale, dtype, device):
    pos = (cloud(2048) * scale).to(dtype)
    out = NormalizeSphere()(Data(pos=pos.to(device))).pos
    assert out.dtype == dtype
    assert_near(out.cpu(), normalized(pos), 1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("offset", OFFSETS)
def test_a_cloud_far_away_is_normalised_from_the_digits_that_it_has(offset, dtype, device):
    pos = (cloud(2048) + offset).to(dtype)
    expected = torch.zeros(2048, 3) if bool((pos == pos[0]).all()) else normalized(pos)
    out = NormalizeSphere()(Data(pos=pos.to(device))).pos
    assert_near(out.cpu(), expected, 1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("place", [0.0, 0.1, 1e-30, -1e30, 123.456])
@pytest.mark.parametrize("num", [1, 2, 64, 1000])
def test_equal_points_come_out_at_the_origin(num, place, device):
    pos = torch.full((num, 3), place, device=device)
    assert bool((NormalizeSphere()(Data(pos=pos)).pos == 0).all())


def test_odd_clouds_leave_the_others_as_they_are():
    sizes = torch.tensor([20, 20, 20])
    plain = cloud(20, dtype=torch.float32)
    alone = NormalizeSphere.apply(plain, sizes[:1])
    mixed = torch.cat([1e-30 * plain, plain, 1e30 * plain])
    out = NormalizeSphere.apply(mixed, sizes).split(20)
    assert torch.equal(out[1], alone)
    for other in (out[0], out[2]):
        assert_near(other, alone, 1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_gradient_is_that_of_any_size(scale):
    """As the normalised cloud is that of any scale, the gradient is inverse to it."""
    grads = []
    for factor in (1.0, scale):
        pos = (cloud(16) * factor).requires_grad_()
        (NormalizeSphere.apply(pos, torch.tensor([16]))[:, 0] ** 3).sum().backward()
        grads.append(pos.grad * factor)
    assert_near(grads[1], grads[0], 1e-9)


@pytest.mark.parametrize("offset", [(5.4e6, 5e5, 300.0), (1e8, -1e8, 0.0)])
def test_double_coordinates_are_centred_before_they_are_shortened(offset):
    """National grids, whose digits single precision does not hold."""
    near = [cloud(256, seed) for seed in range(2)]
    far = [Data(pos=pos + torch.tensor(offset, dtype=torch.float64), y=0) for pos in near]
    bank = PointCloudBank.from_dataset(far)
    expected = PointCloudBank.from_dataset([Data(pos=pos, y=0) for pos in near]).normalize()
    for found in (bank.normalize(), bank.select(torch.tensor([0, 1])).normalize()):
        assert found.pos.dtype == torch.float32
        assert_near(found.pos, expected.pos, 1e-6)
    with pytest.raises(ValueError, match=r"'pos' must lie nearer to the origin .* subtract"):
        bank.farthest_points(4)


def far_set(offset=5.4e6):
    return [Data(pos=data.pos.double() + offset, y=data.y) for data in toy_set()]


def test_sets_far_away_are_distilled_and_judged_as_those_near():
    near, far = [[*toy_set()], far_set()]
    options = {"method": "dm", "steps": 2, "network": TinyNet, "progress": False}
    pairs = zip(distill(near, 1, **options), distill(far, 1, **options), strict=True)
    for a, b in pairs:
        assert_near(a.pos, b.pos, 1e-4)
    runs = [
        evaluate(data, data, TinyNet, SHORT, 1, progress=False).scores.confusion
        for data in (near, far)
    ]
    assert torch.equal(*runs)


def test_sets_far_away_are_refused_where_they_are_not_centred():
    with pytest.raises(ValueError, match="'pos' must lie nearer to the origin"):
        distill(far_set(), 1, "dm", steps=1, network=TinyNet, normalize=False, progress=False)
    with pytest.raises(ValueError, match="'pos' must lie nearer to the origin"):
        random_coreset(far_set())
    points = np.stack([data.pos.numpy() for data in far_set()])
    with pytest.raises(ValueError, match="'points' of cloud 0 lie so far from the origin"):
        PointCloudArrays(points, np.zeros(len(points), int))
    PointCloudArrays(points - 5.4e6, np.zeros(len(points), int))


# Operations #######################################################################################


@pytest.mark.parametrize("scale", SCALES)
def test_farthest_points_are_those_of_any_size(scale, device):
    pos = torch.stack([cloud(64, seed, torch.float32) - 0.5 for seed in range(3)]).to(device)
    for function, args in [
        (ops.farthest_point_sample, (16,)),
        (ops.farthest_point_order, (16,)),
        (ops.farthest_point_partition, (3, 20)),
    ]:
        assert torch.equal(function(scale * pos, *args), function(pos, *args))


def test_sizes_may_differ_within_a_batch():
    pos = torch.stack([cloud(64, dtype=torch.float32)] * 3)
    pos = pos * torch.tensor([2.0**-100, 1, 2.0**100])[:, None, None]
    first, *others = ops.farthest_point_sample(pos, 16)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("scale", SCALES)
def test_distances_grow_with_the_size(scale, device):
    pos = cloud(64, dtype=torch.float32)[None].to(device)
    assert torch.equal(ops.knn_distance(scale * pos, 8), scale * ops.knn_distance(pos, 8))
    assert torch.equal(edges.knn(scale * pos, 8), edges.knn(pos, 8))
    radius = 0.3
    near = edges.ball_query(pos, radius, 8)
    assert torch.equal(edges.ball_query(scale * pos, scale * radius, 8), near)


@pytest.mark.parametrize("scale", [*SCALES, 1e-25, 1e30])
def test_the_score_is_that_of_any_size(scale, device):
    pos = cloud(64, dtype=torch.float32)[None].to(device)
    score = ops.uniformity_score(scale * pos).item()
    assert score == pytest.approx(ops.uniformity_score(pos).item(), rel=1e-6)


def test_the_score_of_a_double_cloud_far_away():
    """A fixed number in a denominator would be large beside such distances."""
    pos = cloud(64)[None]
    score = ops.uniformity_score(1e-9 * pos).item()
    assert score == pytest.approx(ops.uniformity_score(pos).item(), rel=1e-9)


@pytest.mark.parametrize("scale", SCALES)
def test_interpolation_is_that_of_any_size(scale):
    weights = []
    for factor in (1.0, scale):
        points = Level.of(Data(pos=factor * cloud(64, dtype=torch.float32)), 16)
        weights.append(Interpolation.between(points.first(16), points).weight)
    # Beside a centre in its own place, the others weigh next to nothing at any size.
    assert_near(*weights, atol=1e-30)


@pytest.mark.parametrize("scale", SCALES)
def test_mirrored_halves_are_those_of_any_size(scale):
    pos = cloud(64, dtype=torch.float32)[None] - 0.5
    first, other = [
        Mirrored.from_clouds(factor * pos, 1, 16).unfold().detach() for factor in (1.0, scale)
    ]
    assert torch.equal(first, other)
    assert 0.7 < float(first.norm(dim=-1).max()) <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_few_digits_blur_what_lies_far_away_and_not_what_is_centred(dtype):
    near, far = (
        PointCloudBank.from_dataset([Data(pos=cloud() + offset, y=0)], dtype=dtype)
        for offset in (-0.5, 20)
    )
    assert near.exact is None
    assert near.unscaled() is near
    with pytest.raises(ValueError, match="nearer to the origin"):
        far.unscaled()


def test_text_files_far_away_are_refused(tmp_path):
    path, points = tmp_path / "cloud.txt", cloud(64).numpy()
    np.savetxt(path, points)
    assert torch.equal(as_clouds(path, read_text(path, 3)), torch.from_numpy(points).float())
    np.savetxt(path, points + 5.4e6)
    with pytest.raises(ValueError, match=r"cloud.txt' .* so far from the origin"):
        as_clouds(path, read_text(path, 3))


def test_files_far_away_are_refused(tmp_path):
    path = tmp_path / "cloud.ply"
    near, face = cloud(64), torch.randint(64, (20, 3))
    assert sample_mesh(path, near, face, 50, 0).dtype == torch.float32
    with pytest.raises(ValueError, match=r"cloud.ply' .* so far from the origin"):
        sample_mesh(path, near + 5.4e6, face, 50, 0)
    assert torch.equal(as_clouds(path, near.numpy()), near.float())
    with pytest.raises(ValueError, match=r"cloud.ply' .* so far from the origin"):
        as_clouds(path, near.numpy() + 5.4e6)
