_base_ = ['_base_/upernet_swin_t.py', '_base_/ade20k.py', '_base_/upernet_160k_adamw.py']
