"""Bad input to every tool: one sentence with the remedy, a status that is not 0, and no trace."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT

CONFIG = ROOT / 'configs' / 'retinanet_dsnet_t_fpn_1x_coco.py'
DEMO = ROOT / 'configs' / 'demo' / 'retinanet_dsnet_mini_shapes.py'
CLASSIFIER = ROOT / 'configs' / 'pretrain' / 'dsnet_t_in1k.py'
HALF = b'half a file'

# tool and what is typed behind it (SHAPES is a data set that is whole), and what is to be said
CASES = """
train.py none.py | none.py is not a file; pass the path
train.py folder | folder is not a file; pass the path
train.py syntax.py | syntax.py cannot be read as a config
train.py orphan.py | orphan.py cannot be read as a config: [Errno 2] No such file
train.py picture.png | picture.png cannot be read as a config
train.py CONFIG --data-root folder | instances_train2017.json is missing
train.py CONFIG --data-root text.txt | text.txt/annotations/instances_train2017.json is missing
train.py CONFIG --data-root SHAPES | tools/get_weights.py tiny
train.py DEMO --data-root SHAPES --amp | --amp needs a GPU
train.py unscaled.py --data-root SHAPES --auto-scale-lr | set auto_scale_lr=
train.py DEMO --data-root SHAPES --resume none.pth | none.pth is no file
train.py DEMO --data-root SHAPES --resume text.txt | text.txt is damaged
train.py DEMO --data-root SHAPES --resume list.pth | list.pth has no state_dict
train.py DEMO --data-root SHAPES --launcher mine | choose from
train.py DEMO --cfg-options lr | --cfg-options lr lacks a value; write KEY=VALUE
train.py DEMO --cfg-options param_scheduler.9.end=1 | param_scheduler.9.end=1 does not fit
train.py DEMO --cfg-options train_pipeline=[(1,2 | cannot be parsed; correct it
train.py DEMO --data-root SHAPES --cfg-options model.backbone=x | set the type in model.backbone
train.py DEMO --data-root SHAPES --cfg-options load_from=none.pth | is missing; correct its path
train.py DEMO --data-root SHAPES --cfg-options load_from=text.txt | text.txt is damaged
train.py DEMO --data-root SHAPES --cfg-options load_from=list.pth | list.pth holds no tensors by
train.py DEMO --data-root SHAPES --work-dir text.txt | text.txt is not writable (a file has its name
train.py DEMO --data-root SHAPES --work-dir text.txt/a/b | or pass another folder as --work-dir
test.py DEMO other.pth --data-root SHAPES --work-dir text.txt | another folder as --work-dir
test.py DEMO other.pth --data-root SHAPES --out text.txt/x.pkl | text.txt is not a folder; choose
test.py DEMO none.pth --data-root SHAPES | none.pth is no file
test.py DEMO text.txt --data-root SHAPES | text.txt is damaged
test.py DEMO list.pth --data-root SHAPES | list.pth has no state_dict
test.py DEMO other.pth --data-root folder | instances_val2017.json is missing
test.py DEMO other.pth --data-root SHAPES --out x.json | --out x.json must end in .pkl
test.py DEMO other.pth --data-root SHAPES --out full.pkl | full.pkl already exists; choose another
test.py DEMO other.pth --data-root SHAPES --out full --force | full is a folder; choose a file
test.py DEMO other.pth --data-root SHAPES --show-dir full | full already holds files; pass another
test.py DEMO other.pth --data-root SHAPES --show-dir text.txt | text.txt is not a folder; choose
test.py CLASSIFIER other.pth --fuse | --fuse does not work with the EMAHook
test.py DEMO | required: checkpoint
convert_weights.py none.pth out.pth | none.pth cannot be read, give the path
convert_weights.py folder out.pth | folder is not a file; give the path
convert_weights.py text.txt out.pth | text.txt is neither a PyTorch nor a PaddlePaddle
convert_weights.py list.pth out.pth | list.pth holds a list where
convert_weights.py other.pth out.pth | other.pth holds no tensors of a DS-Net
convert_weights.py other.pth text.txt | text.txt already exists; choose another
convert_weights.py other.pth folder | folder is a folder; choose a file
convert_weights.py other.pth other.pth --force | other.pth is the source itself
convert_weights.py other.pth out.pth --arch huge | choose from
get_weights.py huge | choose from
get_weights.py tiny --from none.pdparams | none.pdparams cannot be read
get_weights.py tiny --url ftp://a/b | ftp://a/b is no address that begins with
get_weights.py tiny --out text.txt | text.txt stands already and is not the converted
model_info.py none.py | none.py is not a file; pass the path
model_info.py syntax.py | syntax.py cannot be read as a config
model_info.py DEMO --size 0 5 | --size 0 5 must be at least one pixel
model_info.py DEMO --size 64 64 --write text.txt | text.txt has no place for the model table; add
model_info.py DEMO --size 64 64 --write none.md | none.md cannot be read
benchmark.py none | none is unknown; give the path of a config
benchmark.py dsnet_t --sizes large | large is no size; give HEIGHTxWIDTH
benchmark.py dsnet_t --sizes 0x5 | 1 image of 0x5 pixels cannot be measured
benchmark.py dsnet_t --batches 0 | 0 images of 800x1344 pixels cannot be measured
benchmark.py dsnet_t --rounds 0 | at least one candidate and one round
benchmark.py dsnet_t --dtype int8 | choose from
benchmark.py dsnet_t --device cuda | no GPU is found; use the device cpu
benchmark.py dsnet_t --plot picture.png | picture.png already exists; choose another
benchmark.py dsnet_t --json folder --force | folder is a folder; choose a file
benchmark.py dsnet_t --markdown text.txt | text.txt already exists; choose another
benchmark.py dsnet_t --plot x.docx | --plot x.docx must end in .png or .svg
predict.py DEMO other.pth none.jpg | none.jpg does not exist; give an image
predict.py DEMO other.pth text.txt | text.txt is neither an image
predict.py DEMO other.pth folder | folder holds no images
predict.py DEMO other.pth half.mp4 | half.mp4 cannot be read as a video
predict.py DEMO other.pth empty.avi | empty.avi is a video without frames; store it anew
predict.py DEMO other.pth picture.png --score 2 | --score 2.0 must be within 0 and 1
predict.py DEMO other.pth picture.png --out full | full already holds files; pass another folder
predict.py DEMO other.pth picture.png --out text.txt | text.txt is not a folder; choose another
predict.py DEMO other.pth picture.png --out text.txt --force | text.txt is not a folder
predict.py DEMO other.pth picture.png --out text.txt/x | cannot be created: text.txt is not a folder
predict.py DEMO other.pth drawn/pictures --out drawn --force | is where the pictures go; name
predict.py DEMO other.pth picture.png --device tpu | has no device tpu; pass --device cpu
predict.py DEMO none.pth picture.png | none.pth is no file
predict.py CLASSIFIER other.pth picture.png | is not the config of a detector
show_streams.py DEMO other.pth none.jpg | none.jpg does not exist
show_streams.py DEMO other.pth half.png | half.png cannot be read as an image
show_streams.py DEMO other.pth empty.png | empty.png cannot be read as an image; remove
show_streams.py DEMO other.pth folder.png | folder.png is a folder; give an image
show_streams.py DEMO other.pth picture.png --at 999 0 | --at 999 0 is outside of
show_streams.py DEMO other.pth picture.png --out x.txt | --out x.txt must end in .png or .svg
show_streams.py DEMO other.pth picture.png --out text.txt/x.png | text.txt is not a folder
show_streams.py DEMO other.pth picture.png --out folder.png --force | folder.png is a folder; choose
show_streams.py DEMO other.pth picture.png --out picture.png | picture.png already exists
export.py none.py out.onnx | none.py is not a file; pass the path
export.py syntax.py out.onnx | syntax.py cannot be read as a config
export.py CONFIG other.pth | the graph other.pth must end in .onnx
export.py CONFIG none.pth out.onnx | none.pth is no file
export.py CONFIG other.pth out.onnx | other.pth belongs to another model
export.py CONFIG out.onnx --size 320 | --size 320 is no size
export.py CONFIG out.onnx --size 0x320 | --size 0x320 is no size
export.py DEMO text.txt/out.onnx | text.txt is not a folder; choose another
compare.py --suite mine | choose from
compare.py --only nothing | no config of the suite shapes matches nothing; choose
compare.py --seeds 0 | --seeds 0 must be at least 1
compare.py --work-dirs text.txt | cannot be created: text.txt is not a folder; choose another
compare.py --work-dirs folder | none of these runs in folder is finished
compare.py --work-dirs folder --out text.txt | text.txt is not a folder; choose another
compare.py --work-dirs text.txt --out folder --run | text.txt is not a folder; choose another
check_data.py none.json folder | none.json cannot be read: No such file
check_data.py half.json folder | half.json is no JSON
check_data.py list.json folder | list.json holds a list, but
check_data.py coco.json none | none is no folder; give the one to which
check_data.py coco.json folder --draw full | another folder as --draw
check_data.py coco.json folder --draw text.txt/x | cannot be created: text.txt is not a folder
check_data.py none.json folder --draw new | none.json cannot be read: No such file
check_data.py coco.json folder --config none.py | none.py is not a file; pass the path
convert_data.py voc none out | none is no folder; give the folder of the set
convert_data.py voc folder out | folder has no XML file in it; give
convert_data.py yolo folder out | folder has 0 images but no text file
convert_data.py voc folder out --val 2 | --val is 2, but must be a share
convert_data.py coco folder out | choose from
make_shapes.py --root out --size 1 | --size is 1, but must be at least 32
make_shapes.py --root out --train -1 | --train is -1, but must be at least 1
make_shapes.py --root foreign | foreign holds other files than such a set; choose
make_shapes.py --root text.txt | cannot write text.txt: Not a directory; give
demo.py --work-dir text.txt --data-root out | another folder as --work-dir
demo.py --work-dir out --data-root out --epochs 0 | --epochs 0 must be at least 1
demo.py --work-dir out --data-root out --train 0 | --train 0 must be at least 1
"""


def cases():
    for line in CASES.strip().splitlines():
        command, words = line.split(' | ')
        yield pytest.param(command.split(), words.strip(), id=' '.join(command.split()))


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> Path:
    """A folder with files that are something else than they should be."""
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
    for name in ('half.mp4', 'half.png', 'half.json'):
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


def content(folder: Path) -> dict[str, bytes | None]:
    """All that lies below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob('*')
    }


@pytest.mark.parametrize(('command', 'words'), list(cases()))
def test_one_sentence(command, words, place, shapes_root, monkeypatch, capsys):
    if torch.cuda.is_available() and ('--amp' in command or 'cuda' in command):
        pytest.skip('a GPU is there')
    names = dict(CONFIG=CONFIG, DEMO=DEMO, CLASSIFIER=CLASSIFIER, SHAPES=shapes_root)
    tool, *arguments = (str(names.get(word, word)) for word in command)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    before = content(place)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    assert content(place) == before
    said = capsys.readouterr()
    code = stop.value.code
    assert code not in (0, None)
    # argparse tells the usage, then what is wrong
    sentence = said.err.strip().splitlines()[-1].removeprefix(f'{tool}: ') if code == 2 else code
    assert re.fullmatch(r'error: [^\n]+', sentence)
    assert words in sentence
    assert 'Traceback' not in said.out + said.err
