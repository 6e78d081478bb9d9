# DS-Net-S with its ImageNet-1k weights. The norm per output, as in Swin, is a project decision.
dsnet_s = dict(
    _delete_=True,
    type='DSNet',
    arch='small',
    out_norm_cfg=dict(type='LN'),
    init_cfg=dict(type='Pretrained', checkpoint='dsnet://small_in1k'),
)
