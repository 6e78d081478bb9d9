from . import hooks  # noqa: F401  # importing registers
