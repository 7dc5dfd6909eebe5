"""Has every Python that finds this file on its path note what it calls, where the folder for it is named."""

import os
import sys
from pathlib import Path

if os.environ.get("LORAX_REACHED"):
    sys.path.append(str(Path(__file__).parents[2]))
    from noted import note_in_a_process_of_a_test

    note_in_a_process_of_a_test()
