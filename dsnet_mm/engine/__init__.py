from .faults import StopAtNaNHook
from .fresh_metrics_hook import FreshMetricsHook
from .safe_checkpoint_hook import SafeCheckpointHook

__all__ = ['FreshMetricsHook', 'SafeCheckpointHook', 'StopAtNaNHook']
