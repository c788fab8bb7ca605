"""What a set is worth: protocols, training, and the scores of both tasks."""

from torch_geometric_ddp.evaluation.augment import RandomRotation
from torch_geometric_ddp.evaluation.classification import Evaluation, evaluate
from torch_geometric_ddp.evaluation.iou import PartIoU, part_iou, restrict
from torch_geometric_ddp.evaluation.protocol import CPU, PAPER, QUICK, SMOKE, Protocol
from torch_geometric_ddp.evaluation.segmentation import PartEvaluation, evaluate_parts
from torch_geometric_ddp.evaluation.training import fit

__all__ = [
    "CPU",
    "PAPER",
    "QUICK",
    "SMOKE",
    "Evaluation",
    "PartEvaluation",
    "PartIoU",
    "Protocol",
    "RandomRotation",
    "evaluate",
    "evaluate_parts",
    "fit",
    "part_iou",
    "restrict",
]
