"""The index that OpenMMLab's tools read."""

import re

import modelindex
import yaml

from dsnet_mm.comparison.suites import BASELINES, SUITES
from helpers.paths import ROOT


def test_the_index_names_every_config_and_claims_nothing_unmeasured():
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    models = index.models.models if hasattr(index.models, 'models') else index.models
    named = {model.config for model in models}
    assert named == {f'configs/{path.name}' for path in (ROOT / 'configs').glob('*_coco.py')}
    assert {model.name for model in models} == {config[8:-3] for config in named}
    for model in models:
        # results are for weights that can be fetched, and none are trained here yet
        assert not model.results
        assert not model.weights
        assert model.metadata.data['Measured here'] == 'not measured'
        epochs = re.search('_(1x|3x|12e|50e)_', model.name)[1]
        assert f'{model.metadata.data["Epochs"]}e' == {'1x': '12e', '3x': '36e'}.get(epochs, epochs)


def test_published_figures_have_a_source():
    models = yaml.safe_load((ROOT / 'configs' / 'metafile.yml').read_text())['Models']
    published = {model['Name']: model['Metadata']['Published'] for model in models}
    assert published['mask_rcnn_r50_fpn_1x_coco'] == 'mmdet: box AP 38.2, mask AP 34.7'
    for entry in SUITES['coco']().entries:  # what tools/compare.py puts beside the measured ones
        text, known = published[entry.label], entry.published
        if known is None:
            assert text == 'none known'
            continue
        source, figures = text.split(': ')
        assert source.split(',')[0] in ('the paper', 'mmdet', 'a third party', 'Swin')
        if 'ResNet-50 +' not in figures:
            assert f'box AP {known.box}' in figures
        assert known.mask is None or f'mask AP {known.mask}' in figures


def test_models_of_others_are_in_a_collection_of_their_own():
    models = yaml.safe_load((ROOT / 'configs' / 'metafile.yml').read_text())['Models']
    collection = {model['Name']: model['In Collection'] for model in models}
    for entry in SUITES['coco']().entries:
        ours = entry.model not in BASELINES or entry.neck != 'FPN'
        name = 'GLNet' if entry.model.startswith('GLNet') else 'DS-Net'
        assert collection[entry.label] == (name if ours else 'Baselines of DS-Net')
