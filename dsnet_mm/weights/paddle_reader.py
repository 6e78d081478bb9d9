"""Reading a ``.pdparams``, a pickle of numpy arrays, without Paddle and without running any of it.

A pickle is a program. This reader knows the few instructions that build arrays, strings, numbers,
tuples and dicts, and it replaces the functions that such a pickle names by its own. All else is
refused before it happens.
"""

from __future__ import annotations

import io
import pickle
import re
from typing import Any

import numpy as np

from dsnet_mm.errors import UserError

from .fit import printable

INSTRUCTIONS = (
    'PROTO FRAME STOP MARK MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET '
    'GLOBAL STACK_GLOBAL REDUCE NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 '
    'UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 '
    'EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT'
).split()


class RefusedError(pickle.UnpicklingError):
    """The pickle asks for something that no weight file needs."""


class PickledDtype:
    """Stands for ``numpy.dtype`` while a pickle is read; numbers only."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r'[fiub][1248]', code):
            raise RefusedError(f'arrays of the type {printable(code)}')
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class PickledArray:
    """Stands for ``numpy.ndarray`` while a pickle is read; its numbers are the pickle's bytes."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        flat = np.frombuffer(content, dtype.value)
        self.value = flat.reshape(shape, order='F' if fortran else 'C')


def empty_array(*_: Any) -> PickledArray:
    """Stand for numpy's ``_reconstruct``, whose arguments only describe an empty array."""
    return PickledArray()


def empty_dict(*_: Any) -> dict:
    """Stand for ``OrderedDict``; its entries follow."""
    return {}


class ArrayUnpickler(pickle._Unpickler):
    """Unpickles dicts of numpy arrays and nothing else.

    It extends the unpickler written in Python: its instructions can be taken away one by one,
    and a false memo index cannot make it allocate memory, as it can the one written in C.
    """

    dispatch = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in INSTRUCTIONS
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.text_left = len(content)  # so that one long text is not encoded again and again
        self.globals = {
            'numpy.core.multiarray._reconstruct': empty_array,  # numpy < 2
            'numpy._core.multiarray._reconstruct': empty_array,
            'numpy.ndarray': PickledArray,
            'numpy.dtype': PickledDtype,
            '_codecs.encode': self.encode,  # bytes, in the pickle protocols below 3
            'collections.OrderedDict': empty_dict,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Look up a name of the pickle among the few that are admitted."""
        path = f'{module}.{name}'
        if path not in self.globals:
            raise RefusedError(printable(path))
        return self.globals[path]

    def encode(self, text: str, encoding: str) -> bytes:
        """Stand for ``codecs.encode``, for the one encoding that pickles of bytes use."""
        self.text_left -= len(text)
        if encoding != 'latin1' or self.text_left < 0:
            raise RefusedError('much text, or text in another encoding than latin1')
        return text.encode('latin1')

    def store(self, items: list[Any]) -> None:
        """Put names and entries, alternating, into a dict."""
        if not isinstance(self.stack[-1], dict):
            raise RefusedError(f'entries of a {type(self.stack[-1]).__name__}')
        for name, entry in zip(items[::2], items[1::2]):
            if not isinstance(name, str):
                raise RefusedError(f'an entry named by a {type(name).__name__}')
            self.stack[-1][name] = entry

    def set_item(self) -> None:
        """Put one entry into a dict."""
        entry, name = self.stack.pop(), self.stack.pop()
        self.store([name, entry])

    def set_items(self) -> None:
        """Put many entries into a dict."""
        self.store(self.pop_mark())

    def build(self) -> None:
        """Give an array or its type its state; nothing else has any."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (PickledArray, PickledDtype)):
            raise RefusedError(f'a state for {type(self.stack[-1]).__name__}')
        self.stack[-1].__setstate__(state)

    dispatch.update(
        {pickle.SETITEM[0]: set_item, pickle.SETITEMS[0]: set_items, pickle.BUILD[0]: build}
    )


def read_arrays(content: bytes, where: str) -> dict[str, Any]:
    """Unpickle a dict of numpy arrays.

    Args:
        content: A pickle.
        where: Its name, for errors.

    Returns:
        The dict, of :class:`PickledArray` and whatever plain values it holds.

    Raises:
        UserError: If the pickle asks for anything else, is damaged, or is not of a dict.
    """
    try:
        pickled = ArrayUnpickler(content).load()
    except RefusedError as error:
        raise UserError(
            f'{where} is refused, for it asks for {error} where a weight file needs numbers only; '
            'nothing of it was run'
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(
            f'{where} cannot be read as a PaddlePaddle file: it is damaged, cut short, or made '
            'for something else; fetch it again'
        ) from error
    if not isinstance(pickled, dict):
        raise UserError(
            f'{where} holds a {type(pickled).__name__} where a PaddlePaddle weight '
            'file holds a dict of arrays; fetch it again'
        )
    return pickled
