"""Holds the annotated shapes and types of lorax_lab.spectra to the real ones, in all tests; `conftest.py` has it on."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for every type checker
