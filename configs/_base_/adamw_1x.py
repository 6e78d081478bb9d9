# 12 epochs, steps at 8 and 11, warm-up over 500 iterations, batch 16 = 8 GPUs x 2 images.
# AdamW as the paper's peers use it: the paper's own recipe is not published.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
