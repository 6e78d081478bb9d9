"""Let `mmpretrain.get_model` find the classifiers of this project by name.

mmdet imports mmpretrain if mmpretrain is installed, so the registration adds no import.
"""

from __future__ import annotations

from dsnet_mm.environment import UnfitEnvironment, configs_dir


def register_classifiers() -> None:
    """Add the models of ``configs/pretrain/metafile.yml`` to the hub of an installed mmpretrain."""
    try:
        from mmpretrain.apis import ModelHub

        configs = configs_dir()
    except (ImportError, UnfitEnvironment):  # no mmpretrain, or a package without its configs
        return
    ModelHub.register_model_index(configs / 'pretrain' / 'metafile.yml', configs.parent)


register_classifiers()
