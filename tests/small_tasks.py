"""Tasks for pools of processes: what they do is said in the task. A module of its own, for processes to import."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def obey(task: dict[str, Any]) -> dict[str, Any]:
    if "touch" in task:
        Path(task["touch"]).write_text(str(os.getpid()))
    if "await" in task:  # until another task is under way, too
        while not Path(task["await"]).exists():
            time.sleep(0.01)
    if task.get("sleep"):
        time.sleep(task["sleep"])
    if task.get("raise"):
        raise ValueError(task["raise"])
    if task.get("die"):
        os._exit(9)
    return {"said": task.get("say"), "threads": os.environ.get("OMP_NUM_THREADS"), "process": os.getpid()}
