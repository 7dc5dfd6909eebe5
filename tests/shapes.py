"""Holds the annotated shapes and types of lorax_lab.spectra to the real ones, where SHAPES is set (`conftest.py`)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for every type checker
