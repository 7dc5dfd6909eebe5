"""What is measured of a trained model: the values of `measure`, by how much it takes."""

TRIAL, K90, TEST_CUTS, CURVE, CONTROLS = MEASURED = ("trial", "k90", "test_cuts", "curve", "controls")
"""Its validation score alone; its test score and its update, and of a full update the cuts that find k90, the smallest
k that keeps 90 % of what it brings; these and every cut on test; every cut and remainder on validation; these, every
cut on test and controls."""
CUT = "full"
"""The one method whose update is cut to k directions: of the others k90 and curve are the same."""
FORMER = {"standard": CURVE}
"""Names in older records."""


def current(measure: str) -> str:
    """The name that a recorded one has now.

    >>> current("standard"), current("trial")
    ('curve', 'trial')
    """
    return FORMER.get(measure, measure)
