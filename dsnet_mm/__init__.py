"""DS-Net (Dual-stream Network for Visual Recognition) as an OpenMMLab plug-in."""

import warnings

from .environment import check, configs_dir, is_report_run
from .threads import limit_spinning
from .version import __version__

limit_spinning()

# mmengine imports pkg_resources, whose notice comes many times over; the set-up pins its setuptools
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

if not is_report_run():
    # What does not fit is said before an import fails in words of its own.
    check()
    from . import engine, models  # noqa: F401  # importing registers
    from .weights import address  # noqa: F401  # registers dsnet://

__all__ = ['__version__', 'configs_dir']
