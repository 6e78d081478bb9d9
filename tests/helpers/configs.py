"""What the tests of several configs share."""

from __future__ import annotations

from mmengine.config import Config


def as_options(settings: dict[str, object]) -> list[str]:
    """Return settings as the words behind ``--cfg-options``."""
    return [f'{name}={value}' for name, value in settings.items()]


def check_safety(cfg: Config) -> None:
    """See that trainings of ``cfg`` stop at NaN, and leave a checkpoint while they write one."""
    assert {'SafeCheckpointHook', 'StopAtNaNHook'} <= {hook.type for hook in cfg.custom_hooks}
    assert cfg.default_hooks.checkpoint.max_keep_ckpts > 1  # mmengine deletes before it writes
