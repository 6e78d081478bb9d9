_base_ = ['_base_/sem_fpn_dsnet_t.py', '_base_/ade20k.py', '_base_/sem_fpn_80k_adamw.py']
