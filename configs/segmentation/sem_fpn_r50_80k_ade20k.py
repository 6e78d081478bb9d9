_base_ = ['_base_/sem_fpn_r50.py', '_base_/ade20k.py', '_base_/sem_fpn_80k_sgd.py']
