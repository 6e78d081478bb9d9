"""The version of dsnet-mm; ``pyproject.toml`` refers to it."""

__version__ = '0.2.0'
