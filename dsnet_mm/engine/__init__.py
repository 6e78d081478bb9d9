from .faults import StopAtNaNHook
from .fresh_metrics_hook import FreshMetricsHook
from .missing_classes_hook import MissingClassesHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .start_warnings_hook import StartWarningsHook

__all__ = [
    'FreshMetricsHook',
    'MissingClassesHook',
    'SafeCheckpointHook',
    'StartWarningsHook',
    'StopAtNaNHook',
]
