"""A moving picture of the stored clouds while they are optimised."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from io import BytesIO
from typing import Protocol

import torch
from PIL import Image  # Matplotlib's own package for pictures.
from torch import Tensor

from torch_geometric_ddp._checks import check_float, check_int, check_names
from torch_geometric_ddp._files import check_place, replacing
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.parameterization import Parameterization
from torch_geometric_ddp.visualize.clouds import (
    plot_clouds,
    seen,
    view_of,
    word_for_stored,
    wrapped,
)

__all__ = ["Film"]

# Hundredths of a second, the unit of a GIF: what browsers show as it is, and the most.
_SHORTEST, _LONGEST = 2, 2**16 - 1


class Run(Protocol):
    """What is read of a distillation."""

    bank: PointCloudBank
    parameterization: Parameterization

    @property
    def num_steps(self) -> int:
        """The steps so far."""

    def share(self) -> None:
        """Gives every rank the parameters of all classes."""


class Film:
    """Keeps the clouds of a distillation as it runs, and saves them as a GIF.

    A film is a :obj:`callback` of :func:`~torch_geometric_ddp.distill`:

    .. code-block:: python

        film = Film(every=5, classes=["chair", "table"])
        distill(dataset, ppc=1, steps=100, callback=film)
        film.save("film.gif")

    Args:
        every (int): Steps between two frames; the first step is one, too. (default: :obj:`5`)
        classes (sequence of str, optional): The names of the classes to show, at least one.
            (default: the first four)
        num_anchors (int): Anchors of a class, or clouds of a set without morphs.
            (default: :obj:`3`)
        num_morphs (int): Morphs of a class. (default: :obj:`3`)

    After a retry, the frames of the steps that were undone are left out.

    Raises:
        TypeError: If a number is no integer, or :obj:`classes` no sequence of names.
        ValueError: If a number is below one, or :obj:`num_morphs` negative, or :obj:`classes` has
            no name or one of them twice.
    """

    def __init__(
        self,
        every: int = 5,
        classes: Sequence[str] | None = None,
        num_anchors: int = 3,
        num_morphs: int = 3,
    ) -> None:
        self.every = check_int("every", every)
        self.num_anchors = check_int("num_anchors", num_anchors)
        self.num_morphs = check_int("num_morphs", num_morphs, minimum=0)
        self.classes = None if classes is None else check_names("classes", classes)
        if self.classes == []:
            raise ValueError("'classes' must name at least one class, got none")
        #: The steps that were kept.
        self.steps: list[int] = []
        #: Of each of them, the clouds :obj:`[R, num, N, 3]` of the classes.
        self.frames: list[Tensor] = []
        self.columns: list[str] = []

    def __call__(self, run: Run) -> None:
        """Keeps the clouds after a step, if its turn has come.

        Raises:
            ValueError: If a class is not one of the data.
        """
        # A retry has undone the steps from this one on.
        while self.steps and self.steps[-1] >= run.num_steps:
            del self.steps[-1], self.frames[-1]
        if run.num_steps != 1 and run.num_steps % self.every:
            return
        names = run.bank.class_names
        if self.classes is None:
            self.classes = list(names[:4])
        if unknown := [name for name in self.classes if name not in names]:
            raise ValueError(f"'classes' must be of {list(names)}, got {unknown}")
        run.share()
        with torch.no_grad():
            batch = run.parameterization()
        pos = batch.pos.detach().cpu().float().view(-1, batch.num_points, 3)
        labels = batch.y.cpu() if "category" not in batch else batch.category.cpu()
        is_morph = run.parameterization.is_morph().cpu()
        of_class = [labels.flatten() == names.index(name) for name in self.classes]
        rows = []
        for some, most in ((~is_morph, self.num_anchors), (is_morph, self.num_morphs)):
            # As many of each as the class with the fewest has.
            num = min([most, *(int((mine & some).sum()) for mine in of_class)])
            rows.append(torch.stack([pos[mine & some][:num] for mine in of_class]))
        self.columns = [word_for_stored(is_morph)] * rows[0].size(1) + ["morph"] * rows[1].size(1)
        self.steps.append(run.num_steps)
        self.frames.append(torch.cat(rows, dim=1))

    def save(
        self,
        path: str | os.PathLike[str],
        seconds: float = 6.0,
        title: str = "",
        up: str = "z",
        dpi: int = 70,
    ) -> None:
        """Writes the film as a GIF that starts again at its end.

        Args:
            path (str or path): The file, :obj:`*.gif`.
            seconds (float): How long it takes; the last frame stays for a quarter of that more. A
                frame takes at least 0.02 seconds: where that is too long, frames are left out.
                (default: :obj:`6.0`)
            title (str): What stands above it, before the number of the step. (default: nothing)
            up (str): The axis that points up. (default: :obj:`"z"`)
            dpi (int): The resolution. (default: :obj:`70`)

        Raises:
            TypeError: If :obj:`path` or a number is of another type.
            ValueError: If nothing was kept yet, :obj:`path` is no GIF or cannot be written, a
                number is out of range, or :obj:`up` is no axis.
        """
        path = check_place("path", path)
        if path.suffix.lower() != ".gif":
            raise ValueError(f"'path' must be the name of a GIF, got '{path}'")
        seconds = check_float("seconds", seconds, exclusive=True)
        check_int("dpi", dpi)
        if not self.frames or self.classes is None:
            raise ValueError("the film must be the callback of a distillation before it is saved")
        view = view_of(35.0, 20.0, up)
        titles = [f"{title}, step {step}" if title else f"step {step}" for step in self.steps]
        figure = plot_clouds(
            [list(row) for row in self.frames[0]],
            self.classes,
            self.columns,
            max(titles, key=len),  # For which all frames have room.
            up=up,
        )
        cells = [axis.collections[0] for axis in figure.axes]
        kept, spans = _spans(len(self.frames), seconds)
        images = []
        for i in kept:
            figure.suptitle(wrapped(titles[i], figure), fontsize=11)
            for cell, pos in zip(cells, self.frames[i].flatten(0, 1), strict=True):
                x, y, depth, _ = seen(pos, view)
                cell.set_offsets(torch.stack([x, y], dim=1).numpy())
                cell.set_array((-depth).numpy())
                cell.autoscale()
            with BytesIO() as file:
                figure.savefig(file, format="png", dpi=dpi)
                images.append(Image.open(file).convert("RGB"))
        milliseconds = [10 * span for span in spans]
        first, *others = images
        how = {"save_all": True, "append_images": others, "duration": milliseconds, "loop": 0}
        with replacing(path) as temporary:
            first.save(temporary, format="GIF", **how)


def _spans(num_frames: int, seconds: float) -> tuple[list[int], list[int]]:
    """The frames that are shown, and for how many hundredths of a second.

    Raises:
        ValueError: If one takes longer than a GIF can say.
    """
    total = max(_SHORTEST, round(100 * seconds))
    num = min(num_frames, total // _SHORTEST)
    # The last frame is the one to see where it is the only one.
    kept = [num_frames - 1 - (num_frames - 1) * i // max(1, num - 1) for i in range(num)][::-1]
    ends = [total * i // num for i in range(num + 1)]
    spans = [end - start for start, end in itertools.pairwise(ends)]
    spans[-1] += total // 4
    if max(spans) > _LONGEST:
        raise ValueError(
            f"'seconds' must leave at most {_LONGEST / 100} for each of {num} frames, got {seconds}"
        )
    return kept, spans
