"""The typed record of a run, its files, and reading them as tables.

from lorax_lab.record import load_runs, load_matrices, load_truncation, load_spectra
"""

from lorax_lab.record.folder import load_spectra
from lorax_lab.record.record import Record, read_record, scan
from lorax_lab.record.tables import load_matrices, load_runs, load_truncation
