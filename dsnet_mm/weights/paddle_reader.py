"""Read a ``.pdparams``, a pickle of numpy arrays, without PaddlePaddle and without running it.

A pickle is a program. This reader knows only the instructions that build arrays, strings, numbers,
tuples and dicts. It replaces the functions that such a pickle names by its own, and it refuses
everything else before anything runs.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from dsnet_mm.errors import UserError, printable

INSTRUCTIONS = (
    'PROTO FRAME STOP MARK MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET '
    'GLOBAL STACK_GLOBAL REDUCE NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 '
    'UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 '
    'EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT'
).split()


class RefusedError(pickle.UnpicklingError):
    """The pickle asks for something that no weight file needs."""


class PickledDtype:
    """Replaces ``numpy.dtype`` while a pickle is read; accepts types of numbers only."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r'[fiub][1248]', code):
            raise RefusedError(f'arrays of the type {printable(code)}')
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class PickledArray:
    """Replaces ``numpy.ndarray`` while a pickle is read; its numbers are the pickle's bytes."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        flat = np.frombuffer(content, dtype.value)
        self.value = flat.reshape(shape, order='F' if fortran else 'C')


def empty_array(*_: Any) -> PickledArray:
    """Replace numpy's ``_reconstruct``, whose arguments only describe an empty array."""
    return PickledArray()


def empty_dict(*_: Any) -> dict:
    """Replace ``OrderedDict``; the pickle adds its entries later."""
    return {}


class ArrayUnpickler(pickle._Unpickler):
    """Unpickles dicts of numpy arrays and nothing else.

    The base is Python's unpickler written in Python: its instructions can be removed one by one.
    A forged memo index makes the one written in C allocate memory, but not this one.
    """

    stack: list[Any]  # the type hints of Python omit this and the next
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in INSTRUCTIONS
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.text_left = len(content)  # limit of what ``encode`` may produce
        self.globals = {
            'numpy.core.multiarray._reconstruct': empty_array,  # numpy < 2
            'numpy._core.multiarray._reconstruct': empty_array,
            'numpy.ndarray': PickledArray,
            'numpy.dtype': PickledDtype,
            '_codecs.encode': self.encode,  # bytes, in the pickle protocols below 3
            'collections.OrderedDict': empty_dict,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Look up a name of the pickle among the accepted ones."""
        path = f'{module}.{name}'
        if path not in self.globals:
            raise RefusedError(printable(path))
        return self.globals[path]

    def encode(self, text: str, encoding: str) -> bytes:
        """Replace ``codecs.encode``; accept only the encoding that pickles of bytes use."""
        self.text_left -= len(text)
        if encoding != 'latin1' or self.text_left < 0:
            raise RefusedError('much text, or text in another encoding than latin1')
        return text.encode('latin1')

    def store(self, items: list[Any]) -> None:
        """Put alternating names and entries into a dict."""
        if not isinstance(self.stack[-1], dict):
            raise RefusedError(f'entries of a {type(self.stack[-1]).__name__}')
        for name, entry in zip(items[::2], items[1::2]):
            if not isinstance(name, str):
                raise RefusedError(f'an entry named by a {type(name).__name__}')
            self.stack[-1][name] = entry

    def set_item(self) -> None:
        """Put one entry into a dict, as SETITEM does."""
        entry, name = self.stack.pop(), self.stack.pop()
        self.store([name, entry])

    def set_items(self) -> None:
        """Put many entries into a dict, as SETITEMS does."""
        self.store(self.pop_mark())

    def build(self) -> None:
        """Set the state of an array or of its type; refuse any other state."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (PickledArray, PickledDtype)):
            raise RefusedError(f'a state for {type(self.stack[-1]).__name__}')
        self.stack[-1].__setstate__(state)

    dispatch.update(
        {pickle.SETITEM[0]: set_item, pickle.SETITEMS[0]: set_items, pickle.BUILD[0]: build}
    )


def read_arrays(content: bytes, where: str) -> dict[str, Any]:
    """Unpickle a dict of numpy arrays; errors call the pickle ``where``.

    Returns:
        The dict, with :class:`PickledArray` and plain values.

    Raises:
        UserError: If the pickle asks for anything else, is damaged, or does not hold a dict.
    """
    try:
        pickled = ArrayUnpickler(content).load()
    except RefusedError as error:
        raise UserError(
            f'{where} is refused, because it asks for {error}, and a weight file needs numbers '
            'only; nothing of it was run'
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(
            f'{where} cannot be read as a PaddlePaddle file: it is damaged, cut short, or of '
            'another kind; download it again'
        ) from error
    if not isinstance(pickled, dict):
        raise UserError(
            f'{where} holds a {type(pickled).__name__}, and a PaddlePaddle weight file holds a '
            'dict of arrays; download it again'
        )
    return pickled
