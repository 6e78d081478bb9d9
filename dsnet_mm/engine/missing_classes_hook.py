"""Classes of a config that the annotations do not have."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dsnet_mm.data.locate import unwrap
from dsnet_mm.errors import UserError


@HOOKS.register_module()
class MissingClassesHook(Hook):
    """Stop before the first image if an annotation file lacks a class of its data set.

    mmdet passes over a class that it does not find, and numbers the others by the file, so that
    those after it get another's name.
    """

    def before_train(self, runner: Runner) -> None:
        """Look at the data sets of training and validation."""
        self.check(runner, runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            self.check(runner, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Look at the data set of the test."""
        self.check(runner, runner.test_dataloader.dataset)

    @staticmethod
    def check(runner: Runner, dataset: Any) -> None:
        """Compare the categories that each data set found with its classes.

        Raises:
            UserError: If there are fewer.
        """
        for part in unwrap(dataset):
            classes = part.metainfo.get('classes', ())
            found = getattr(part, 'cat_ids', classes)  # of mmdet's data sets in COCO's form
            if len(found) < len(classes):
                raise UserError(
                    f'{part.ann_file} has only {len(found)} of the {len(classes)} classes of its '
                    f'data set in {runner.cfg.filename}, where the later ones would get wrong '
                    "names; write them as in the file's categories, and let tools/check_data.py "
                    'with --config name those that differ'
                )
