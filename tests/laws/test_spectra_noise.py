"""Noise and its null: scale, spikes and their strength, random-matrix limits, planted signals and simulation."""

import math

import numpy as np
import pytest
import torch
from matrices import gaussian, orthonormal
from scipy.integrate import quad
from scipy.special import airy
from scipy.stats import ks_2samp, kstest

from lorax_lab import spectra
from lorax_lab.spectra.noise import (
    bulk_misfit,
    gavish_donoho_rank,
    noise_misfit,
    noise_scale,
    signal_share,
    spike_strength,
    spikes,
)
from lorax_lab.spectra.null import TRACY_WIDOM_999, gaussian_quantile, gaussian_share_above, noise_ceiling

BETAS = (1.0, 0.75, 0.5, 0.25)


def planted(shape: tuple[int, int], theta: torch.Tensor, seed: int) -> tuple[torch.Tensor, ...]:
    """U diag(θ √n) Vᵀ + X with entries of X of std 1, and U, V."""
    U, V = orthonormal(shape[0], len(theta), 100 + seed), orthonormal(shape[1], len(theta), 200 + seed)
    return U @ torch.diag(theta * math.sqrt(max(shape))) @ V.T + gaussian(*shape, seed=seed), U, V


class TestNull:
    def test_the_tracy_widom_quantile(self) -> None:
        nodes, weights = np.polynomial.legendre.leggauss(60)
        x, root = TRACY_WIDOM_999 + 8 * (nodes + 1), np.sqrt(8 * weights)
        kernel = airy((x[:, None] + x) / 2)[0] / 2  # F_1(s) = det(1 − ½ Ai((x + y)/2)) on (s, ∞): Ferrari & Spohn 2005
        assert np.linalg.det(np.eye(60) - root[:, None] * kernel * root) == pytest.approx(0.999, abs=1e-6)

    @pytest.mark.parametrize(("shape", "rate"), [((4, 4), 1.7), ((4, 16), 1.3), ((16, 12), 1.2)])
    def test_one_matrix_in_a_thousand_is_above_the_ceiling(self, shape: tuple[int, int], rate: float) -> None:
        largest = torch.linalg.matrix_norm(gaussian(40_000, *shape), 2)
        assert 1e3 * (largest > noise_ceiling(shape, 1.0)).double().mean().item() == pytest.approx(rate, abs=0.5)

    def test_ceiling(self) -> None:
        for shape in ((1, 1), (3, 5000), (40, 40)):
            assert noise_ceiling(shape, 0.5) == noise_ceiling(shape[::-1], 0.5) == 0.5 * noise_ceiling(shape, 1.0)
            assert noise_ceiling(shape, 0.5) > spectra.noise_edge(shape, 0.5)
        assert noise_ceiling((10**8, 10**8), 1.0) == pytest.approx(spectra.noise_edge((10**8, 10**8), 1.0), rel=1e-5)
        assert noise_ceiling((9, 4), 0.0) == noise_ceiling((0, 4), 1.0) == noise_ceiling((4, 0), 1.0) == 0
        for shape, std in (((-1, 2), 1.0), ((2, 2), -1.0), ((2, 2), math.nan)):
            for limit in (noise_ceiling, spectra.noise_edge):
                with pytest.raises(ValueError, match="std"):
                    limit(shape, std)

    @pytest.mark.parametrize("shape", [(300, 300), (300, 400), (50, 200), (2, 5000)])
    def test_share_above_is_the_integral_and_the_quantile_its_inverse(self, shape: tuple[int, int]) -> None:
        m, n = shape
        low, high = math.sqrt(n) - math.sqrt(m), math.sqrt(n) + math.sqrt(m)
        value = low + 0.6 * (high - low)

        def density(s: float) -> float:
            return math.sqrt(max(0.0, (s * s - low**2) * (high**2 - s * s))) / (m * math.pi * s)

        above = gaussian_share_above(torch.tensor([value], dtype=torch.float64), shape)
        assert above.item() == pytest.approx(quad(density, value, high)[0], abs=1e-7)
        shares = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
        torch.testing.assert_close(gaussian_share_above(gaussian_quantile(shares, shape), shape), shares)
        ends = torch.tensor([0, low * 0.99, high * 1.01, math.inf], dtype=torch.float64)
        torch.testing.assert_close(gaussian_share_above(ends, shape), ends.new_tensor([1, 1, 0, 0]))


@pytest.mark.parametrize("shape", [(128, 128), (96, 192), (256, 64)])
def test_noise_is_read_as_noise(shape: tuple[int, int]) -> None:
    sigmas = torch.linalg.svdvals(0.3 * gaussian(30, *shape))
    found = [noise_scale(sigma, shape) for sigma in sigmas]
    assert np.mean(found) == pytest.approx(0.3, rel=0.006)
    assert np.std(found) < 0.3 * 1.1 / min(shape)
    misfits = [bulk_misfit(sigma, shape) for sigma in sigmas]
    assert np.mean(misfits) == pytest.approx(noise_misfit(shape), rel=0.15)
    assert max(misfits) < 2 * noise_misfit(shape)
    assert sum(spikes(sigma, shape) for sigma in sigmas) <= 1


class TestNoiseScale:
    @pytest.mark.parametrize("theta", [3.0, 1e3])
    @pytest.mark.parametrize("share", [0.05, 0.2])
    @pytest.mark.parametrize("shape", [(64, 64), (64, 128)])
    def test_strong_spikes_leave_it_alone(self, shape: tuple[int, int], share: float, theta: float) -> None:
        k = round(share * min(shape))
        matrices = [planted(shape, torch.full((k,), theta).double(), seed)[0] for seed in range(20)]
        sigmas = torch.linalg.svdvals(torch.stack(matrices))
        scale = np.mean([noise_scale(sigma, shape) for sigma in sigmas])
        assert scale == pytest.approx(1, rel=0.02 if theta == 3 else 0.01)
        assert np.mean([spikes(sigma, shape) for sigma in sigmas]) == pytest.approx(k, abs=0.1)

    def test_by_hand(self) -> None:
        sigma, q = torch.tensor([9.0, 5.3], dtype=torch.float64), spectra.gaussian_singular_values((2, 50))
        expected = ((sigma * q).sum() / q.square().sum()).item()
        assert spectra.noise_edge((2, 50), expected) < 9.0 < noise_ceiling((2, 50), expected)  # no spike
        assert noise_scale(sigma, (2, 50)) == pytest.approx(expected, rel=1e-12)
        sigma, q = torch.tensor([100.0, 6.3], dtype=torch.float64), spectra.gaussian_singular_values((1, 49))
        assert noise_scale(sigma, (2, 50)) == pytest.approx(6.3 / q.item(), rel=1e-12)

    def test_a_tenth_at_either_end_is_left_out(self) -> None:
        sigma = spectra.gaussian_singular_values((20, 50))
        sigma[-2:] /= 2
        assert noise_scale(sigma, (20, 50)) == pytest.approx(1, rel=1e-12)
        sigma[-3] /= 2
        assert noise_scale(sigma, (20, 50)) < 0.99

    def test_scale_order_and_transpose(self) -> None:
        sigma, shape = torch.linalg.svdvals(gaussian(30, 50)), (30, 50)
        expected = noise_scale(sigma, shape)
        assert noise_scale(sigma.flip(0), (50, 30)) == expected
        for exponent in (-1000, -300, 300, 1010):
            assert noise_scale(sigma * 2.0**exponent, shape) == expected * 2.0**exponent
        assert noise_scale(sigma.float(), shape) == pytest.approx(expected, rel=1e-6)

    def test_low_rank(self) -> None:
        low = spectra.LowRank(gaussian(64, 4, seed=1), gaussian(4, 96, seed=2))
        for rounding in (0.0, 1e-15):
            sigma = torch.linalg.svdvals(low.dense() * (1 + rounding * gaussian(64, 96, seed=3)))
            assert len(sigma) == 64
            assert noise_scale(sigma, low.shape) == 0
            assert spikes(sigma, low.shape) == spikes(sigma[:4], low.shape) == 4
            assert math.isnan(bulk_misfit(sigma, low.shape))
            assert signal_share(sigma, low.shape) == (1.0, 1.0)
        rounded = torch.linalg.svdvals(low.dense().float().double())
        assert 0 < noise_scale(rounded, low.shape) < 1e-7

    def test_nothing(self) -> None:
        for sigma, shape in ((torch.zeros(5), (5, 7)), (torch.zeros(0), (5, 7)), (torch.zeros(0), (0, 0))):
            assert noise_scale(sigma, shape) == spikes(sigma, shape) == 0
            assert math.isnan(bulk_misfit(sigma, shape))
            assert all(math.isnan(share) for share in signal_share(sigma, shape))
            assert len(spike_strength(sigma, shape, 1.0)) == len(sigma)
        assert spikes(torch.tensor([2.0]), (1, 1)) == 0

    @pytest.mark.parametrize(
        ("sigma", "problem"),
        [([1.0, -1.0], "negative"), ([math.nan], "negative, nan"), ([math.inf], "infinite"), ([1.0] * 4, "m ≤ 3")],
    )
    def test_bad_values_are_refused(self, sigma: list[float], problem: str) -> None:
        for measure in (noise_scale, spikes, bulk_misfit, signal_share, gavish_donoho_rank):
            with pytest.raises(ValueError, match=problem):
                measure(torch.tensor(sigma), (3, 9))
        with pytest.raises(ValueError, match=problem):
            spike_strength(torch.tensor(sigma), (3, 9), 1.0)


class TestBulkMisfit:
    def test_is_the_kolmogorov_smirnov_distance_of_what_spikes_leave(self) -> None:
        Y, _, _ = planted((60, 90), torch.tensor([5.0, 20.0]).double(), seed=3)
        sigma = torch.linalg.svdvals(Y)
        for std in (0.97, 1.0, 1.1):
            bulk = (sigma[2:] / std).numpy()
            reference = kstest(bulk, lambda s: 1 - gaussian_share_above(torch.from_numpy(s), (58, 88)).numpy())
            assert bulk_misfit(sigma, (60, 90), std) == pytest.approx(reference.statistic, rel=1e-9)
        assert bulk_misfit(sigma, (60, 90)) < 0.05
        assert bulk_misfit(sigma, (60, 90), std=100.0) > 0.9
        assert math.isnan(bulk_misfit(sigma, (60, 90), std=1e-9))


class TestSpikes:
    @pytest.mark.parametrize("shape", [(240, 240), (160, 320), (320, 160)])
    def test_planted_directions(self, shape: tuple[int, int]) -> None:
        beta = min(shape) / max(shape)
        theta = torch.tensor([6.0, 3.0, 1.8, 0.6 * beta**0.25], dtype=torch.float64)
        found = []
        for seed in range(8):
            Y, U, _ = planted(shape, theta, seed)
            U_found, sigma, _ = torch.linalg.svd(0.01 * Y, full_matrices=False)
            assert spikes(sigma, shape) == spikes(sigma, shape, 0.01) == 3
            assert (U[:, 3] @ U_found[:, :5]).square().sum() < 0.3  # below the threshold: lost
            found.append(torch.stack([sigma[:3], spike_strength(sigma, shape, 0.01)[:3]]))
        (sigma, strength), t, unit = torch.stack(found).mean(0), theta[:3], 0.01 * math.sqrt(max(shape))
        torch.testing.assert_close(sigma, unit * ((1 + t**2) * (beta + t**2)).sqrt() / t, rtol=0.02, atol=0)
        torch.testing.assert_close(strength, unit * t, rtol=0.02, atol=0)

    @pytest.mark.parametrize("beta", BETAS)
    def test_strength_inverts_the_formula(self, beta: float) -> None:
        n = 400
        theta = beta**0.25 * torch.tensor([1e6, 30.0, 2.0, 1.1, 1.001], dtype=torch.float64)
        s = ((1 + theta.square()) * (beta + theta.square())).sqrt() / theta
        strength = spike_strength(s * 0.5 * math.sqrt(n), (round(beta * n), n), std=0.5)
        torch.testing.assert_close(strength, theta * 0.5 * math.sqrt(n), rtol=1e-6, atol=0)

    def test_strength_at_the_extremes(self) -> None:
        sigma = torch.tensor([1e-200, 3.0, 1e200], dtype=torch.float64)
        for std in (0.0, 1e-250):
            assert spike_strength(sigma, (9, 16), std)[0] == 1e200
        assert not spike_strength(torch.tensor([7.0, 6.9]), (9, 16), std=1.0).any()  # at the edge and below
        for n in range(1, 60):
            edge = math.nextafter(spectra.noise_edge((7, n), 0.3), math.inf)
            theta = spike_strength(torch.tensor([edge], dtype=torch.float64), (7, n), std=0.3)
            assert theta.item() == pytest.approx(0.3 * (7 * n) ** 0.25, rel=1e-6)
        sigma = torch.tensor([8e-200], dtype=torch.float64)
        expected = spike_strength(1e200 * sigma, (9, 16), std=1.0).item()
        assert spike_strength(sigma, (9, 16), std=1e-200).item() == pytest.approx(1e-200 * expected)

    def test_signal_share(self) -> None:
        shape, theta = (300, 400), torch.tensor([4.0, 3.0, 2.0]).double()
        Y, _, _ = planted(shape, theta, seed=5)
        sigma = torch.linalg.svdvals(Y)
        raw, cleaned = signal_share(sigma, shape)
        assert raw == pytest.approx((sigma[:3].square().sum() / sigma.square().sum()).item(), rel=1e-12)
        assert cleaned == pytest.approx((400 * theta.square().sum() / Y.square().sum()).item(), rel=0.04)
        assert cleaned < 0.9 * raw
        assert signal_share(sigma * 1e200, shape) == pytest.approx((raw, cleaned))
        assert signal_share(sigma[3:], shape) == (0.0, 0.0)


OMEGA = {1.0: 2.858, 0.75: 2.501, 0.5: 2.171, 0.25: 1.837}
"""ω(β) as printed by Gavish & Donoho."""


class TestGavishDonoho:
    @pytest.mark.parametrize("beta", BETAS)
    def test_the_threshold_is_that_of_the_paper(self, beta: float) -> None:
        """One singular value beside equal others, a hair's breadth below it and above."""
        for shape in ((60, round(60 / beta)), (round(75 / beta), 75)):
            beside = (min(shape) - 1) * [1.0]
            sigmas = (torch.tensor([OMEGA[beta] + off, *beside]).double() for off in (-5.1e-4, 5.1e-4))
            assert [gavish_donoho_rank(sigma, shape) for sigma in sigmas] == [0, 1]

    def test_a_low_rank_has_no_noise(self) -> None:
        low = spectra.LowRank(gaussian(40, 8, seed=1), gaussian(8, 30, seed=2))
        sigma = torch.linalg.svdvals(low.dense())
        for values in (sigma, sigma[:8]):
            assert math.isnan(gavish_donoho_rank(values, low.shape))
        for values in ([1.0, 1.0, 0, 0], [1.0, 1.0, 0, 0, 0]):
            assert math.isnan(gavish_donoho_rank(torch.tensor(values), (9, len(values))))
        assert gavish_donoho_rank(torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]), (9, 5)) == 0


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
    null = spectra.gaussian_null((m, n))
    for name, limit in zip(NAMES, NULL[beta], strict=True):
        one_direction = 1 / m if name.startswith("energy_rank") else 0
        assert null[name] / m == pytest.approx(limit, abs=0.0006 + one_direction), name
    assert null["participation_ratio"] / m == pytest.approx(1 / (1 + beta), rel=1e-3)
    # a finite matrix stays below the edge, by 1 % in σ_1 here: the limit is approached as m^(-2/3)
    assert null["stable_rank"] / m == pytest.approx(1 / (1 + math.sqrt(beta)) ** 2, rel=0.025)
    assert null["numerical_rank"] == m
    assert spectra.gaussian_null((n, m)) == null


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 3)])
def test_a_draw_by_its_bidiagonal_form_has_the_law_of_a_gaussian_matrix(shape: tuple[int, int]) -> None:
    """By Kolmogorov & Smirnov, value by value and in the largest over the smallest. One column more is told apart."""
    out, into = shape
    drawn = torch.stack([spectra.gaussian_draw(shape, index) for index in range(4000)])
    direct, wider = (torch.linalg.svdvals(gaussian(4000, out, side, seed=side)) for side in (into, into + 1))
    assert all(ks_2samp(drawn[:, i], direct[:, i]).pvalue > 0.01 for i in range(min(shape)))
    assert max(ks_2samp(drawn[:, i], wider[:, i]).statistic for i in range(min(shape))) > 0.1
    assert ks_2samp(drawn[:, 0] / drawn[:, -1], direct[:, 0] / direct[:, -1]).pvalue > 0.01
    assert torch.equal(spectra.gaussian_draw(shape), spectra.gaussian_draw(shape[::-1]))
    assert not torch.equal(spectra.gaussian_draw(shape), spectra.gaussian_draw(shape, 1))


def test_gaussian_singular_values_of_nothing_and_of_one_row() -> None:
    assert [len(spectra.gaussian_singular_values(shape)) for shape in ((0, 0), (0, 5), (5, 0))] == [0, 0, 0]
    assert spectra.gaussian_singular_values((1, 10**6)).item() == pytest.approx(1000, rel=1e-3)


def test_low_rank_null_is_drawn_from_a_stream_of_its_own() -> None:
    state = torch.get_rng_state()
    dense, low = spectra.gaussian_null((300, 200)), spectra.gaussian_null((300, 200), rank=8)
    assert list(low) == list(dense) == [*spectra.MEASURES, "numerical_rank"]
    assert low["numerical_rank"] == 8
    assert low["stable_rank"] < low["effective_rank"] < 8 < dense["stable_rank"]
    factors = [(gaussian(300, 8, seed=s), gaussian(8, 200, seed=1000 + s)) for s in range(100)]
    draws = [spectra.stable_rank(spectra.singular_values(spectra.LowRank(B, A))) for B, A in factors]
    assert low["stable_rank"] == pytest.approx(sum(draws) / 100, rel=0.02)
    assert spectra.gaussian_null((6, 4), rank=50)["numerical_rank"] == 4
    assert math.isnan(spectra.gaussian_null((6, 4), rank=0)["effective_rank"])
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ValueError, match="rank is -1"):
        spectra.gaussian_null((6, 4), rank=-1)
    with pytest.raises(ValueError, match="shape"):
        spectra.gaussian_null((-6, 4))
