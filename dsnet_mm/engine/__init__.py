from .faults import StopAtNaNHook
from .fresh_metrics_hook import FreshMetricsHook
from .missing_classes_hook import MissingClassesHook
from .safe_checkpoint_hook import SafeCheckpointHook

__all__ = ['FreshMetricsHook', 'MissingClassesHook', 'SafeCheckpointHook', 'StopAtNaNHook']
