"""Pictures of clouds, of how they change, and of what networks learn from them."""

from torch_geometric_ddp.visualize.clouds import line_of as line_of
from torch_geometric_ddp.visualize.clouds import plain as plain
from torch_geometric_ddp.visualize.clouds import plot_clouds
from torch_geometric_ddp.visualize.clouds import put_title as put_title
from torch_geometric_ddp.visualize.distilled import plot_distilled, plot_sheets
from torch_geometric_ddp.visualize.film import Film
from torch_geometric_ddp.visualize.learning import plot_confusion, plot_losses
from torch_geometric_ddp.visualize.saving import check_picture as check_picture
from torch_geometric_ddp.visualize.saving import save_figure as save_figure

__all__ = [
    "Film",
    "plot_clouds",
    "plot_confusion",
    "plot_distilled",
    "plot_losses",
    "plot_sheets",
]
