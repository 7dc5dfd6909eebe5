"""Pure numerics on update matrices: spectra, measures, their null, subspaces. Knows no model, no config."""

from lorax_lab.spectra.matrix import LowRank, Update, singular_values, svd, truncate
from lorax_lab.spectra.measures import (
    MEASURES,
    effective_rank,
    energy_entropy_rank,
    energy_rank,
    numerical_rank,
    participation_ratio,
    stable_rank,
    summary,
)
from lorax_lab.spectra.null import gaussian_null, gaussian_singular_values, noise_edge
from lorax_lab.spectra.subspaces import (
    column_share,
    random_share,
    random_similarity,
    row_share,
    subspace_similarity,
)

__all__ = [
    "MEASURES",
    "LowRank",
    "Update",
    "column_share",
    "effective_rank",
    "energy_entropy_rank",
    "energy_rank",
    "gaussian_null",
    "gaussian_singular_values",
    "noise_edge",
    "numerical_rank",
    "participation_ratio",
    "random_share",
    "random_similarity",
    "row_share",
    "singular_values",
    "stable_rank",
    "subspace_similarity",
    "summary",
    "svd",
    "truncate",
]
