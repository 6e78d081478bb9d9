# GLNet with its ImageNet-1k weights, which need a browser to download (docs/glnet.md). Its authors
# publish no detector. These are decisions of this project: a LayerNorm for each output, as in the
# author's BiFormer and in Swin, and BiFormer's stochastic depth for this width.
glnet_stl = dict(
    _delete_=True,
    type='GLNet',
    arch='stl',
    drop_path_rate=0.2,
    out_norm_cfg=dict(type='LN', eps=1e-6),
    init_cfg=dict(type='Pretrained', checkpoint='checkpoints/glnet_stl_in1k.pth'),
)
glnet_4g = dict(
    _delete_=True,
    type='GLNet',
    arch='4g',
    drop_path_rate=0.2,
    out_norm_cfg=dict(type='LN', eps=1e-6),
    init_cfg=dict(type='Pretrained', checkpoint='checkpoints/glnet_4g_in1k.pth'),
)
