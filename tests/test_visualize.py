"""Pictures of clouds."""

import numpy as np
import pytest
import torch
from helpers import TinyNet, TinySegmenter, toy_set
from torch_geometric.data import Data

from torch_geometric_ddp import ParametricShapes, distill
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.visualize import plot_clouds, plot_distilled


@pytest.fixture(scope="module")
def synthetic():
    return distill(
        toy_set(),
        num_anchors=2,
        num_morphs=3,
        network=TinyNet,
        steps=0,
        source="toys",
        progress=False,
    )


def shown(figure):
    """How many points every cell of the grid shows, row by row."""
    return [sum(len(c.get_offsets()) for c in axis.collections) for axis in figure.axes]


def test_grid(synthetic):
    figure = plot_distilled(toy_set(), synthetic, num_real=2, num_anchors=2, num_morphs=2)
    assert len(figure.axes) == 3 * 6
    assert shown(figure) == [32, 32, 15, 15, 15, 15] * 3
    titles = [axis.get_title() for axis in figure.axes[:6]]
    assert titles == ["real", "real", "anchor", "anchor", "morph", "morph"]
    names = [axis.get_ylabel() for axis in figure.axes[::6]]
    assert names == ["class0", "class1", "class2"]
    assert figure.get_suptitle() == "toys, distilled by DDP"


def test_grid_shows_no_more_than_there_is(synthetic):
    figure = plot_distilled(toy_set(), synthetic, num_anchors=9, num_morphs=9)
    assert shown(figure) == [32] * 3 + [15] * 5 + ([32] * 3 + [15] * 5) * 2


def test_class_with_fewer_real_clouds_than_columns(synthetic):
    real = toy_set()[[0, 1, 2, 6, 7, 12]]
    figure = plot_distilled(real, synthetic, num_anchors=1, num_morphs=1)
    blanks = [[32] * 3, [32, 32, 0], [32, 0, 0]]
    assert shown(figure) == [size for row in blanks for size in [*row, 15, 15]]
    figure = plot_distilled(toy_set(per_class=1), synthetic, num_anchors=1, num_morphs=1)
    assert shown(figure) == [32, 15, 15] * 3


def test_full_resolution():
    figure = plot_distilled(toy_set(), random_coreset(toy_set(), 2), num_real=1)
    assert shown(figure) == [32, 32, 32] * 3


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_file(synthetic, tmp_path, suffix, start):
    path = tmp_path / "new" / f"picture.{suffix}"
    plot_distilled(toy_set(), synthetic, path, num_real=1)
    assert path.read_bytes().startswith(start)


def test_png_is_no_blank_sheet(synthetic, tmp_path):
    from matplotlib.image import imread

    plot_distilled(
        toy_set(), synthetic, tmp_path / "a.png", num_real=1, num_anchors=1, num_morphs=1
    )
    pixels = imread(tmp_path / "a.png")[..., :3]
    height, width = pixels.shape[:2]
    for row in range(3):  # Three classes from top to bottom, each with something to see.
        band = pixels[height * row // 3 : height * (row + 1) // 3]
        assert (band < 0.9).any(axis=-1).mean() > 0.005
    assert abs(width / height - (1.15 * 3 + 1) / (1.15 * 3 + 0.8)) < 0.02


def test_no_window_is_opened(synthetic):
    import matplotlib.pyplot as plt

    plot_distilled(toy_set(), synthetic)
    assert plt.get_fignums() == []


def test_view_from_above():
    # Seen from straight above, a point to the right of the viewer stays to the right.
    pos = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0.5]])
    figure = plot_clouds([[pos]], ["row"], ["column"], azimuth=-90, elevation=90)
    found = {tuple(p) for p in figure.axes[0].collections[0].get_offsets().data.round(3).tolist()}
    centred = pos - pos.mean(dim=0)
    scale = centred.norm(dim=1).max()
    expected = {tuple(p) for p in (centred[:, :2] / scale).double().numpy().round(3).tolist()}
    assert found == expected


def test_title_is_optional():
    figure = plot_clouds([[torch.rand(5, 3)]], ["row"], ["column"])
    assert figure.get_suptitle() == ""


def test_single_point_and_missing_cells():
    figure = plot_clouds([[torch.ones(1, 3)], []], ["a", "b"], ["x", "y"])
    assert shown(figure) == [1, 0, 0, 0]


def colors_of(axis):
    return axis.collections[0].get_facecolors()[:, :3]


def test_parts_have_colors_of_their_own():
    """The same part has one colour in a row, and two parts have two."""
    rng = torch.Generator().manual_seed(0)
    clouds = [torch.randn(12, 3, generator=rng) for _ in range(2)]
    labels = [torch.arange(12) % 3 + 7, torch.full((12,), 9)]
    figure = plot_clouds([clouds], ["row"], ["a", "b"], part_labels=[labels])
    many, one = (colors_of(axis) for axis in figure.axes)
    assert len(np.unique(many, axis=0)) == 3
    assert len(np.unique(one, axis=0)) == 1
    assert any(np.allclose(color, one[0]) for color in many)
    with pytest.raises(ValueError, match="'part_labels' must have as many points as 'rows'"):
        plot_clouds([clouds], ["row"], ["a", "b"], part_labels=[[labels[0], labels[1][:5]]])


def test_labelled_set_is_drawn_by_category():
    real = ParametricShapes(num_per_class=4, num_points=32, segmentation=True)
    labelled = distill(
        real, num_morphs=1, steps=0, task="segmentation", network=TinySegmenter, progress=False
    )
    figure = plot_distilled(real, labelled)
    size = labelled[0].num_nodes
    assert shown(figure) == [32, 32, 32, size, size, size, size, size] * 10
    for row, name in enumerate(real.class_names):
        cells = [colors_of(axis) for axis in figure.axes[8 * row : 8 * row + 8]]
        found = np.unique(np.concatenate(cells), axis=0)
        assert len(found) <= len(real.category_parts[name])
        assert len(np.unique(cells[3], axis=0)) == len(labelled[5 * row].y.unique())


def test_label_out_of_range(synthetic):
    with pytest.raises(
        ValueError, match=r"real cloud 0 must have one label in 0\.\.2, or a category"
    ):
        plot_distilled([Data(pos=torch.zeros(4, 3), y=torch.tensor([3]))], synthetic)
