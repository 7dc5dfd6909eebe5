"""The entry: `python -m lorax_lab.run rank=4,8,16 -m`."""

from __future__ import annotations

import sys

from lorax_lab.launch.entry import launch


def main() -> None:
    """Hand the command line over."""
    sys.exit(launch())


if __name__ == "__main__":
    main()
