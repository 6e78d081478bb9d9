from .hooks import SafeCheckpointHook, SteadyNormsHook, StopAtNaNHook  # importing registers

__all__ = ['SafeCheckpointHook', 'SteadyNormsHook', 'StopAtNaNHook']
