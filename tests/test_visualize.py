"""Pictures of clouds."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import Diverging, TinyNet, TinySegmenter, toy_arrays, toy_set
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.data import ConcatDataset, Subset
from torch_geometric.data import Batch, Data

from torch_geometric_ddp import distill
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.comparison import (
    ENTRIES,
    plot_comparison,
    plot_transfer,
    summarize,
    transfer_matrix,
)
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.datasets import ParametricShapes, PointCloudArrays
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.parameterization import FullResolution
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.visualize import (
    Film,
    plot_clouds,
    plot_confusion,
    plot_distilled,
    plot_losses,
    plot_sheets,
)
from torch_geometric_ddp.visualize.clouds import view_of
from torch_geometric_ddp.visualize.distilled import _Cells
from torch_geometric_ddp.visualize.film import _spans


def plot_kinds(kinds, names, title):
    return _Cells.of(kinds, names).draw(range(len(names)), title)


@pytest.fixture(scope="module")
def synthetic():
    return distill(
        toy_set(),
        method=ddp(num_anchors=2, num_morphs=3),
        network=TinyNet,
        steps=0,
        source="toys",
        progress=False,
    )


def shown(figure):
    """How many points every cell of the grid shows, row by row."""
    return [sum(len(c.get_offsets()) for c in axis.collections) for axis in figure.axes]


def named_set(names):
    """Three classes of these names; there may be more."""
    return PointCloudArrays(*toy_arrays(), class_names=names)


def test_grid(synthetic):
    figure = plot_distilled(toy_set(), synthetic, num_real=2, num_anchors=2, num_morphs=2)
    assert len(figure.axes) == 3 * 6
    assert shown(figure) == [32, 32, 15, 15, 15, 15] * 3
    titles = [axis.get_title() for axis in figure.axes[:6]]
    assert titles == ["real", "real", "anchor", "anchor", "morph", "morph"]
    names = [axis.get_ylabel() for axis in figure.axes[::6]]
    assert names == ["class0", "class1", "class2"]
    bits = 3 * 32 * (2 * 15 * 3 + 3)  # Anchors, and a free weight for each morph.
    assert synthetic.storage_bits == bits
    assert figure.get_suptitle() == f"toys, distilled by DDP, PPC 1, {bits:,} bits"


def test_title_says_the_figure_that_the_set_tells(synthetic):
    told = SyntheticPointCloudDataset(synthetic.parameterization)
    told.provenance = {"method": "DDP", "evaluated": {"metric": "accuracy", "value": 0.826}}
    told.provenance["evaluated"]["protocol"] = {"name": "cpu"}
    title = plot_distilled([], told, num_anchors=1, num_morphs=1).get_suptitle()
    title = " ".join(title.split())  # Of several lines.
    assert title == f"distilled by DDP, {told.storage_bits:,} bits, accuracy 82.6 % (cpu protocol)"


@pytest.mark.parametrize(
    ("made", "title"),
    [({}, ""), ({"method": "DDP"}, "distilled by DDP, "), ({"source": "mine"}, "mine, ")],
)
def test_title_says_nothing_of_what_the_set_does_not_tell(synthetic, made, title):
    untold = SyntheticPointCloudDataset(synthetic.parameterization, provenance=made)
    figure = plot_distilled([], untold, num_anchors=1, num_morphs=1)
    assert figure.get_suptitle() == f"{title}{untold.storage_bits:,} bits"


@pytest.mark.parametrize("classes", [["class2", "class0"], [2, 0], ["class2", 0]])
def test_only_the_classes_that_are_asked_for(synthetic, classes):
    sizes = {"num_real": 1, "num_anchors": 1, "num_morphs": 1}
    figure = plot_distilled(toy_set(), synthetic, classes=classes, **sizes)
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["class2", "class0"]
    whole = plot_distilled(toy_set(), synthetic, **sizes)

    def points(axis):
        return axis.collections[0].get_offsets()

    for row, label in enumerate((2, 0)):
        for column in range(3):
            ours, theirs = figure.axes[3 * row + column], whole.axes[3 * label + column]
            assert (points(ours) == points(theirs)).all()


@pytest.mark.parametrize("classes", [["class3"], [3], [-1], []])
def test_classes_that_are_unknown(synthetic, classes):
    with pytest.raises(ValueError, match="'classes' must"):
        plot_distilled(toy_set(), synthetic, classes=classes)


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
    assert [axis.get_title() for axis in figure.axes[:3]] == ["real", "stored", "stored"]


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
    assert abs(width / height - (1.15 * 3 + 0.5 + 1) / (1.15 * 3 + 1.05)) < 0.02


def test_no_window_is_opened(synthetic):
    import matplotlib.pyplot as plt

    plot_distilled(toy_set(), synthetic)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("up", "axis"), [("x", 0), ("y", 1), ("z", 2)])
def test_what_points_up_is_drawn_upwards(up, axis):
    view = view_of(35.0, 20.0, up)
    torch.testing.assert_close(view @ view.T, torch.eye(3, dtype=torch.float64))
    assert float(torch.linalg.det(view)) == pytest.approx(
        float(torch.linalg.det(view_of(35.0, 20.0)))
    )
    assert float(view[0, axis]) == pytest.approx(0)
    assert float(view[1, axis]) == pytest.approx(math.cos(math.radians(20)))
    pole = torch.zeros(9, 3)
    pole[:, axis] = torch.arange(9.0)
    (shaft,) = plot_clouds([[pole]], ["a"], ["b"], up=up).axes[0].collections
    across, along = shaft.get_offsets().T.tolist()
    assert across == pytest.approx([0] * 9)
    assert max(along) - min(along) == pytest.approx(2 * math.cos(math.radians(20)))


def test_no_axis_points_there():
    with pytest.raises(ValueError, match=r"'up' must be one of .*, got 'w'"):
        plot_clouds([[torch.zeros(1, 3)]], ["a"], ["b"], up="w")


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


@pytest.mark.parametrize(
    ("rows", "names", "columns", "message"),
    [
        (2, ["a"], ["b"], "'row_names' must name 2 rows, got 1 names"),
        (1, ["a"], [], "'column_names' must name the 1 clouds of row 0, got 0 names"),
    ],
)
def test_clouds_without_a_name_are_refused(rows, names, columns, message):
    with pytest.raises(ValueError, match=message):
        plot_clouds([[torch.rand(5, 3)]] * rows, names, columns)


def test_names_of_rows_and_columns_are_text():
    for what, names in (("row_names", ([0], ["a"])), ("column_names", (["a"], [0]))):
        with pytest.raises(TypeError, match=f"'{what}' must be text, got int"):
            plot_clouds([[torch.rand(5, 3)]], *names)


def test_clouds_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"'rows' must have shape \[N 3\], got \[5, 2\]"):
        plot_clouds([[torch.rand(5, 2)]], ["a"], ["b"])


def test_single_point_and_missing_cells():
    figure = plot_clouds([[torch.ones(1, 3)], []], ["a", "b"], ["x", "y"])
    assert shown(figure) == [1, 0, 0, 0]


# Parts ############################################################################################


def colors(axis):
    """The colour of every point that a cell shows, by its place."""
    (points,) = axis.collections
    points.update_scalarmappable()
    places = points.get_offsets().data.round(5).tolist()
    return dict(zip(map(tuple, places), map(tuple, points.get_facecolors()), strict=True))


def labelled(category, num_points=12, seed=0, parts=(7, 3)):
    generator = torch.Generator().manual_seed(seed)
    y = torch.tensor(parts).repeat(num_points)[:num_points]
    pos = torch.randn(num_points, 3, generator=generator)
    return Data(pos=pos, y=y, category=torch.tensor([category]))


def test_parts_have_colors_of_their_own():
    clouds = [labelled(0, seed=seed) for seed in range(2)]
    clouds.append(labelled(0, seed=2, parts=(3,)))
    pos, y = [data.pos for data in clouds], [data.y for data in clouds]
    figure = plot_clouds([pos], ["row"], list("abc"), part_labels=[y])
    plain = plot_clouds([pos], ["row"], list("abc"))
    seen = [colors(axis) for axis in figure.axes]
    view = view_of(35.0, 20.0)
    for found, cloud, labels in zip(seen, pos, y, strict=True):
        centred = cloud.double() - cloud.double().mean(dim=0)
        places = (centred / centred.norm(dim=1).max() @ view.T)[:, :2].numpy().round(5)
        for place, label in zip(places, labels, strict=True):
            # The lowest label of the row has the first colour, in every cloud.
            assert found[tuple(place.tolist())] == to_rgba(
                "tab:blue" if label == 3 else "tab:orange"
            )
    assert [set(cell) for cell in seen] == [set(colors(axis)) for axis in plain.axes]


def test_every_row_counts_its_parts_from_the_first_color():
    clouds = [[labelled(0, parts=(0, 1))], [labelled(1, parts=(40, 41, 44))]]
    pos = [[data.pos for data in row] for row in clouds]
    parts = [[data.y for data in row] for row in clouds]
    figure = plot_clouds(pos, ["a", "b"], ["c"], part_labels=parts)
    first, second = (set(colors(axis).values()) for axis in figure.axes)
    assert first == {to_rgba("tab:blue"), to_rgba("tab:orange")}
    assert second == first | {to_rgba("tab:green")}


def test_many_parts_differ_from_each_other_and_from_white():
    data = labelled(0, 21, parts=range(21))
    figure = plot_clouds([[data.pos]], ["a"], ["b"], part_labels=[[data.y]])
    found = torch.tensor(sorted(set(colors(figure.axes[0]).values())))[:, :3]
    assert len(found) == 20  # Then they come again.
    assert torch.pdist(found).min() > 0.09  # Of 1.7 from black to white.
    assert torch.cdist(found, found.new_ones(1, 3)).min() > 0.2


def test_empty_cells_and_rows_of_parts():
    data, none = labelled(0), torch.zeros(0, dtype=torch.long)
    rows = [[data.pos, torch.zeros(0, 3)], []]
    figure = plot_clouds(rows, ["a", "b"], ["x", "y"], part_labels=[[data.y, none], []])
    assert shown(figure) == [12, 0, 0, 0]


def test_legends_of_many_parts_do_not_stand_over_each_other():
    clouds = [[labelled(0, 24, parts=range(num))] for num in (24, 10, 3)]
    pos, parts = [[[getattr(one, key) for one in row] for row in clouds] for key in ("pos", "y")]
    names = [f"part {i}" for i in range(24)]
    figure = plot_clouds(pos, list("abc"), ["d"], part_labels=parts, part_names=names)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    legends = [axis.get_legend() for axis in figure.axes]
    assert [len(legend.get_texts()) for legend in legends] == [24, 10, 3]
    boxes = [legend.get_window_extent(canvas.get_renderer()) for legend in legends]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize("parts", [[], [[]], [[torch.zeros(11)]], [[torch.zeros(12)] * 2]])
def test_wrong_number_of_parts(parts):
    with pytest.raises(ValueError, match=r"'part_labels' of row 0 must have \[12\] points, got"):
        plot_clouds([[labelled(0).pos]], ["a"], ["b"], part_labels=parts)


def test_kinds_of_labelled_clouds():
    real = [labelled(i % 2, 9 + i, i, parts=(2 * (i % 2), 2 * (i % 2) + 1)) for i in range(5)]
    anchors = [labelled(i, 5, parts=(2 * i + 1,)) for i in range(2)]
    figure = plot_kinds([("real", real, 2), ("anchor", anchors, 3)], ["mug", "cap"], "title")
    assert shown(figure) == [9, 11, 5, 10, 12, 5]
    assert [axis.get_title() for axis in figure.axes[:3]] == ["real", "real", "anchor"]
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["mug", "cap"]
    for i in (2, 5):  # The second part of each category.
        assert set(colors(figure.axes[i]).values()) == {to_rgba("tab:orange")}


def test_kinds_without_parts_are_shaded_by_depth():
    mixed = [("real", [labelled(0)], 1), ("anchor", [Data(pos=torch.rand(4, 3), y=0)], 1)]
    figure = plot_kinds(mixed, ["mug"], "")
    assert shown(figure) == [12, 4]
    assert len(set(colors(figure.axes[0]).values())) > 2  # The number of its parts.


def test_only_as_many_clouds_are_read_as_are_shown():
    def clouds():
        yield from (labelled(i % 2) for i in range(4))
        raise AssertionError("read on")

    assert shown(plot_kinds([("real", clouds(), 2)], ["a", "b"], "")) == [12] * 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            Data(pos=torch.rand(3, 3), y=torch.zeros(3).long()),
            r"one label in 0..1, or a category, got 3 labels",
        ),
        (Data(pos=torch.rand(3, 3), y=torch.tensor([2])), r"one label in 0..1, .* got 2"),
        (Data(pos=torch.rand(3, 3)), "one label in 0..1, or a category, got 0 labels"),
        (labelled(-1), r"one label in 0..1, .* got -1"),
    ],
)
def test_clouds_without_a_row(data, message):
    with pytest.raises(ValueError, match=f"real cloud 1 must have {message}"):
        plot_kinds([("real", [labelled(0), data], 2)], ["a", "b"], "")


def test_labelled_set_is_drawn_by_category():
    real = ParametricShapes(num_per_class=4, num_points=32, segmentation=True)
    synthetic = distill(
        real,
        method=ddp(num_morphs=1),
        steps=0,
        task="segmentation",
        network=TinySegmenter,
        progress=False,
    )
    figure = plot_distilled(real, synthetic)
    size = synthetic[0].num_nodes
    assert shown(figure) == [32, 32, 32, size, size, size, size, size] * 10
    for row, name in enumerate(real.class_names):
        cells = [set(colors(axis).values()) for axis in figure.axes[8 * row : 8 * row + 8]]
        assert len(set.union(*cells)) <= len(real.category_parts[name])
        assert len(cells[3]) == len(synthetic[5 * row].y.unique())


def test_picture_of_parametric_shapes(tmp_path):
    from matplotlib.image import imread

    dataset = ParametricShapes(num_per_class=2, num_points=64, segmentation=True)
    figure = plot_kinds([("real", dataset, 2)], dataset.class_names, "parts")
    assert shown(figure) == [64] * 20
    figure.savefig(tmp_path / "a.png", dpi=60)
    pixels = torch.from_numpy(imread(tmp_path / "a.png")[..., :3])
    for name in ("tab:blue", "tab:orange", "tab:green", "tab:red"):
        near = (pixels - torch.tensor(to_rgba(name)[:3])).norm(dim=-1) < 0.1
        assert near.float().mean() > 0.0005, name


@pytest.mark.parametrize("name", ["a_$5_$^", "$$", "$\\frac$", "100 $ or 200 $", "$x"])
def test_a_name_with_dollars_is_drawn_as_it_is(name, tmp_path):
    """Two of them would be mathematics, and an error where they are none."""
    figure = plot_clouds([[torch.rand(5, 3)]], [name], [name], title=name)
    figure.savefig(tmp_path / "clouds.png")
    (axis,) = figure.axes
    for text in (axis.yaxis.label, axis.title):
        assert text._preprocess_math(text.get_text()) == (name, False)
    run = {"value": 0.5, "metric": "accuracy", "budget_bits": 1, "ppc": 1}
    rows = summarize([{**run, "method": name, "backbone": name}])
    plot_comparison(rows, tmp_path / "table.png", name)
    transfer = transfer_matrix([{**run, "method": "DM", "backbone": name}], [ENTRIES["DM"]])
    plot_transfer(transfer, [name], tmp_path / "matrix.png", name)


def test_gaps_stand_between_kinds(synthetic):
    figure = plot_distilled(toy_set(), synthetic, num_real=2, num_anchors=2, num_morphs=2)
    figure.canvas.draw()
    left = [axis.get_position().x0 for axis in figure.axes[:6]]
    steps = [b - a for a, b in itertools.pairwise(left)]
    within, between = steps[::2], steps[1::2]
    assert max(within) < min(between) - 0.01


def test_depth_and_parts_are_explained(synthetic):
    (legend,) = plot_distilled(toy_set(), synthetic).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "nearer points",
        "points farther away",
    ]
    data = labelled(0, parts=(1, 3))
    names = ["body", "wing", "tail", "engine"]
    figure = plot_clouds(
        [[data.pos]], ["a"], ["b"], part_labels=[[data.y]], part_names=names, up="y"
    )
    texts = figure.axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["wing", "engine"]
    assert not figure.legends
    with pytest.raises(ValueError, match="'part_names' must name part 3, got 2 names"):
        plot_clouds([[data.pos]], ["a"], ["b"], part_labels=[[data.y]], part_names=names[:2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_real": -1}, ValueError, "'num_real' must be at least 0, got -1"),
        ({"num_morphs": 1.5}, TypeError, "'num_morphs' must be an integer"),
        ({"num_anchors": -1}, ValueError, "'num_anchors' must be at least 0, got -1"),
        ({"classes": [1.0]}, ValueError, "or labels below 3, got 1.0"),
        ({"classes": [None]}, ValueError, "or labels below 3, got None"),
        ({"classes": [True]}, ValueError, "or labels below 3, got True"),
        ({"classes": [3]}, ValueError, "or labels below 3, got 3"),
        ({"classes": "class0"}, TypeError, "'classes' must be a sequence of names or labels"),
        ({"classes": []}, ValueError, "'classes' must name at least one class"),
        ({"path": "x.foo"}, ValueError, "'path' must end in one of .*, png, .*, got 'x.foo'"),
        ({"path": "x"}, ValueError, "'path' must end in one of "),
        ({"path": 1}, TypeError, "'path' must be a path"),
    ],
)
@pytest.mark.parametrize("plot", [plot_distilled, plot_sheets])
def test_what_cannot_be_drawn_is_refused_before_clouds_are_read(
    plot, arguments, error, message, synthetic, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    late = (pytest.fail("clouds are read") for _ in range(1))
    with pytest.raises(error, match=message):
        plot(late, synthetic, **{"path": "x.png", **arguments})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("plot", [plot_distilled, plot_sheets])
@pytest.mark.parametrize(
    "given",
    [
        lambda names: named_set(names),
        lambda names: Subset(named_set(names), [0, 1, 2, 3]),
        lambda names: ConcatDataset([named_set(names), named_set(names)]),
        lambda names: PointCloudBank.from_dataset([*toy_set()], class_names=names),
    ],
)
def test_real_clouds_stand_beside_their_own_class(plot, given, synthetic, tmp_path):
    path, names = tmp_path / "picture.png", synthetic.class_names
    for others in (names[::-1], ["a", "b", "c"], [names[0], "b", names[2]], [*names, "d"]):
        with pytest.raises(
            ValueError, match=r"'real_set' must have the classes \['class0', .*\], "
        ):
            plot(given(others), synthetic, path)
    assert not list(tmp_path.iterdir())
    for same in (names, ["0", "1", "2"]):  # Numbers go with any name.
        plot(given(same), synthetic, path, num_real=1, num_anchors=1, num_morphs=0)


def test_names_in_an_array_and_what_else_is_called_a_category(synthetic):
    class Offices(list):
        class_names = np.array(synthetic.class_names)

    real = Offices(Data(pos=d.pos, y=d.y, category="office") for d in toy_set())
    expected = plot_distilled(named_set(synthetic.class_names), synthetic)
    assert shown(plot_distilled(real, synthetic)) == shown(expected)


@pytest.mark.parametrize("plot", [plot_distilled, plot_sheets])
def test_what_is_no_set_is_refused(plot, synthetic, tmp_path):
    clouds, path = [*toy_set()], tmp_path / "picture.png"
    for real in (Batch.from_data_list(clouds), clouds[0], None):
        with pytest.raises(TypeError, match="'real_set' must be a data set"):
            plot(real, synthetic, path)
    with pytest.raises(TypeError, match="'synthetic' must be a SyntheticPointCloudDataset, got"):
        plot(clouds, clouds, path)


class InFolders(list):
    """As much as is read of a set of PyG, whose classes are called by their folders."""

    root, raw_file_names = "nowhere", ["b", "a", "c"]


def test_real_clouds_of_other_folders_are_refused(synthetic):
    with pytest.raises(ValueError, match=r"got \['a', 'b', 'c'\]"):
        plot_distilled(InFolders(toy_set()), synthetic)
    plot_distilled(
        InFolders(toy_set()), SyntheticPointCloudDataset(synthetic.parameterization), num_real=1
    )


def test_sheets(synthetic, tmp_path):
    one = plot_sheets(toy_set(), synthetic, tmp_path / "one.png", num_real=1)
    assert [path.name for path in one] == ["one.png"]
    paths = plot_sheets(toy_set(), synthetic, tmp_path / "new" / "two.png", 2, num_real=1)
    assert [path.name for path in paths] == ["two-1.png", "two-2.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    (pdf,) = plot_sheets(iter(toy_set()), synthetic, tmp_path / "all.PDF", 1, classes=["class2", 0])
    assert pdf.read_bytes().count(b"/Type /Page ") == 2
    with pytest.raises(ValueError, match="'classes_per_sheet' must be at least 1"):
        plot_sheets(toy_set(), synthetic, tmp_path / "one.png", 0)


def test_film(tmp_path):
    film = Film(every=2, classes=["class2", "class0"], num_anchors=1, num_morphs=2)
    with pytest.raises(ValueError, match="must be the callback of a distillation"):
        film.save(tmp_path / "film.gif")
    method = ddp(num_anchors=2, num_morphs=3, anchor_lr=0.5)
    kwargs = {"network": TinyNet, "progress": False}
    made = distill(toy_set(), 1, method, steps=5, callback=film, **kwargs)
    assert film.steps == [1, 2, 4]
    assert film.columns == ["anchor", "morph", "morph"]
    assert film.frames[0].shape == (2, 3, 15, 3)
    assert not film.frames[0].equal(film.frames[-1])
    last = Film(every=5, classes=["class1"])
    distill(toy_set(), 1, method, steps=5, callback=last, **kwargs)
    mine = [data.pos for data in made if int(data.y) == 1]
    assert last.frames[-1][0].equal(torch.stack(mine[:5]))
    film.save(tmp_path / "new" / "film.gif", seconds=1, title="toys")
    with Image.open(tmp_path / "new" / "film.gif") as gif:
        assert gif.n_frames == 3
    with pytest.raises(ValueError, match="'path' must be the name of a GIF, got"):
        film.save(tmp_path / "film.mp4")
    with pytest.raises(ValueError, match=r"'classes' must be of \['class0', .* got \['chair'\]"):
        distill(toy_set(), 1, method, steps=1, callback=Film(classes=["chair"]), **kwargs)


@pytest.mark.parametrize("every", [1, 3, 5])
def test_a_film_leaves_out_the_steps_that_a_retry_undoes(every):
    film, other, told = Film(every), Film(every), []

    def callback(run):
        told.append(run.num_steps)
        film(run)
        if run.num_retries == 2:  # What is never undone.
            other(run)

    method = replace(ddp(num_anchors=2, num_morphs=3, anchor_lr=0.5), matching=Diverging)
    kwargs = {"network": TinyNet, "progress": False, "retries": 2}
    made = distill(toy_set(), 1, method, steps=10, callback=callback, **kwargs)
    assert made.provenance["retries"] == 2
    assert told == [*range(1, 4), *range(1, 8), *range(1, 11)]
    assert film.steps == sorted({1, *range(every, 11, every)})
    assert other.steps == film.steps
    assert len(film.frames) == len(film.steps)
    assert all(map(torch.equal, film.frames, other.frames))


@pytest.mark.parametrize(
    ("num_frames", "seconds"), [(8, 6.0), (3, 4.0), (1, 0.5), (60, 0.5), (40, 0.001), (7, 0.3)]
)
def test_a_film_takes_the_seconds_that_it_is_given(tmp_path, num_frames, seconds):
    film = Film()
    film.classes, film.columns, film.steps = ["a"], ["stored"], list(range(num_frames))
    film.frames = list(torch.rand(num_frames, 1, 1, 4, 3))
    film.save(tmp_path / "film.gif", seconds, dpi=20)
    spans = []
    with Image.open(tmp_path / "film.gif") as gif:
        for i in range(gif.n_frames):
            gif.seek(i)
            spans.append(gif.info["duration"])
    wanted = max(20, 1000 * seconds)
    assert sum(spans) == pytest.approx(1.25 * wanted, abs=10)
    assert min(spans) >= 20
    assert len(spans) <= num_frames


def test_a_film_whose_frames_stay_too_long():
    with pytest.raises(
        ValueError, match=r"'seconds' must leave at most 655\.35 for each of 1 frame"
    ):
        _spans(1, 1000)
    kept, _ = _spans(100, 0.5)
    assert (kept[0], kept[-1], len(kept)) == (0, 99, 25)
    assert kept == sorted(set(kept))


@pytest.mark.parametrize("name", ["a", "a cylindrical container with a lid", "x" * 80])
def test_a_column_has_room_for_names_and_legend(name, tmp_path):
    """Matplotlib warns, which is an error here, where clouds are left no room."""
    stored = FullResolution(torch.rand(2, 20, 3), 2)
    small = SyntheticPointCloudDataset(stored, class_names=[name, "bed"])
    figure = plot_distilled([], small, tmp_path / "small.png")
    FigureCanvasAgg(figure).draw()
    inside = figure.bbox
    (label, _) = (axis.yaxis.label for axis in figure.axes)
    (legend,) = figure.legends
    for box in (label.get_window_extent(), legend.get_window_extent()):
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "'every' must be at least 1, got 0"),
        ((5, None, 0), ValueError, "'num_anchors' must be at least 1, got 0"),
        ((5, []), ValueError, "'classes' must name at least one class, got none"),
        ((5, "chair"), TypeError, "'classes' must be a list of strings, got str"),
    ],
)
def test_a_film_of_nothing(arguments, error, message):
    with pytest.raises(error, match=message):
        Film(*arguments)


@pytest.mark.parametrize("name", ["film.gif", "film.GIF", "a.b.Gif"])
def test_the_suffix_of_a_film_may_be_in_capitals(name, tmp_path):
    film = Film()
    film.classes, film.columns, film.steps = ["a"], ["stored"], [1]
    film.frames = [torch.rand(1, 1, 4, 3)]
    film.save(tmp_path / name, 0.1, dpi=20)
    assert (tmp_path / name).read_bytes().startswith(b"GIF8")


def test_losses(tmp_path):
    losses = [1 / step for step in range(1, 101)]
    figure = plot_losses(losses, tmp_path / "new" / "losses.png", "toys")
    single, mean = figure.axes[0].lines
    assert single.get_ydata().tolist() == losses
    assert mean.get_label() == "mean of 5 steps"
    assert mean.get_ydata()[50] == pytest.approx(sum(losses[48:53]) / 5)
    assert mean.get_ydata()[0] == pytest.approx(sum(losses[:3]) / 3)
    assert (tmp_path / "new" / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert len(plot_losses([1.0]).axes[0].lines) == 1
    with pytest.raises(ValueError, match="'losses' must be the losses of at least one step"):
        plot_losses([])
    for same in (np.array([1.0, 2.0]), (1, 2), torch.tensor([1.0, 2.0])):
        assert plot_losses(same).axes[0].lines[0].get_ydata().tolist() == [1, 2]


@pytest.mark.parametrize(
    "losses",
    [
        3.0,
        np.float32(3),
        torch.tensor(3.0),
        None,
        "3",
        "losses",
        {},
        {"loss": 1.0},
        [[1.0]],
        [[1.0], [2.0, 3.0]],
        ["a"],
        object(),
    ],
)
def test_what_is_no_sequence_of_losses_is_refused(losses):
    with pytest.raises(TypeError, match="'losses' must be a sequence of numbers, got"):
        plot_losses(losses)


def test_confusion(tmp_path):
    counts = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    figure = plot_confusion(counts, ["a", "b", "c"], tmp_path / "confusion.png", "toys")
    axes = figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "75", (1, 0): "25", (1, 1): "100"}  # Nothing is known of the third.
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("taken for", "true class")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"'confusion' must be 2 by 2, got \(3, 3\)"):
        plot_confusion(counts, ["a", "b"])


def save_film(path):
    film = Film()
    film.classes, film.columns, film.steps = ["a"], ["stored"], [1, 2]
    film.frames = list(torch.rand(2, 1, 1, 4, 3))
    film.save(path, 0.1, dpi=20)


@pytest.mark.parametrize("picture", ["losses", "confusion", "distilled", "sheets", "pdf", "film"])
def test_a_picture_stays_as_it_was_where_the_disk_is_full(
    picture, synthetic, tmp_path, monkeypatch
):
    draw, name, owner, method = {
        "losses": (lambda path: plot_losses([1.0], path), "x.png", Figure, "savefig"),
        "confusion": (
            lambda path: plot_confusion(torch.eye(2), ["a", "b"], path),
            *("x.svg", Figure, "savefig"),
        ),
        "distilled": (
            lambda path: plot_distilled(toy_set(), synthetic, path, 1),
            *("x.png", Figure, "savefig"),
        ),
        "sheets": (
            lambda path: plot_sheets(toy_set(), synthetic, path, num_real=1),
            *("x.png", Figure, "savefig"),
        ),
        "pdf": (
            lambda path: plot_sheets(toy_set(), synthetic, path, 2, num_real=1),
            *("x.pdf", PdfPages, "savefig"),
        ),
        "film": (save_film, "x.gif", Image.Image, "save"),
    }[picture]
    path, write = tmp_path / name, getattr(owner, method)
    draw(path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        write(*args, **kwargs)
        raise OSError("the disk is full")

    monkeypatch.setattr(owner, method, full)
    with pytest.raises(OSError, match="the disk is full"):
        draw(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("x.foo", ValueError, "'path' must end in one of .*, png, .*, got 'x.foo'"),
        (5, TypeError, r"'path' must be a path, got int \(5\)"),
        ("folder.png", ValueError, "'path' must be a file that can be written, got 'folder.png'"),
    ],
)
@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plot_losses([1.0], path),
        lambda path: plot_confusion(torch.eye(2), ["a", "b"], path),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused_before_it_is_drawn(
    draw, path, error, message, tmp_path, monkeypatch
):
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "add_subplot", lambda *args: pytest.fail("it is drawn"))
    with pytest.raises(error, match=message):
        draw(path)
