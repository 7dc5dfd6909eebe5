"""What is measured of a trained model: the values of `measure`, each more than the one before."""

TRIAL, K90, CURVE, CONTROLS = MEASURED = ("trial", "k90", "curve", "controls")
"""Its validation score alone; its test score and its update, and of a full update the cuts that find k90, the smallest
k that keeps 90 % of what it brings; every cut and remainder; their controls."""
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
