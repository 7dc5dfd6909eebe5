"""Puts the faults of `LORAX_FAULTS` in place in every Python that finds this file on its path."""

import json
import os
import sys

if os.environ.get("LORAX_FAULTS") and any(word.startswith("lorax_lab") for word in sys.orig_argv):
    from faults import apply

    if "lorax_lab.launch.workers" in sys.orig_argv:
        apply(json.loads(os.environ["LORAX_FAULTS"]))
