"""Parameter names of the published DS-Net and of this project's, which hold the same tensors."""
from __future__ import annotations

import re
from typing import Optional

# name inside a block: published -> ours
BLOCK_LAYERS = {
    'pos_embed': 'pos_embed',
    'norm1': 'norm1',
    'conv1': 'in_proj',
    'norm_conv1': 'local_prop.norm',
    'conv': 'local_prop.conv',
    'norm_sa1': 'global_prop.norm',
    'channel_up': 'global_prop.qkv',
    'norm_conv2': 'alignment.norm_local',
    'norm_sa2': 'alignment.norm_global',
    'cross_channel_up_conv': 'alignment.qkv_local',
    'cross_channel_up_sa': 'alignment.qkv_global',
    'fuse_channel_conv': 'alignment.proj_local',
    'fuse_channel_sa': 'alignment.proj_global',
    'conv2': 'out_proj',
    'norm2': 'norm2',
    'mlp.fc1': 'ffn.fc1',
    'mlp.fc2': 'ffn.fc2',
}


def rename(published: str) -> Optional[str]:
    """Translate the name of a published backbone tensor into this project's.

    Returns:
        The name within :class:`~dsnet_mm.models.DSNet`, or None if it is not of the backbone.
    """
    match = re.fullmatch(r'patch_embed(\d)\.proj\.(\w+)', published)
    if match:
        stage, leaf = match.groups()
        return f'stages.{int(stage) - 1}.patch_embed.proj.{leaf}'
    match = re.fullmatch(r'blocks(\d)\.(\d+)\.([\w.]+)\.(\w+)', published)
    if match and match.group(3) in BLOCK_LAYERS:
        stage, block, layer, leaf = match.groups()
        return f'stages.{int(stage) - 1}.blocks.{block}.{BLOCK_LAYERS[layer]}.{leaf}'
    return None
