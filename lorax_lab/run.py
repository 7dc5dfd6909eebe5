"""The entry: `python -m lorax_lab.run rank=4,8,16 -m`."""

import sys

from lorax_lab.launch.entry import launch
from lorax_lab.record.redact import guard


def main() -> None:
    """Hand the command line over."""
    guard()
    sys.exit(launch())


if __name__ == "__main__":
    main()
