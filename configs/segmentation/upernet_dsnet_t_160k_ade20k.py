_base_ = ['_base_/upernet_dsnet_t.py', '_base_/ade20k.py', '_base_/upernet_160k_adamw.py']
