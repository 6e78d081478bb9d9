"""Evaluate a checkpoint with the metrics of its config, as `dsnet-mm test` does."""

import sys

from dsnet_mm.cli import main

if __name__ == '__main__':
    main(['test', *sys.argv[1:]])
