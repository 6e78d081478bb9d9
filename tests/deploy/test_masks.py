"""Test that masks of graphs cover the pixels that mmdet covers."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

from dsnet_mm.deploy.masks import paste

SIZE = (61, 83)
THRESHOLD = 0.5


def test_masks_are_pasted_as_by_mmdet():
    random = np.random.default_rng(0)
    corners = random.uniform(0, SIZE[::-1], (60, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    boxes[:9] = [
        (0, 0, 83, 61), (3, 4, 3.4, 60), (80, 50, 83, 61), (5, 5, 6, 6), (83, 10, 83, 20),
        (0, 61, 30, 61), (2.5, 2.5, 40, 3), (-4, -5, 90, 70), (7.3, 9, 7.4, 9.1),
    ]  # fmt: skip
    masks = random.random((60, 28, 28), np.float32)
    masks[30:] = masks[30:].round()  # certain masks
    given = paste(masks, boxes, SIZE, THRESHOLD)
    assert given.shape == (60, *SIZE)
    for mask, box, one in zip(torch.from_numpy(masks), torch.from_numpy(boxes), given):
        wanted = torch.zeros(SIZE)
        values, place = _do_paste_mask(mask[None, None], box[None], *SIZE)
        wanted[place] = values[0]
        sure = ((wanted - THRESHOLD).abs() > 1e-4).numpy()
        assert np.array_equal(one[sure], (wanted.numpy() >= THRESHOLD)[sure])
        assert sure.mean() > 0.95


def test_no_masks():
    none = paste(np.zeros((0, 28, 28)), np.zeros((0, 4)), SIZE, THRESHOLD)
    assert none.shape == (0, *SIZE)
