"""Show classes in the pictures of trainings and tests as the other commands do."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from dsnet_mm.data.drawn_classes import show_classes


class ShowClassesHook(Hook):
    """Give the visualizer of a runner readable class names and the colors of all commands."""

    def before_run(self, runner: Runner) -> None:
        """Prepare the visualizer, if a hook of mmdet or mmseg (``draw``) or mmpretrain uses it."""
        if any(getattr(hook, 'draw', getattr(hook, 'enable', False)) for hook in runner.hooks):
            show_classes(runner.visualizer, runner.visualizer.dataset_meta or {})
