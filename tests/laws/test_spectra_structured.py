"""The nulls that keep structure: what each keeps, the noises it stands for, and the signal that it does not hide."""

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from matrices import draws, gaussian, structured_nulls
from torch import Tensor

from lorax_lab import spectra
from lorax_lab.spectra import MEASURES, NULLS, effective_rank, singular_values, structured, structured_spectra
from lorax_lab.spectra.structured import ABOVE, scaled_noise

SHAPE, DRAWS = (120, 180), 10
RANK = 8


def iid(seed: int) -> Tensor:
    return gaussian(*SHAPE, seed=seed)


def lognormal_rows(seed: int) -> Tensor:
    return iid(seed) * gaussian(SHAPE[0], 1, seed=1000 + seed).exp()


def student_t(seed: int) -> Tensor:
    """Entries of Student's t with 3 degrees of freedom."""
    return iid(seed) / gaussian(3, *SHAPE, seed=2000 + seed).square().mean(0).sqrt()


def power_law(seed: int) -> Tensor:
    """Rows and columns that shrink as 1 / √i."""
    across, down = (torch.arange(1, side + 1, dtype=torch.float64).rsqrt() for side in SHAPE)
    return iid(seed) * across[:, None] * down


def autoregressive(seed: int) -> Tensor:
    """Each entry keeps .8 of the one before it in its row."""
    entries, made = iid(seed), [iid(seed)[:, 0]]
    for column in range(1, SHAPE[1]):
        made.append(0.8 * made[-1] + 0.6 * entries[:, column])
    return torch.stack(made, 1)


NOISES: dict[str, Callable[[int], Tensor]] = {
    "iid": iid,
    "lognormal rows": lognormal_rows,
    "Student t": student_t,
    "power law": power_law,
    "AR": autoregressive,
}
MATCHES = {
    "iid": {"scaled", "signs", "permuted"},
    "lognormal rows": {"scaled", "signs"},
    "Student t": {"signs", "permuted"},
    "power law": {"scaled", "signs"},
    "AR": set(),
}
"""The nulls that keep the structure of each noise. None keeps correlation."""


@cache
def sigmas(noise: str) -> list[Tensor]:
    return [singular_values(NOISES[noise](seed)) for seed in range(DRAWS)]


@cache
def nulls(noise: str) -> list[dict[str, dict[str, float]]]:
    return [structured_nulls(NOISES[noise](seed), draws(500 + seed)) for seed in range(DRAWS)]


def against(noise: str, null: str, measure: str) -> Tensor:
    """log(null / noise) of a measure over a few draws of the noise."""
    pairs = zip(nulls(noise), sigmas(noise), strict=True)
    return torch.tensor([math.log(drawn[null][measure] / MEASURES[measure](sigma)) for drawn, sigma in pairs])


@pytest.mark.parametrize("null", NULLS)
def test_every_null_has_the_updates_norm_and_moves_no_other_stream(null: str) -> None:
    update, before = lognormal_rows(0), torch.random.get_rng_state()
    draw = NULLS[null](update, draws(1))
    assert float(draw.norm()) == pytest.approx(float(update.norm()), rel=1e-9)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(draw, NULLS[null](update, draws(1)))
    assert not torch.equal(draw, NULLS[null](update, draws(2)))


def test_each_null_keeps_what_it_is_called_by() -> None:
    update = student_t(0) * gaussian(SHAPE[0], 1, seed=9).exp()
    signs, permuted = (NULLS[name](update, draws(3)) for name in ("signs", "permuted"))
    profile = gaussian(SHAPE[0], 1, seed=1).exp() * gaussian(1, SHAPE[1], seed=2).exp()
    drawn = scaled_noise(profile * iid(3), draws(4)) / profile
    for dim in (0, 1):  # what is left has rows and columns of one size, up to chance
        sizes = drawn.square().mean(dim).sqrt()
        assert float(sizes.std() / sizes.mean()) < 0.2
    assert torch.equal(signs.abs(), update.abs())
    assert not torch.equal(signs, update)
    assert torch.equal(permuted.flatten().sort().values, update.flatten().sort().values)


def test_rows_and_columns_of_zeros_stay_zero() -> None:
    update = iid(0)
    update[3], update[:, 5] = 0, 0
    draw = scaled_noise(update, draws(0))
    assert not draw[3].any()
    assert not draw[:, 5].any()
    assert torch.isfinite(draw).all()


def test_a_zero_update_has_no_null_and_a_bad_one_is_refused() -> None:
    for measures in structured_nulls(torch.zeros(4, 3), draws(0)).values():
        assert math.isnan(measures["effective_rank"])
        assert measures["energy_rank_90"] == measures[ABOVE] == 0
    with pytest.raises(ValueError, match="non-finite"):
        structured_nulls(torch.tensor([[1.0, math.nan]]), draws(0))
    with pytest.raises(ValueError, match="draws is 0"):
        structured_nulls(torch.ones(2, 2), draws(0), draws=0)


def test_more_draws_are_their_mean_and_the_largest_of_all_is_what_a_direction_must_exceed() -> None:
    update, stream = lognormal_rows(1), draws(4)
    own = singular_values(update)
    singles: dict[str, list[Tensor]] = {name: [] for name in NULLS}
    for name, draw in NULLS.items():
        singles[name] = [singular_values(draw(update, stream)) for _ in range(3)]
    for name, measures in structured_nulls(update, draws(4), draws=3).items():
        mean = sum(map(effective_rank, singles[name])) / 3
        assert measures["effective_rank"] == pytest.approx(mean, rel=1e-9)
        assert measures[ABOVE] == int((own > max(float(sigma[0]) for sigma in singles[name])).sum())


@pytest.mark.parametrize(
    ("noise", "null"), [(noise, null) for noise, nulls in MATCHES.items() for null in sorted(nulls)]
)
@pytest.mark.parametrize("measure", ["effective_rank", "participation_ratio", "energy_rank_90"])
def test_a_null_agrees_with_the_noise_whose_structure_it_keeps(noise: str, null: str, measure: str) -> None:
    spread = float(torch.tensor([MEASURES[measure](sigma) for sigma in sigmas(noise)]).log().std())
    assert abs(float(against(noise, null, measure).mean())) < max(spread, 0.01)


@pytest.fixture
def small_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nulls drawn from a ninth of the entries of a 480 × 600 update."""
    for name, value in (("WHOLE", 2**10), ("PART", 32000), ("LEAST", 16)):
        monkeypatch.setattr(structured, name, value)


LARGE: dict[str, Callable[[int], Tensor]] = {
    "iid": lambda seed: gaussian(480, 600, seed=seed),
    "zero rows": lambda seed: gaussian(480, 600, seed=seed) * (torch.arange(480)[:, None] % 4 > 0),
    "two sizes": lambda seed: gaussian(480, 600, seed=seed) * torch.where(torch.arange(600) % 3 > 0, 1.0, 2.0),
    "planted": lambda seed: gaussian(480, 12, seed=seed) @ gaussian(12, 600, seed=9) + gaussian(480, 600, seed=seed),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("family", LARGE)
def test_a_null_that_is_drawn_small_is_that_of_a_whole_draw(family: str, turned: bool, small_draws: None) -> None:
    update = LARGE[family](1).T if turned else LARGE[family](1)
    drawn = structured_spectra(update, draws(2))
    for null, (sigma,) in drawn.items():
        whole = singular_values(NULLS[null](update, draws(3)))
        assert len(sigma) == 480
        assert float(sigma.norm()) == pytest.approx(float(update.norm()), rel=1e-12)
        assert float(sigma[0] / whole[0]) == pytest.approx(1, abs=0.04), null
        for name, within in (("effective_rank", 0.006), ("energy_rank_90", 0.02), ("participation_ratio", 0.03)):
            assert float(MEASURES[name](sigma) / MEASURES[name](whole)) == pytest.approx(1, abs=within), (null, name)
    again, scaled = structured_spectra(update, draws(2)), structured_spectra(2.0**40 * update, draws(2))
    assert all(torch.equal(drawn[null][0], again[null][0]) for null in NULLS)
    assert all(torch.equal(2.0**40 * drawn[null][0], scaled[null][0]) for null in NULLS)


@pytest.mark.parametrize("size", [1.0, 1e-200])
@pytest.mark.parametrize("place", [(slice(None), 7), (3, slice(None)), (3, 7)])
def test_what_few_entries_hold_is_drawn_whole_or_not_at_all(
    place: tuple[slice | int, slice | int], size: float, small_draws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = LARGE["iid"](1)
    update[place] *= 100
    drawn = structured_spectra(size * update, draws(2))
    stream = draws(2)
    for null, draw in NULLS.items():
        torch.testing.assert_close(drawn[null][0], size * singular_values(draw(update, stream)))
    monkeypatch.setattr(structured, "MOST", 2**17)
    assert structured_spectra(update, draws(2)) == {}


@pytest.mark.parametrize("noise", NOISES)
def test_no_direction_of_a_noise_stands_above_its_own_null(noise: str) -> None:
    for null in MATCHES[noise]:
        counts = [structured_nulls(NOISES[noise](seed), draws(seed), draws=3)[null][ABOVE] for seed in range(DRAWS)]
        assert sum(counts) <= DRAWS  # one draw in four exceeds three others


def test_correlated_entries_are_beyond_every_null_though_they_are_noise() -> None:
    """What the nulls cannot tell; the documentation says so."""
    for null in NULLS:
        assert float(against("AR", null, "effective_rank").mean()) > 0.2
    assert min(measures[ABOVE] for measures in structured_nulls(autoregressive(0), draws(0)).values()) > RANK


@pytest.mark.parametrize("noise", ["iid", "lognormal rows", "Student t", "power law"])
def test_a_planted_signal_stands_out(noise: str) -> None:
    """Rank 8 at three times the noise's norm: the nulls that keep its structure count it, and its ranks lie below."""
    U, V = (torch.linalg.qr(gaussian(side, RANK, seed=77)).Q for side in SHAPE)
    N = NOISES[noise](0)
    update = 3 * U @ V.T * float(N.norm()) / math.sqrt(RANK) + N
    measures, own = structured_nulls(update, draws(5), draws=3), singular_values(update)
    for null in MATCHES[noise]:
        assert measures[null][ABOVE] == RANK, null
        assert measures[null]["effective_rank"] > 1.1 * effective_rank(own)


@pytest.mark.parametrize(
    ("noise", "told"), [("iid", True), ("lognormal rows", False), ("power law", False), ("AR", False)]
)
def test_spikes_are_told_only_above_a_bulk_of_iid_noise(noise: str, told: bool) -> None:
    for seed in range(4):
        sigma = singular_values(NOISES[noise](seed))
        std = spectra.noise_scale(sigma, SHAPE)
        assert spectra.tells_spikes(spectra.bulk_misfit(sigma, SHAPE, std), std, SHAPE) == told
        assert (spectra.spikes(sigma, SHAPE) == 0) == told  # each noise that is not told would count as signal


def test_spikes_without_noise_are_told_and_without_a_bulk_are_not() -> None:
    assert spectra.tells_spikes(math.nan, 0.0, (8, 8))
    assert not spectra.tells_spikes(math.nan, math.nan, (8, 8))
    assert not spectra.tells_spikes(0.1, 1.0, (0, 8))
