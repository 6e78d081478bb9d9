"""The hook that makes checkpoints safe to load, and restores what it changed."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from dsnet_mm.engine.hooks import SafeCheckpointHook


@pytest.fixture
def checkpoint():
    return dict(
        message_hub=dict(
            log_scalars=OrderedDict({'train/loss': HistoryBuffer([3.0, 2.0], [1, 2], 10)}),
            runtime_info=OrderedDict(epoch=2, eta=np.float64(1.5), best=np.array([1, 2])),
            resumed_keys={'train/loss': True},
        ),
        meta=dict(epoch=2, dataset_meta=dict(classes=('a', 'b'), palette=[(1, 2, 3)])),
        state_dict=OrderedDict(weight=torch.ones(2)),
    )


def test_a_plain_checkpoint_is_not_safe(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / 'plain.pth')
    with pytest.raises(Exception, match='Weights only load failed'):
        torch.load(tmp_path / 'plain.pth', weights_only=True)


def test_round_trip(checkpoint, tmp_path):
    hook = SafeCheckpointHook()
    meta = dict(checkpoint['meta'])
    hook.before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, tmp_path / 'safe.pth')
    loaded = torch.load(tmp_path / 'safe.pth', weights_only=True)
    hook.after_load_checkpoint(None, loaded)
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert [part.tolist() for part in history.data] == [[3, 2], [1, 2]]
    assert history.max_length == 10
    info = loaded['message_hub']['runtime_info']
    assert (info['epoch'], info['eta'], info['best']) == (2, 1.5, [1, 2])
    assert loaded['meta'] == meta
    history.update(1.0, 1)
    assert history.current() == 1.0


def test_subclasses_of_containers_become_plain(checkpoint, tmp_path):
    Place = namedtuple('Place', 'row column')
    checkpoint['meta'] = dict(dataset_meta=ConfigDict(first=1), place=Place(1, 2))
    SafeCheckpointHook().before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, tmp_path / 'safe.pth')
    loaded = torch.load(tmp_path / 'safe.pth', weights_only=True)
    assert loaded['meta'] == dict(dataset_meta=dict(first=1), place=(1, 2))


def test_the_running_history_is_left_alone(checkpoint):
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    SafeCheckpointHook().before_save_checkpoint(None, checkpoint)
    assert history.data[0].tolist() == [3, 2]
