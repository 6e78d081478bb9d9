# What a config that inherits from one of mmdet needs of this project.
custom_imports = dict(imports=['dsnet_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='StopAtNaNHook')]
