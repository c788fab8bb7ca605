"""The classification and segmentation tasks."""

from torch_geometric_ddp.tasks.base import Task, check_labels, default_network, read_bank

__all__ = ["Task", "check_labels", "default_network", "read_bank"]
