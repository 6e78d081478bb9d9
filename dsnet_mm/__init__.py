"""DS-Net (Dual-stream Network for Visual Recognition) as an OpenMMLab plug-in."""

from .environment import configs_dir, register_modules, runs_own_command
from .threads import limit_spinning
from .version import __version__

limit_spinning()  # before PyTorch is imported
if not runs_own_command():  # which registers later, so that its help and `doctor` need no PyTorch
    register_modules()

__all__ = ['__version__', 'configs_dir', 'register_modules']
