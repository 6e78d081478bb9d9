"""Train a model from a config, as `dsnet-mm train` does."""

import sys

from dsnet_mm.cli import main

if __name__ == '__main__':
    main(['train', *sys.argv[1:]])
