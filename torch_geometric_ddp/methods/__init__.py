"""Methods: a parameterization and a matching, by themselves and as they were published."""

from torch_geometric_ddp.methods.method import Method
from torch_geometric_ddp.methods.published import dc, ddp, dm, pcc, sadm
from torch_geometric_ddp.methods.storing import Storing, full_resolution, morphing

__all__ = ["Method", "Storing", "dc", "ddp", "dm", "full_resolution", "morphing", "pcc", "sadm"]
