"""The noise null against random-matrix limits and simulation."""

import math

import pytest
import torch
from matrices import gaussian
from scipy.stats import ks_2samp

from lorax_lab import spectra
from lorax_lab.spectra import MEASURES, LowRank, gaussian_draw, gaussian_null, gaussian_singular_values, singular_values

NAMES = ("effective_rank", "energy_entropy_rank", "energy_rank_90", "energy_rank_95", "energy_rank_99")
# β: these, all per m: random-matrix limits
NULL = {
    1.0: (0.805, 0.607, 0.510, 0.609, 0.771),
    0.75: (0.876, 0.687, 0.580, 0.690, 0.861),
    0.5: (0.926, 0.779, 0.664, 0.777, 0.927),
    0.25: (0.966, 0.883, 0.761, 0.861, 0.965),
}


@pytest.mark.parametrize("beta", NULL)
def test_gaussian_null_is_the_random_matrix_limit(beta: float) -> None:
    m, n = 768, round(768 / beta)
    null = gaussian_null((m, n))
    for name, limit in zip(NAMES, NULL[beta], strict=True):
        one_direction = 1 / m if name.startswith("energy_rank") else 0
        assert null[name] / m == pytest.approx(limit, abs=0.0006 + one_direction), name
    assert null["participation_ratio"] / m == pytest.approx(1 / (1 + beta), rel=1e-3)
    # a finite matrix stays below the edge, by 1 % in σ_1 here: the limit is approached as m^(-2/3)
    assert null["stable_rank"] / m == pytest.approx(1 / (1 + math.sqrt(beta)) ** 2, rel=0.025)
    assert null["numerical_rank"] == m
    assert gaussian_null((n, m)) == null


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 3)])
def test_a_draw_by_its_bidiagonal_form_has_the_law_of_a_gaussian_matrix(shape: tuple[int, int]) -> None:
    """By Kolmogorov & Smirnov, value by value and in the largest over the smallest. One column more is told apart."""
    out, into = shape
    drawn = torch.stack([gaussian_draw(shape, index) for index in range(4000)])
    direct, wider = (torch.linalg.svdvals(gaussian(4000, out, side, seed=side)) for side in (into, into + 1))
    assert all(ks_2samp(drawn[:, i], direct[:, i]).pvalue > 0.01 for i in range(min(shape)))
    assert max(ks_2samp(drawn[:, i], wider[:, i]).statistic for i in range(min(shape))) > 0.1
    assert ks_2samp(drawn[:, 0] / drawn[:, -1], direct[:, 0] / direct[:, -1]).pvalue > 0.01
    assert torch.equal(gaussian_draw(shape), gaussian_draw(shape[::-1]))
    assert not torch.equal(gaussian_draw(shape), gaussian_draw(shape, 1))


def test_gaussian_singular_values_of_nothing_and_of_one_row() -> None:
    assert [len(gaussian_singular_values(shape)) for shape in ((0, 0), (0, 5), (5, 0))] == [0, 0, 0]
    assert gaussian_singular_values((1, 10**6)).item() == pytest.approx(1000, rel=1e-3)


def test_low_rank_null_is_drawn_from_a_stream_of_its_own() -> None:
    state = torch.get_rng_state()
    dense, low = gaussian_null((300, 200)), gaussian_null((300, 200), rank=8)
    assert list(low) == list(dense) == [*MEASURES, "numerical_rank"]
    assert low["numerical_rank"] == 8
    assert low["stable_rank"] < low["effective_rank"] < 8 < dense["stable_rank"]
    factors = [(gaussian(300, 8, seed=s), gaussian(8, 200, seed=1000 + s)) for s in range(100)]
    draws = [spectra.stable_rank(singular_values(LowRank(B, A))) for B, A in factors]
    assert low["stable_rank"] == pytest.approx(sum(draws) / 100, rel=0.02)
    assert gaussian_null((6, 4), rank=50)["numerical_rank"] == 4
    assert math.isnan(gaussian_null((6, 4), rank=0)["effective_rank"])
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ValueError, match="rank is -1"):
        gaussian_null((6, 4), rank=-1)
    with pytest.raises(ValueError, match="shape"):
        gaussian_null((-6, 4))
