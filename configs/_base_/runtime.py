# Settings of all configs, apart from model, data and schedule.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['dsnet_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='StopAtNaNHook')]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
