_base_ = ['_base_/sem_fpn_swin_t.py', '_base_/ade20k.py', '_base_/sem_fpn_80k_adamw.py']
