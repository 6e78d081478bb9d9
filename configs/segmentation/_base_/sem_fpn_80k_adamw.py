# AdamW and 80,000 iterations, as the PVT paper trains Semantic FPN with PVT.
_base_ = './sem_fpn_80k_sgd.py'

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
    # As in the detectors of this project, no decay on norms and biases. PVT decays all weights.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)),  # Swin
    ),
)
