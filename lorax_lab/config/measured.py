"""What is measured of a trained model: the values of `measure`, by how much they tell."""

TRIAL, K90, CURVE, TEST_CUTS, CONTROLS = MEASURED = ("trial", "k90", "curve", "test_cuts", "controls")
"""Its validation score alone; its test score and its update, and of a full update the cuts that find k90, the smallest
k that keeps 90 % of what it brings; every cut and remainder on validation; the cuts of k90, and every cut on test; all
of these and controls."""
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
