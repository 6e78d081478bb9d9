# Stochastic depth 0.1 and BatchNorm in eval mode, as in the detectors, by decision of this project.
dsnet_t = dict(
    _delete_=True,
    type='DSNet',
    arch='tiny',
    init_cfg=dict(type='Pretrained', checkpoint='dsnet://tiny_in1k'),
)
