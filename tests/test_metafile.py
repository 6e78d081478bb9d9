"""The index that OpenMMLab's tools read."""

import modelindex
import yaml
from conftest import ROOT

from dsnet_mm.comparison.suites import BASELINES, get_suite


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
        assert model.metadata.data['Epochs'] == (36 if '_3x_' in model.name else 12)


def test_published_figures_have_a_source():
    models = yaml.safe_load((ROOT / 'configs' / 'metafile.yml').read_text())['Models']
    published = {model['Name']: model['Metadata']['Published'] for model in models}
    assert published['mask_rcnn_r50_fpn_1x_coco'] == 'mmdet: box AP 38.2, mask AP 34.7'
    for entry in get_suite('coco').entries:  # what tools/compare.py puts beside the measured ones
        text, known = published[entry.label], entry.published
        if known is None:
            assert text == 'none known'
            continue
        source, figures = text.split(': ')
        assert source.split(',')[0] in ('the paper', 'mmdet', 'a third party')
        if 'ResNet-50 +' not in figures:
            assert f'box AP {known.box}' in figures
        assert known.mask is None or f'mask AP {known.mask}' in figures


def test_models_of_others_are_in_a_collection_of_their_own():
    models = yaml.safe_load((ROOT / 'configs' / 'metafile.yml').read_text())['Models']
    collection = {model['Name']: model['In Collection'] for model in models}
    for entry in get_suite('coco').entries:
        ours = entry.model not in BASELINES or entry.neck != 'FPN'
        assert collection[entry.label] == ('DS-Net' if ours else 'Baselines of DS-Net')
