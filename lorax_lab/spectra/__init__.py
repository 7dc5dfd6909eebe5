"""Pure numerics on update matrices. Knows no model and no configuration.

| file | what it computes |
|---|---|
| `matrix` | an update, dense or low-rank, and its SVD |
| `blocks` | a matrix that is read a block at a time |
| `values`, `exact`, `gram` | singular values: of any update, with their error, by the Gram matrix |
| `triangles` | the small triangle of a tall factor, by Cholesky or QR |
| `measures` | how many directions an update uses |
| `null` | the same measures on pure noise |
| `noise` | the scale of the noise in a spectrum, and the directions above it |
| `products` | whether the spectrum of a low-rank product is that of noise |
| `structured` | the measures on noise with an update's own scales or entries |
| `rounding` | what storage in a narrow format adds to an update |
| `row` | all of these in one row, from σ and the few facts that need the weights |
| `subspaces` | what two updates share, and how much an update amplifies its base |
"""

from lorax_lab.spectra.blocks import times
from lorax_lab.spectra.exact import Spectrum, spectrum
from lorax_lab.spectra.gram import all_directions, top_directions
from lorax_lab.spectra.matrix import LowRank, OneByOne, Update, svd
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
from lorax_lab.spectra.noise import (
    bulk_misfit,
    gavish_donoho_rank,
    noise_misfit,
    noise_scale,
    spikes,
    tells_spikes,
)
from lorax_lab.spectra.null import gaussian_draw, gaussian_null, gaussian_singular_values, noise_ceiling, noise_edge
from lorax_lab.spectra.products import has_orthogonal_factor, made_by_svd, product_spectra, product_test
from lorax_lab.spectra.rounding import edge_of, rounding_energy, untrusted
from lorax_lab.spectra.row import Rounding, Row, row_of
from lorax_lab.spectra.structured import NULLS, measures_of_null, structured_spectra
from lorax_lab.spectra.subspaces import (
    Amplification,
    amplification,
    column_share,
    intruders,
    random_directions,
    row_share,
    subspace_similarities,
)
from lorax_lab.spectra.values import low_rank_singular_values, singular_values
