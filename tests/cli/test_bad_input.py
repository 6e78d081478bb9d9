"""Test bad input to every command: one sentence, an exit status other than 0, no files written."""

from __future__ import annotations

import gc
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helpers.commands import dsnet_mm_ends
from helpers.paths import ROOT

CONFIG = ROOT / 'configs' / 'retinanet_dsnet_t_fpn_1x_coco.py'
DEMO = ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py'
CLASSIFIER = ROOT / 'configs' / 'pretrain' / 'dsnet_t_in1k.py'
HALF = b'half a file'

# subcommand and arguments (SHAPES is a complete dataset), and words of the message
CASES = """
train none.py | none.py is not a file; pass the path
train folder | folder is not a file; pass the path
train syntax.py | syntax.py cannot be read as a config
train orphan.py | orphan.py cannot be read as a config: [Errno 2] No such file
train picture.png | picture.png cannot be read as a config
train CONFIG --data-root folder | instances_train2017.json is missing
train CONFIG --data-root text.txt | text.txt/annotations/instances_train2017.json is missing
train CONFIG --data-root SHAPES | dsnet-mm weights tiny --from FILE
train DEMO --data-root SHAPES --amp | --amp needs a GPU
train unscaled.py --data-root SHAPES --auto-scale-lr | set auto_scale_lr=
train DEMO --data-root SHAPES --resume none.pth | none.pth is not a file
train DEMO --data-root SHAPES --resume text.txt | text.txt is damaged
train DEMO --data-root SHAPES --resume list.pth | list.pth has no state_dict
train DEMO --data-root SHAPES --launcher mine | choose from
train DEMO --cfg-options lr | --cfg-options: lr lacks a value; write KEY=VALUE
train DEMO --cfg-options a.b=dict(c=1) | has a dict as value; set its entries one by one
train DEMO --cfg-options a.b=[{'c':1}] | has a dict as value; set its entries one by one
train DEMO --cfg-options a.b={'c':1} | has a dict as value; set its entries one by one, such as a.b.
train DEMO --cfg-options param_scheduler.9.end=1 | param_scheduler.9.end=1 does not fit
train DEMO --cfg-options train_pipeline=[(1,2 | cannot be parsed (Imbalanced
train DEMO --data-root SHAPES --cfg-options model.backbone=x | set the type in model.backbone
train DEMO --data-root SHAPES --cfg-options load_from=none.pth | is missing; correct the path
train DEMO --data-root SHAPES --cfg-options load_from=text.txt | text.txt is damaged
train DEMO --data-root SHAPES --cfg-options load_from=list.pth | list.pth holds no named tensors
train DEMO --data-root SHAPES --work-dir text.txt | text.txt is not writable (a file has its name
train DEMO --data-root SHAPES --work-dir text.txt/a/b | or pass another folder as --work-dir
test DEMO other.pth --data-root SHAPES --work-dir text.txt | another folder as --work-dir
test DEMO other.pth --data-root SHAPES --out text.txt/x.pkl | text.txt is not a folder; choose
test DEMO none.pth --data-root SHAPES | none.pth is not a file
test DEMO text.txt --data-root SHAPES | text.txt is damaged
test DEMO list.pth --data-root SHAPES | list.pth has no state_dict
test DEMO other.pth --data-root folder | instances_val2017.json is missing
test DEMO other.pth --data-root SHAPES --out x.json | --out x.json must end in .pkl
test DEMO other.pth --data-root SHAPES --out full.pkl | full.pkl already exists; choose another
test DEMO other.pth --data-root SHAPES --out full --force | full is a folder; choose a file
test DEMO other.pth --data-root SHAPES --show-dir full | full already holds files; pass another
test DEMO other.pth --data-root SHAPES --show-dir text.txt | text.txt is not a folder; choose
test CLASSIFIER other.pth --fuse | --fuse does not work with the EMAHook
test DEMO | needs a checkpoint; pass CONFIG CHECKPOINT, or a graph: GRAPH.onnx
test DEMO other.pth --runtime openvino | is a config; omit --runtime
test half.onnx other.pth | the graph half.onnx contains its weights; omit the checkpoint other.pth
test half.onnx --ann coco.json | half.onnx names no dataset; pass --ann FILE and --images DIR
test half.onnx --show-dir new | --show-dir is for a config, but half.onnx is a graph
test half.onnx --precision bf16 | --precision is for a config, but half.onnx is a graph; omit
weights --from none.pth --out out.pth | none.pth cannot be read; pass the path
weights --from folder --out out.pth | folder is not a file; pass the path
weights --from text.txt --out out.pth | text.txt is neither a PyTorch nor a PaddlePaddle
weights --from list.pth --out out.pth | list.pth holds a list, and
weights --from other.pth --out out.pth | other.pth holds no tensors with the published
weights --from other.pth --out text.txt | text.txt already exists; choose another
weights --from other.pth --out folder | folder is a folder; choose a file
weights --from other.pth --out other.pth --force | other.pth is the source itself
weights huge --from other.pth --out out.pth | choose from
weights huge | choose from
weights tiny --from none.pdparams | none.pdparams cannot be read
weights tiny --url ftp://a/b | ftp://a/b does not begin with
weights tiny --out text.txt | text.txt already exists and is not the converted
info none.py | none.py is not a file; pass the path
info syntax.py | syntax.py cannot be read as a config
info DEMO --size 0 5 | --size: 0 must be at least 1
info DEMO --size 64 64 --write text.txt | text.txt lacks the comments of the model table; add
info DEMO --size 64 64 --write none.md | none.md cannot be read (
info CLASSIFIER --size 64 64 --memory | ImageClassifier is not a detector, so only its backbone
benchmark CLASSIFIER --part train --sizes 64x64 | with --part backbone
benchmark none | none is unknown; pass the path of a config
benchmark dsnet_t --sizes large | large is not an image size; write HEIGHTxWIDTH
benchmark dsnet_t --sizes 0x5 | 0x5 is not an image size
benchmark dsnet_t --batches 0 | --batches: 0 must be at least 1
benchmark dsnet_t --rounds 0 | --rounds: 0 must be at least 1
benchmark dsnet_t --dtype int8 | choose from
benchmark dsnet_t --device cuda | this machine has no device cuda; pass --device cpu
benchmark dsnet_t --plot picture.png | picture.png already exists; choose another
benchmark dsnet_t --json folder --force | folder is a folder; choose a file
benchmark dsnet_t --markdown text.txt | text.txt already exists; choose another
benchmark dsnet_t --plot x.docx | --plot: x.docx must end in .png or .svg
predict DEMO other.pth none.jpg | none.jpg does not exist; pass an image
predict DEMO other.pth text.txt | text.txt is not supported; pass an image
predict DEMO other.pth folder | folder contains no images; pass
predict DEMO other.pth half.mp4 | half.mp4 cannot be read as a video
predict DEMO other.pth empty.avi | empty.avi is a video without frames; encode it again
predict DEMO other.pth picture.png --score 2 | --score 2.0 must be between 0 and 1
predict DEMO other.pth picture.png --out full | full already holds files; pass another folder
predict DEMO other.pth picture.png --out text.txt | text.txt is not a folder; choose another
predict DEMO other.pth picture.png --out text.txt --force | text.txt is not a folder
predict DEMO other.pth picture.png --out text.txt/x | cannot be created: text.txt is not a folder
predict DEMO other.pth drawn/pictures --out drawn --force | contains only earlier drawings; choose
predict DEMO other.pth picture.png --device tpu | has no device tpu; pass --device cpu
predict DEMO none.pth picture.png | none.pth is not a file
predict CLASSIFIER other.pth picture.png | is not the config of a detector
predict DEMO picture.png | pass CONFIG CHECKPOINT SOURCE, or a graph: GRAPH.onnx SOURCE
predict DEMO other.pth picture.png --runtime openvino | is a config; omit --runtime
predict half.onnx | required: source
predict half.onnx other.pth picture.png | half.onnx contains its weights; omit the checkpoint
predict half.onnx picture.png | half.onnx cannot be run by onnxruntime; export the model again
predict half.onnx picture.png --runtime mine | choose from
predict half.onnx picture.png --precision bf16 | --precision is for a config, but half.onnx is
predict half.onnx picture.png --cfg-options a=1 | --cfg-options is for a config, but half.onnx is
predict DEMO other.pth picture.png --precision int8 | choose from
predict none.onnx picture.png | none.onnx is not a file; pass a graph
app none.py other.pth --port 0 | none.py is not a file; pass the path
app DEMO none.pth --port 0 | none.pth is not a file
app CLASSIFIER other.pth --port 0 | is not the config of a detector
app DEMO other.pth --port 0 --device tpu | has no device tpu; pass --device cpu
app DEMO other.pth --port 0 --score 2 | --score 2.0 must be between 0.05 and 1
app DEMO other.pth --port USED | cannot be used ([Errno 98] Address already in use
app DEMO other.pth --port 70000 | cannot be used (
app DEMO other.pth --host 203.0.113.1 | pass another --host or --port
streams DEMO other.pth none.jpg | none.jpg does not exist
streams DEMO other.pth half.png | half.png cannot be read as an image
streams DEMO other.pth empty.png | empty.png cannot be read as an image; remove
streams DEMO other.pth folder.png | folder.png is a folder; pass an image
streams DEMO other.pth picture.png --at 999 0 | --at 999 0 is outside picture.png; pass X below 60
streams DEMO other.pth picture.png --out x.txt | --out: x.txt must end in .png or .svg
streams DEMO other.pth picture.png --out text.txt/x.png | text.txt is not a folder
streams DEMO other.pth picture.png --out folder.png --force | folder.png is a folder; choose
streams DEMO other.pth picture.png --out picture.png | picture.png already exists
export none.py out.onnx | none.py is not a file; pass the path
export syntax.py out.onnx | syntax.py cannot be read as a config
export CONFIG other.pth | the graph other.pth must end in .onnx
export CONFIG none.pth out.onnx | none.pth is not a file
export CONFIG other.pth out.onnx | other.pth does not fit the model
export CONFIG out.onnx --size 320 | --size: 320 is not an image size
export CONFIG out.onnx --size 0x320 | --size: 0x320 is not an image size
export DEMO text.txt/out.onnx | text.txt is not a folder; choose another
compare --suite mine | choose from
compare --only nothing | no config of the suite shapes matches nothing; choose
compare --seeds 0 | --seeds: 0 must be at least 1
compare --work-dirs text.txt | cannot be created: text.txt is not a folder; choose another
compare --work-dirs folder | folder contains no finished run of the suite shapes
compare --work-dirs folder --out text.txt | text.txt is not a folder; choose another
compare --work-dirs text.txt --out folder --run | text.txt is not a folder; choose another
check-data none.json folder | none.json cannot be read (No such file
check-data half.json folder | half.json is not valid JSON
check-data list.json folder | list.json contains a list, but
check-data coco.json none | none is not a folder; pass the folder to which
check-data coco.json folder --draw full | another folder as --draw
check-data coco.json folder --draw text.txt/x | cannot be created: text.txt is not a folder
check-data none.json folder --draw new | none.json cannot be read (No such file
check-data coco.json folder --config none.py | none.py is not a file; pass the path
convert-data voc none out | none is not a folder; pass the folder of the dataset
convert-data voc folder out | folder contains no XML file; pass
convert-data yolo folder out | folder contains 0 images but no text file
convert-data voc folder out --val 2 | --val is 2 but must be at least 0
convert-data coco folder out | folder is not a file; pass an annotation file
convert-data coco coco.json out | is in COCO format already; pass --val
convert-data coco coco.json out --val 0.2 --skip | omit --classes and --skip
convert-data coco list.json out --val 0.2 | has no list 'images' of objects
convert-data coco half.json out --val 0.2 | half.json is not valid JSON
convert-data voc folder out --images folder | --images is for the format coco
convert-data mine folder out | choose from
shapes --root out --size 1 | --size is 1 but must be at least 32
shapes --root out --train -1 | --train is -1 but must be at least 1
shapes --root foreign | foreign is not a folder of synthetic shapes; choose
shapes --root text.txt | cannot write text.txt (Not a directory); choose
demo --work-dir text.txt --data-root out | another folder as --work-dir
demo --work-dir out --data-root out --epochs 0 | --epochs: 0 must be at least 1
demo --work-dir out --data-root out --train 0 | --train: 0 must be at least 1
"""


def cases():
    for line in CASES.strip().splitlines():
        command, words = line.split(' | ')
        yield pytest.param(command.split(), words.strip(), id=' '.join(command.split()))


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> Path:
    """Return a folder with unusable files of all kinds."""
    place = tmp_path_factory.mktemp('place')
    (place / 'folder').mkdir()
    (place / 'full').mkdir()
    (place / 'full' / 'mine.txt').write_text('mine')
    (place / 'foreign' / 'annotations').mkdir(parents=True)
    (place / 'foreign' / 'annotations' / 'instances_train2017.json').write_text('{}')
    (place / 'text.txt').write_text('text')
    (place / 'syntax.py').write_text('model = dict(')
    (place / 'orphan.py').write_text("_base_ = './nowhere.py'")
    (place / 'unscaled.py').write_text(
        f'_base_ = {str(DEMO)!r}\nauto_scale_lr = dict(_delete_=True, enable=False)'
    )
    cv2.imwrite(str(place / 'picture.png'), np.full((40, 60, 3), 127, np.uint8))
    (place / 'drawn' / 'pictures').mkdir(parents=True)
    cv2.imwrite(str(place / 'drawn' / 'pictures' / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    (place / 'folder.png').mkdir()
    (place / 'empty.png').touch()
    code = cv2.VideoWriter_fourcc(*'MJPG')
    cv2.VideoWriter(str(place / 'empty.avi'), code, 10, (64, 48)).release()
    for name in ('half.mp4', 'half.png', 'half.json', 'half.onnx'):
        (place / name).write_bytes(HALF)
    (place / 'list.json').write_text('[]')
    images = [dict(id=1, file_name='picture.png', width=60, height=40)]
    boxes = [dict(id=1, image_id=1, category_id=1, bbox=[1, 2, 30, 20], area=600, iscrowd=0)]
    coco = dict(images=images, annotations=boxes, categories=[dict(id=1, name='cat')])
    (place / 'coco.json').write_text(json.dumps(coco))
    torch.save([1, 2], place / 'list.pth')
    torch.save({'state_dict': {'weight': torch.ones(1)}, 'meta': {}}, place / 'other.pth')
    (place / 'full.pkl').write_bytes(b'mine')
    return place


@pytest.fixture(scope='module')
def used_port() -> Iterator[int]:
    """Return a port that is in use."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        yield server.getsockname()[1]


def content(folder: Path) -> dict[str, bytes | None]:
    """Return all files and folders below a folder, with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob('*')
    }


@pytest.mark.parametrize(('command', 'words'), list(cases()))
def test_one_sentence(command, words, place, shapes_root, used_port, monkeypatch, capsys):
    if command[0] == 'app':
        pytest.importorskip('gradio', reason='needs the extra app')
    if torch.cuda.is_available() and ('--amp' in command or 'cuda' in command):
        pytest.skip('this machine has a GPU')
    names = dict(CONFIG=CONFIG, DEMO=DEMO, CLASSIFIER=CLASSIFIER, SHAPES=shapes_root,
                 USED=used_port)  # fmt: skip
    name, *arguments = (str(names.get(word, word)) for word in command)
    monkeypatch.chdir(place)
    before = content(place)
    code = dsnet_mm_ends(name, *arguments)
    assert content(place) == before
    printed = capsys.readouterr()
    assert code not in (0, None)
    # argparse prints the usage before the error
    sentence = (
        printed.err.strip().splitlines()[-1].removeprefix(f'dsnet-mm {name}: ')
        if code == 2
        else code
    )
    assert re.fullmatch(r'error: [^\n]+', sentence)
    assert words in sentence
    assert 'Traceback' not in printed.out + printed.err
    gc.collect()  # a progress bar that the error kept alive would end here
    assert capsys.readouterr().err == ''
