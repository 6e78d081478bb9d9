_base_ = ['_base_/upernet_r50.py', '_base_/ade20k.py', '_base_/upernet_160k_sgd.py']
