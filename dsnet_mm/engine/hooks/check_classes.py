"""Compare the classes of a config with the categories of the annotation files."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from dsnet_mm.data.locate import unwrap
from dsnet_mm.errors import UserError


class CheckClassesHook(Hook):
    """Stop before the first image if an annotation file lacks a class of its dataset.

    mmdet skips a class that the file lacks and numbers the other classes by the file. Every later
    class would then get a wrong name.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the datasets of training and validation."""
        self.check(runner, runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            self.check(runner, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Check the test dataset."""
        self.check(runner, runner.test_dataloader.dataset)

    @staticmethod
    def check(runner: Runner, dataset: Any) -> None:
        """Compare the categories that each dataset found with its classes.

        Raises:
            UserError: If a category is missing.
        """
        for part in unwrap(dataset):
            classes = part.metainfo.get('classes', ())
            found = getattr(part, 'cat_ids', classes)  # only mmdet's COCO datasets have cat_ids
            if len(found) < len(classes):
                raise UserError(
                    f'{part.ann_file} has only {len(found)} of the {len(classes)} classes of its '
                    f'dataset in {runner.cfg.filename}, so the later classes would get wrong '
                    "names; write the classes as the file's categories, and run `dsnet-mm "
                    'check-data` with --config to list the differences'
                )
