# Settings of all configs, apart from model, data and schedule.
_base_ = ['mmdet::_base_/default_runtime.py', './plugin.py']

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
