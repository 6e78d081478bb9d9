"""How fast images are loaded, and how many processes that takes."""

import re
from pathlib import Path

import pytest
from conftest import ROOT, documented, tool
from mmengine.registry import DATASETS

from dsnet_mm.analysis.loading import describe, loading_times, workers_needed
from dsnet_mm.engine.launch import load_config
from dsnet_mm.errors import UserError

DEMO = str(ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py')


def test_each_image_is_timed_by_itself(monkeypatch):
    clock = [0.0]

    class Slow(list):
        def __getitem__(self, index):
            clock[0] += 5 if index == 0 else index

    monkeypatch.setattr(DATASETS, 'build', lambda cfg: Slow(range(4)))
    monkeypatch.setattr('time.perf_counter', lambda: clock[0])
    assert loading_times(load_config(DEMO), 3) == [1, 2, 3]


def test_a_set_that_is_too_small_is_named(shapes_root):
    cfg = load_config(DEMO, data_root=str(shapes_root))
    assert len(loading_times(cfg, 2)) == 2
    with pytest.raises(UserError, match='has 8 images, too few to load 8 and one before'):
        loading_times(load_config(DEMO, data_root=str(shapes_root)), 8)


def test_workers():
    seconds = [0.02, 0.04]  # 33.3 images/s
    assert [workers_needed(seconds, rate) for rate in (1, 33, 34, 100.1)] == [1, 1, 2, 4]
    text = describe(seconds, [40])
    assert '33.3 images/s; 30 ms an image' in text
    assert 'trains 40 images/s needs 2 workers' in text


@pytest.mark.slow
def test_the_documented_command(shapes_root):
    python, script, config, *_ = documented('docs/performance.md', 'benchmark_data.py')
    assert (ROOT / config).exists()
    done = tool(Path(script).name, DEMO, '--data-root', shapes_root, '--images', 3, '--rates', 5)
    assert done.returncode == 0, done.stderr
    assert '3 images, one process: ' in done.stdout
    assert re.search(r'a GPU that trains 5 images/s needs \d+ workers?\n', done.stdout)
