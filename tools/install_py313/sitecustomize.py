"""Let mmcv 2.1's setup.py run on Python 3.13 and later: there, exec() no longer fills locals()."""

import builtins
import sys

_exec = builtins.exec


def _exec_into_caller(source, /, globals=None, locals=None, **closure):
    if globals is not None or locals is not None:
        return _exec(source, globals, locals, **closure)
    caller = sys._getframe(1)
    names = {}
    _exec(source, caller.f_globals, names, **closure)
    caller.f_locals.update(names)


builtins.exec = _exec_into_caller
