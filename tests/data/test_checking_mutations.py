"""Mutate each field of an annotation file, and compare check-data with what mmdet does."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from dsnet_mm.data.checking.annotation_checks import check_entries
from dsnet_mm.data.checking.check import check_set
from dsnet_mm.data.checking.config_checks import check_config, trains_masks
from dsnet_mm.errors import UserError
from helpers.annotation_mutations import CLASSES, mutations, write_images
from helpers.annotation_trial import CRASH, FINE, LOST, Trial
from helpers.datasets import dataset_config

STRICTER = {
    'annotations.id null': 'a second annotation without an id makes mmdet stop',
    'annotations.iscrowd the same everywhere': 'nothing is left to train on',
    'a crowd with an RLE that does not fill': 'pycocotools may hang on it',
}
"""Mutations that are problems although mmdet copes with them, and why."""


def config(with_mask):
    load = dict(type='LoadAnnotations', with_bbox=True, with_mask=with_mask)
    filter_cfg = dict(filter_empty_gt=True, min_size=32)
    return dataset_config(CLASSES, len(CLASSES), [load], filter_cfg=filter_cfg)


CONFIGS = {'boxes': config(False), 'masks': config(True)}


def verdicts(path, folder):
    """Return 'problem', 'note' or 'nothing', and the titles, without and with each config."""
    try:
        report = check_set(str(path), str(folder))
    except UserError as error:
        return dict.fromkeys(['no config', *CONFIGS], ('problem', [str(error)]))
    found = {'no config': report.findings}
    alike = report.findings[len(check_entries(report.coco)) :]  # of image files
    for need, cfg in CONFIGS.items():
        entries = check_entries(report.coco, masks=trains_masks(cfg))
        found[need] = (*entries, *check_config(report.coco, cfg), *alike)
    return {mode: judged(findings) for mode, findings in found.items()}


def judged(findings):
    faults = [finding for finding in findings if finding.count]
    problem = any(finding.fails for finding in faults)
    kind = 'problem' if problem else 'note' if faults else 'nothing'
    return kind, [finding.title for finding in faults]


def tried(trials, path, content, classes=CLASSES):
    """Return the outcomes; what a detector of boxes does not survive, masks do not mend."""
    boxes = trials['boxes'].outcome(path, content, classes)
    masks = trials['masks'].outcome(path, content, classes) if boxes[0] == FINE else boxes
    return dict(boxes=boxes, masks=masks)


def own_classes(content):
    """Return the classes of a config that somebody writes for this file."""
    categories = content.get('categories')
    if isinstance(categories, list) and all(isinstance(entry, dict) for entry in categories):
        names = [entry.get('name') for entry in categories]
        if names and all(isinstance(name, str) and name for name in names):
            return tuple(dict.fromkeys(names))
    return CLASSES


def lacks_masks(content):
    annotations = content.get('annotations')
    entries = annotations if isinstance(annotations, list) else []
    masks = [entry.get('segmentation') for entry in entries if isinstance(entry, dict)]
    return any(not mask or (isinstance(mask, list) and not any(mask)) for mask in masks)


@pytest.fixture
def _one_thread():
    """Use one thread, which is faster for images of 64 pixels."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(number)


@pytest.mark.slow
@pytest.mark.usefixtures('_one_thread')
def test_check_data_agrees_with_mmdet(tmp_path):
    """Load, train an iteration and evaluate a perfect detector with every mutated file.

    What stops mmdet or makes it ignore an object is a problem, and nothing else is. Without a
    config, faults of masks are problems, but masks that are absent are a note.
    """
    folder = tmp_path / 'images'
    write_images(folder)
    trials = {'boxes': Trial(folder, False), 'masks': Trial(folder, True)}
    path = tmp_path / 'ann.json'
    disagreements, kinds, number = [], Counter(), 0
    for name, content in mutations():
        path.write_text(json.dumps(content))
        outcomes = tried(trials, path, content)
        classes = own_classes(content)
        own = outcomes if classes == CLASSES else tried(trials, path, content, classes)
        needs = ['boxes'] if lacks_masks(content) else ['boxes', 'masks']
        wrong = {need: outcomes[need][0] != FINE for need in trials}
        wrong['no config'] = any(own[need][0] != FINE for need in needs)
        for mode, (said, titles) in verdicts(path, folder).items():
            is_wrong = wrong[mode]
            missed = is_wrong and said != 'problem'
            needless = said == 'problem' and not any(wrong.values()) and name not in STRICTER
            silent = lacks_masks(content) and said == 'nothing'
            if missed or needless or silent:
                disagreements.append((name, mode, outcomes, said, titles))
        number += 1
        kinds.update(outcome for outcome, _ in outcomes.values())
    print(f'{number} mutations: {dict(kinds)}')
    assert not disagreements, '\n'.join(map(str, disagreements))
    assert number > 500
    assert min(kinds[CRASH], kinds[LOST], kinds[FINE]) > 100
