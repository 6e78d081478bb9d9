"""``dsnet://`` addresses: download, verify, convert and cache, from a server of this machine."""

from __future__ import annotations

import builtins
import hashlib
import multiprocessing
import pickle
import threading
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from dsnet_mm.engine.checkpoint import read_checkpoint
from dsnet_mm.engine.initial_weights import check_initial_weights, read_load_from
from dsnet_mm.errors import UserError
from dsnet_mm.models import DSNet
from dsnet_mm.weights import cache, safetensors_format
from dsnet_mm.weights.address import get_weights, local_file
from dsnet_mm.weights.cache import cached_file
from dsnet_mm.weights.published_files import ARCHS, MIRROR, PADDLE_CLAS
from helpers.golden import (
    ONE_BLOCK,
    narrow_models,
    paddle_arrays,
    paddle_bytes,
    published,
    torch_bytes,
)
from helpers.weight_server import serving

FILE = 'DSNet_tiny_pretrained.pdparams'
ADDRESS = 'dsnet://tiny_in1k'
WEIGHT = 'stages.0.patch_embed.proj.weight'


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A mirror with the weights of a narrow model; the cache and the work folder are empty."""
    narrow_models(monkeypatch)
    monkeypatch.setitem(DSNet.arch_zoo, 'tiny', {**DSNet.arch_zoo['tiny'], 'depths': ONE_BLOCK})
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path / 'work')
    with serving() as server:
        server.content = paddle_bytes(paddle_arrays(published()))
        monkeypatch.setenv(MIRROR, server.url)
        yield server


@pytest.fixture
def other():
    """The file of other weights."""
    return paddle_bytes({name: x + 1 for name, x in paddle_arrays(published()).items()})


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir()) if Path(folder).exists() else []


def cache_dir():
    return cached_file('tiny').parent


def assert_usable(checkpoint):
    model = DSNet('tiny', init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)))
    model.init_weights()
    assert torch.equal(model.state_dict()[WEIGHT], published()['patch_embed1.proj.weight'])


def test_the_first_use_downloads_and_the_second_needs_no_server(server, tmp_path):
    assert_usable(ADDRESS)
    assert server.requests == [f'/{FILE}']
    assert cache_dir() == tmp_path / 'home' / 'hub' / 'checkpoints'
    assert names(cache_dir()) == [f'{FILE}.sha256', 'dsnet_tiny_in1k.pth']
    sha256 = hashlib.sha256(server.content).hexdigest()
    assert (cache_dir() / f'{FILE}.sha256').read_text() == f'{sha256}  {FILE}\n'
    server.status = 500
    assert_usable(ADDRESS)
    model = DSNet('tiny')
    load_checkpoint(model, ADDRESS, strict=True)
    assert torch.equal(model.state_dict()[WEIGHT], published()['patch_embed1.proj.weight'])
    assert len(server.requests) == 1


def test_an_address_is_a_checkpoint_to_evaluate(server):
    checkpoint = read_checkpoint(ADDRESS)
    weight = checkpoint['state_dict'][f'backbone.{WEIGHT}']
    assert torch.equal(weight, published()['patch_embed1.proj.weight'])


def test_the_loader_reads_no_pickled_objects(server):
    local_file(ADDRESS)
    torch.save(dict(meta=dict(arch='tiny'), state_dict=Path('x')), cached_file('tiny'))
    with pytest.raises(UserError, match='is not the converted tiny model'):
        CheckpointLoader.load_checkpoint(ADDRESS)


@pytest.mark.parametrize(
    'address',
    ['dsnet://huge_in1k', 'dsnet://tiny', 'dsnet://tiny_in1k.pth', 'dsnet://../tiny_in1k'],
)
def test_an_unknown_address(server, address):
    with pytest.raises(UserError, match=r'is unknown; use one of dsnet://tiny_in1k, '):
        local_file(address)
    assert server.requests == []


@pytest.mark.parametrize('arch', ARCHS)
def test_without_a_connection_the_error_says_what_to_do(monkeypatch, tmp_path, arch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(UserError) as error:
        local_file(f'dsnet://{arch}_in1k')
    file = f'DSNet_{arch}_pretrained.pdparams'
    said = str(error.value)
    assert said.startswith(f'dsnet://{arch}_in1k is not available: http://127.0.0.1:9/{file} ')
    assert 'Connection refused' in said
    assert f'open {PADDLE_CLAS}/{file} in a browser' in said
    assert f'`dsnet-mm weights {arch} --from FILE`' in said
    assert MIRROR in said
    assert '\n' not in said
    assert names(cache_dir()) == []


def test_what_the_error_says_works(server, tmp_path):
    server.status = 500
    (tmp_path / 'browser').mkdir()
    (tmp_path / 'browser' / FILE).write_bytes(server.content)
    get_weights('tiny', source=tmp_path / 'browser' / FILE)
    assert_usable(ADDRESS)
    assert server.requests == []


def bad_contents():
    with pytest.MonkeyPatch.context() as patch:
        narrow_models(patch)
        arrays = paddle_arrays(published())
        whole = paddle_bytes(arrays)
        del arrays['norm.bias']
        return {
            'page': ('page of a web site', b'<html>log in first</html>'),
            'cut short': ('cut short', whole[: len(whole) // 2]),
            'nothing': ('has 0 bytes', b''),
            'tensor missing': ('missing: norm.bias', paddle_bytes(arrays)),
            'no alignment': (
                'has no inter-scale alignment',
                paddle_bytes(paddle_arrays(published(align=False))),
            ),
            'hostile': ('nothing of it was run', pickle.dumps({'norm.bias': Touch()})),
            'hostile, torch': ('nothing of it was run', torch_bytes({'model': Touch()})),
        }


class Touch:
    """Unpickles by making a file."""

    def __reduce__(self):
        return builtins.open, ('ran', 'w')


@pytest.mark.parametrize(('words', 'content'), bad_contents().values(), ids=bad_contents())
def test_wrong_content_is_refused_and_not_stored(server, words, content):
    server.content = content
    with pytest.raises(UserError, match=words) as error:
        local_file(ADDRESS)
    assert str(error.value).startswith(f'{ADDRESS} is not available: {server.url}/{FILE} ')
    assert names(cache_dir()) == []
    assert names('.') == []


def test_a_download_that_breaks_off_leaves_nothing(server):
    server.sends = 1000
    with pytest.raises(UserError, match='broke off after 1000 of .* --from FILE'):
        local_file(ADDRESS)
    assert names(cache_dir()) == []


def test_an_interrupted_download_leaves_nothing(server, monkeypatch):
    def interrupt(url, target):
        target.write_bytes(b'part')
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, 'download', interrupt)
    with pytest.raises(KeyboardInterrupt):
        local_file(ADDRESS)
    assert names(cache_dir()) == []


def use_address(results):
    try:
        results.put(str(local_file(ADDRESS)))
    except BaseException as error:
        results.put(error)
        raise


def test_two_processes_at_once_download_once(server):
    context = multiprocessing.get_context('fork')  # keeps the narrow model
    results = context.Queue()
    server.pause.clear()
    processes = [context.Process(target=use_address, args=(results,)) for _ in range(3)]
    for process in processes:
        process.start()
    timer = threading.Timer(1, server.pause.set)
    timer.start()
    assert [results.get(timeout=60) for _ in processes] == [str(cached_file('tiny'))] * 3
    for process in processes:
        process.join()
    timer.join()
    assert server.requests == [f'/{FILE}']
    assert names(cache_dir()) == [f'{FILE}.sha256', 'dsnet_tiny_in1k.pth']
    assert_usable(ADDRESS)


def test_processes_without_locks_do_not_harm_each_other(server, monkeypatch):
    def refuse(*_):
        raise OSError(37, 'No locks available')

    monkeypatch.setattr(cache.fcntl, 'flock', refuse)
    threads = [threading.Thread(target=local_file, args=(ADDRESS,)) for _ in range(3)]
    server.pause.clear()
    for thread in threads:
        thread.start()
    while len(server.requests) < 3:
        time.sleep(0.01)
    server.pause.set()
    for thread in threads:
        thread.join()
    assert names(cache_dir()) == [f'{FILE}.sha256', 'dsnet_tiny_in1k.pth']
    assert_usable(ADDRESS)


def test_a_later_file_is_compared_with_the_first(server, other, tmp_path):
    local_file(ADDRESS)
    before = cached_file('tiny').read_bytes()
    original, server.content = server.content, other
    with pytest.raises(UserError, match='not the file of the first download'):
        get_weights('tiny', force=True)
    (tmp_path / FILE).write_bytes(other)
    with pytest.raises(UserError, match='not the file of the first download'):
        get_weights('tiny', source=tmp_path / FILE, force=True)
    assert cached_file('tiny').read_bytes() == before
    cached_file('tiny').unlink()
    with pytest.raises(UserError, match='not the file of the first download'):
        local_file(ADDRESS)
    server.content = original
    assert_usable(ADDRESS)
    (cache_dir() / f'{FILE}.sha256').unlink()
    server.content = other
    get_weights('tiny', force=True)
    assert cached_file('tiny').read_bytes() != before


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'hello',
        torch_bytes({'meta': {'arch': 'small'}}),
        torch_bytes(torch.zeros(3)),
        torch_bytes(torch.zeros(3, device='meta')),
        torch_bytes([1]),
    ],
)
def test_something_else_at_the_place_of_the_checkpoint(server, content):
    for path, use in (
        (cached_file('tiny'), lambda: local_file(ADDRESS)),
        (Path('out.pth'), lambda: get_weights('tiny', out='out.pth')),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        with pytest.raises(UserError, match='is not the converted tiny model; .* --force'):
            use()
        assert path.read_bytes() == content
    assert server.requests == []
    get_weights('tiny', force=True)
    assert_usable(ADDRESS)


@pytest.mark.parametrize('place', ['home', 'home/hub/checkpoints'])
def test_a_cache_that_cannot_be_written(server, tmp_path, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text('a file in the way')
    with pytest.raises(UserError, match='cannot be read or written .* set TORCH_HOME'):
        local_file(ADDRESS)


def test_a_record_that_is_a_folder(server):
    local_file(ADDRESS)
    record = cache_dir() / f'{FILE}.sha256'
    record.unlink()
    record.mkdir()
    with pytest.raises(UserError, match=r'sha256 cannot be read or written \(Is a directory\)'):
        get_weights('tiny', force=True)


def config(**backbone):
    init_cfg = dict(type='Pretrained', checkpoint=ADDRESS)
    return Config(dict(model=dict(backbone=dict(type='DSNet', init_cfg=init_cfg)), **backbone))


def test_a_training_downloads_before_it_starts(server):
    cfg = config(load_from=ADDRESS)
    check_initial_weights(cfg)
    assert server.requests == [f'/{FILE}']
    assert torch.equal(
        read_load_from(cfg)[f'backbone.{WEIGHT}'], published()['patch_embed1.proj.weight']
    )


def test_a_training_without_a_connection_names_the_ways_out(server):
    server.status = 404
    with pytest.raises(UserError) as error:
        check_initial_weights(config(load_from=ADDRESS))
    assert str(error.value).startswith(f'model.backbone.init_cfg: {ADDRESS} is not available: the')
    assert str(error.value).endswith('init_cfg=None model.backbone.norm_eval=False load_from=None')
    assert len(server.requests) == 1
    with pytest.raises(
        UserError, match=f'^load_from: {ADDRESS} is not available: .*load_from=None'
    ):
        check_initial_weights(Config(dict(load_from=ADDRESS)))


# What `dsnet-mm weights` calls


def test_weights_are_downloaded_ahead_of_time(server):
    said = get_weights('tiny').report()
    assert f"init_cfg=dict(type='Pretrained', checkpoint='{ADDRESS}')" in said
    assert 'matched   182 of 182 tensors' in said
    assert str(cached_file('tiny')) in said
    assert 'matched' not in get_weights('tiny').report()
    assert len(server.requests) == 1
    get_weights('tiny', force=True)
    assert len(server.requests) == 2
    assert_usable(ADDRESS)


def test_out_gets_a_copy_of_the_cached_weights(server):
    said = get_weights('tiny', out='here/out.pth').report()
    assert "checkpoint='here/out.pth'" in said
    assert_usable('here/out.pth')
    assert get_weights('tiny', out='here/out.pth').conversion is None
    Path('other.pth').write_bytes(b'mine')
    get_weights('tiny', out='other.pth', force=True)
    assert_usable('other.pth')
    assert len(server.requests) == 1


def test_another_address(server, monkeypatch):
    monkeypatch.setenv(MIRROR, 'http://127.0.0.1:9')
    get_weights('tiny', url=f'{server.url}/another.name')
    assert server.requests == ['/another.name']
    assert_usable(ADDRESS)


@pytest.mark.parametrize('pack', [torch_bytes, lambda x: paddle_bytes(paddle_arrays(x))])
def test_a_local_file(server, pack):
    Path('mine').write_bytes(pack(published()))
    said = get_weights(source='mine', out='here/out.pth').report()
    assert "the backbone with arch='tiny'" in said
    assert_usable('here/out.pth')
    with pytest.raises(UserError, match='already'):
        get_weights('tiny', source='mine', out='here/out.pth')
    get_weights('tiny', source='mine', out='here/out.pth', force=True)
    with pytest.raises(UserError, match='yours cannot be read'):
        get_weights('tiny', source='yours', out='b.pth')
    with pytest.raises(UserError, match='mine does not fit'):
        get_weights('small', source='mine', out='b.pth')
    assert names(cache_dir()) == []
    get_weights('tiny', source='mine')
    with pytest.raises(UserError, match='already'):
        get_weights('tiny', source='mine')
    assert_usable(ADDRESS)
    assert server.requests == []


def test_the_average_of_a_local_file(server):
    shifted = {name: x + 1 for name, x in published().items()}
    Path('mine').write_bytes(torch_bytes(dict(model=shifted, model_ema=published())))
    assert 'pass --ema' in get_weights(source='mine', out='model.pth').report()
    assert 'pass --ema' not in get_weights(source='mine', out='out.pth', ema=True).report()
    assert_usable('out.pth')


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(), 'pass tiny, small, base, or convert a file by --from FILE --out FILE'),
        (dict(source='mine'), 'pass tiny, small, base, or convert'),
        (dict(arch='tiny', ema=True), '--ema requires --from FILE'),
        (dict(arch='tiny', source='mine', url='http://a'), 'exclude each other'),
    ],
)
def test_options_that_do_not_go_together(server, options, words):
    with pytest.raises(UserError, match=words):
        get_weights(**options)
    assert server.requests == []


def test_safetensors_without_the_package(server, monkeypatch):
    monkeypatch.setattr(safetensors_format, 'find_spec', lambda _: None)
    with pytest.raises(UserError, match='out.safetensors requires .*`pip install safetensors`'):
        get_weights('tiny', out='out.safetensors')
    Path('out.safetensors').touch()
    with pytest.raises(UserError, match='requires the package safetensors'):
        CheckpointLoader.load_checkpoint('out.safetensors')
    assert server.requests == []


@pytest.mark.parametrize('from_file', [True, False])
def test_safetensors(server, from_file):
    pytest.importorskip('safetensors')
    Path('mine').write_bytes(server.content)
    options = dict(source='mine') if from_file else {}
    said = get_weights('tiny', out='out.safetensors', **options).report()
    assert "checkpoint='out.safetensors'" in said
    assert_usable('out.safetensors')
    get_weights('tiny', out='out.pth', **options)
    expected = torch.load('out.pth', weights_only=True)
    for path in ('out.safetensors', str(Path('out.safetensors').resolve())):
        stored = CheckpointLoader.load_checkpoint(path, 'cpu')
        assert stored['state_dict'].keys() == expected['state_dict'].keys()
        assert all(
            torch.equal(x, expected['state_dict'][n]) for n, x in stored['state_dict'].items()
        )
        assert stored['meta'] | {'date': ''} == expected['meta'] | {'date': ''}
    if not from_file:
        assert get_weights('tiny', out='out.safetensors').conversion is None
    assert (
        read_load_from(Config(dict(load_from='out.safetensors'))).keys()
        == stored['state_dict'].keys()
    )
    wrong = DSNet('small', init_cfg=dict(type='Pretrained', checkpoint='out.safetensors'))
    with pytest.raises(UserError, match='out.safetensors does not fit .*missing'):
        wrong.init_weights()
    content = Path('out.safetensors').read_bytes()
    for damaged in (content[:-1000], b'', b'hello', b'\xff' * 1000):
        Path('out.safetensors').write_bytes(damaged)
        with pytest.raises(UserError, match='is not a whole .safetensors file'):
            CheckpointLoader.load_checkpoint('out.safetensors')
    Path('out.safetensors').unlink()
    with pytest.raises(UserError, match='does not exist'):
        assert_usable('out.safetensors')
