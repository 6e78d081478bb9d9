"""Translate this project's tensor names into the published ones.

The tables have one direction. The model determines which tensors a file must hold, therefore no
tensor can be missing or left over unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable

# layer inside a block: ours -> published
BLOCK_LAYERS = {
    'pos_embed': 'pos_embed',
    'norm1': 'norm1',
    'in_proj': 'conv1',
    'local_prop.norm': 'norm_conv1',
    'local_prop.conv': 'conv',
    'global_prop.norm': 'norm_sa1',
    'global_prop.qkv': 'channel_up',
    'alignment.norm_local': 'norm_conv2',
    'alignment.norm_global': 'norm_sa2',
    'alignment.qkv_local': 'cross_channel_up_conv',
    'alignment.qkv_global': 'cross_channel_up_sa',
    'alignment.proj_local': 'fuse_channel_conv',
    'alignment.proj_global': 'fuse_channel_sa',
    'out_proj': 'conv2',
    'norm2': 'norm2',
    'ffn.fc1': 'mlp.fc1',
    'ffn.fc2': 'mlp.fc2',
}
CLASSIFIER_LAYERS = {'neck.norm': 'norm', 'head.fc': 'head'}
# names that differ between PyTorch and PaddlePaddle
PADDLE_BUFFERS = {'running_mean': '_mean', 'running_var': '_variance'}


def published_name(name: str) -> str:
    """Translate a name of the classifier, such as ``backbone.stages.0.blocks.1.norm1.bias``.

    Returns:
        The name in SteveTsui/DS-Net, such as ``blocks1.1.norm1.bias``.
    """
    layer, leaf = name.rsplit('.', 1)
    if layer in CLASSIFIER_LAYERS:
        return f'{CLASSIFIER_LAYERS[layer]}.{leaf}'
    _, _, stage, part, *inner = layer.split('.')
    number = int(stage) + 1
    if part == 'patch_embed':
        return f'patch_embed{number}.proj.{leaf}'
    block, *inner = inner
    return f'blocks{number}.{block}.{BLOCK_LAYERS[".".join(inner)]}.{leaf}'


def paddle_name(name: str) -> str:
    """Translate a name of the classifier into the name in PaddleClas."""
    layer, leaf = published_name(name).rsplit('.', 1)
    return f'{layer}.{PADDLE_BUFFERS.get(leaf, leaf)}'


def glnet_name(name: str) -> str:
    """Translate a name of a GLNet classifier into the name in rayleizhu/GLMix."""
    layer, leaf = name.rsplit('.', 1)
    if layer in CLASSIFIER_LAYERS:
        return f'{CLASSIFIER_LAYERS[layer]}.{leaf}'
    return name.removeprefix('backbone.')


def count_blocks(blocks: str, published: Iterable[str]) -> list[int]:
    """Count the blocks of each of four stages among published names.

    Args:
        blocks: Names of the four stages, such as ``blocks1. blocks2. blocks3. blocks4.``, which
            precede the number of a block.
        published: The names.
    """
    names = list(published)
    return [
        len({name.removeprefix(stage).split('.')[0] for name in names if name.startswith(stage)})
        for stage in blocks.split()
    ]
