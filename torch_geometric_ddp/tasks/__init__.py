"""The classification and segmentation tasks."""

from torch_geometric_ddp.tasks.base import Scores, Task
from torch_geometric_ddp.tasks.classification import Accuracy, Classification
from torch_geometric_ddp.tasks.iou import PartIoU, part_iou, restrict
from torch_geometric_ddp.tasks.segmentation import MeanIoU, Segmentation

__all__ = [
    "TASKS",
    "Accuracy",
    "Classification",
    "MeanIoU",
    "PartIoU",
    "Scores",
    "Segmentation",
    "Task",
    "find_task",
    "part_iou",
    "restrict",
]

# What is asked of a task where all work is done.
_SAYS = ("name", "metric", "class_metric", "one_label")

#: Every task that the package knows, by name.
TASKS: dict[str, Task] = {task.name: task for task in (Classification(), Segmentation())}


def find_task(task: Task | str) -> Task:
    """A task, or the one of that name.

    Args:
        task (Task or str): The task, or one of :obj:`TASKS`.

    Raises:
        TypeError: If it is neither a task nor a name, or a task of one's own does not say what it
            and its figures are called, or whether a cloud has one label.
        ValueError: If no task has that name.
    """
    if isinstance(task, Task):
        lacking = [key for key in _SAYS if not hasattr(task, key)]
        if lacking:
            raise TypeError(
                f"'task' must have the attributes {', '.join(_SAYS)}, got "
                f"{type(task).__name__} without {', '.join(lacking)}"
            )
        return task
    if isinstance(task, str) and task in TASKS:
        return TASKS[task]
    error = ValueError if isinstance(task, str) else TypeError
    raise error(f"'task' must be a Task or one of {list(TASKS)}, got {task!r}")
