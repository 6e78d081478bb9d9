"""Write and read `run.json`: the facts of a training, in its work dir."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dsnet_mm.files import written_whole

RUN_FILE = 'run.json'


class State(str, Enum):
    """How a training ended, if it ended."""

    RUNNING = 'running'  # or killed
    FINISHED = 'finished'
    STOPPED = 'stopped'  # the loss or a weight was not finite
    FAILED = 'failed'
    INTERRUPTED = 'interrupted'


@dataclass
class RunFile:
    """The facts of a training, which one or several processes ran one after the other."""

    state: State  # how the training ended
    reason: str = ''  # why the training stopped, failed or was interrupted
    epoch: int = 0  # epochs trained
    max_epochs: int = 0  # epochs that the config asks for
    seed: int | None = None
    world_size: int = 1  # processes of the latest start
    batch_size: int = 0  # images per step of the optimizer, over all processes of the latest start
    load_from: str | None = None  # weights of the whole model that the training started from
    # one record per epoch: ``epoch``, ``loss`` of its last iteration, ``seconds`` without
    # evaluation, ``memory`` (highest, of the GPU of rank 0 in MB), ``batch_size``
    epochs: list[dict[str, Any]] = field(default_factory=list)
    # one record per evaluation: ``epoch``, ``iteration``, ``metrics``
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)  # of the latest start

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the latest evaluation by name."""
        return self.evaluations[-1]['metrics'] if self.evaluations else {}

    def write(self, work_dir: str | Path) -> None:
        """Write the file as a whole.

        Raises:
            UserError: If the file cannot be written.
        """
        with written_whole(Path(work_dir) / RUN_FILE) as draft:
            draft.write_text(json.dumps(plain(asdict(self)), indent=1), encoding='utf-8')

    @classmethod
    def read(cls, work_dir: str | Path) -> RunFile | None:
        """Return the facts of the training in a work dir, None without a readable run.json."""
        try:
            facts = json.loads((Path(work_dir) / RUN_FILE).read_bytes())
            return cls(**{**facts, 'state': State(facts['state'])})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def plain(value: Any) -> Any:
    """Copy a config or other nested containers as the types of JSON; other values become text."""
    if isinstance(value, Config):
        value = value.to_dict()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (str, int, type(None))):
        return value
    if hasattr(value, 'item'):  # of numpy or torch
        return plain(value.item())
    return value if isinstance(value, float) and math.isfinite(value) else str(value)
