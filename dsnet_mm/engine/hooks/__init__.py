from .check_classes import CheckClassesHook
from .drop_old_metrics import DropOldMetricsHook
from .record_run import RecordRunHook
from .safe_checkpoint import SafeCheckpointHook
from .show_classes import ShowClassesHook
from .steady_norms import SteadyNormsHook
from .stop_at_nan import NotFiniteError, StopAtNaNHook
from .warn_at_resume import WarnAtResumeHook

__all__ = [
    'CheckClassesHook',
    'DropOldMetricsHook',
    'NotFiniteError',
    'RecordRunHook',
    'SafeCheckpointHook',
    'ShowClassesHook',
    'SteadyNormsHook',
    'StopAtNaNHook',
    'WarnAtResumeHook',
]
