"""Run `dsnet-mm` as `dsnet-mm doctor`."""

from .cli import main

if __name__ == '__main__':
    main()
