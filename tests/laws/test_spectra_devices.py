"""The engine on the device at hand: the numbers of an SVD in numpy, wherever the matrix lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorax_lab.spectra import (
    MEASURES,
    LowRank,
    certified,
    gavish_donoho_rank,
    low_rank_singular_values,
    noise_scale,
    singular_values,
    spectrum,
    spikes,
    subspace_similarities,
    svd,
    top_spectrum,
)

pytestmark = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
SHAPE = (300, 200)


def decaying(device: str) -> torch.Tensor:
    """σ_i = 1 / i, in fp32."""
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(size, SHAPE[1], generator=generator)).Q for size in SHAPE)
    return ((U / torch.arange(1, SHAPE[1] + 1)) @ V.T).to(device)


def oracle(x: torch.Tensor) -> np.ndarray:
    return np.linalg.svd(x.cpu().double().numpy(), compute_uv=False)


def test_all_values_lie_within_their_error(device: str) -> None:
    x = decaying(device)
    found = spectrum(x)
    assert found.sigma.device.type == device
    assert (np.abs(found.sigma.cpu().numpy() - oracle(x)) <= found.error.cpu().numpy() + 1e-14).all()


def test_values_below_the_floor_of_the_gram_matrix_come_from_the_fallback(device: str) -> None:
    x = torch.diag(10.0 ** -torch.arange(12, dtype=torch.float64)).to(device)
    found = spectrum(x, wanted=1e-11)
    assert len(found.route) > 1
    assert found.sigma.cpu().numpy() == pytest.approx(oracle(x), rel=1e-6)


def test_brackets_hold_the_true_measures(device: str) -> None:
    x = decaying(device)
    sigma = torch.from_numpy(oracle(x).copy())
    top = top_spectrum(x, 20, torch.Generator().manual_seed(0))
    assert top is not None
    assert top.sigma.device.type == device
    for name, bracket in {**top.brackets(), **certified(x, 20, torch.Generator().manual_seed(0)).brackets}.items():
        assert bracket.low * (1 - 1e-9) <= float(MEASURES[name](sigma)) <= bracket.high * (1 + 1e-9), name


def test_factors_are_measured_where_they_lie(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    updates = [
        LowRank(torch.randn(60, 4, generator=generator).to(device), torch.randn(4, 50, generator=generator).to(device))
        for _ in range(3)
    ]
    for update, sigma in zip(updates, low_rank_singular_values(updates), strict=True):
        assert sigma.device.type == device
        assert sigma.cpu().numpy() == pytest.approx(oracle(update.dense())[:4])
        assert singular_values(update).tolist() == pytest.approx(sigma.tolist())


def test_noise_is_fitted_where_the_values_lie(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 0.5 * torch.randn(*SHAPE, generator=generator, dtype=torch.float64)
    x[:, 0] += 20 / SHAPE[0] ** 0.5
    x[0] += 40
    found = spectrum(x.to(device)).sigma
    here = torch.from_numpy(oracle(x).copy())
    assert noise_scale(found, SHAPE) == pytest.approx(noise_scale(here, SHAPE))
    assert spikes(found, SHAPE) == spikes(here, SHAPE) >= 1
    assert gavish_donoho_rank(found, SHAPE) == gavish_donoho_rank(here, SHAPE) >= 1
    for name, measure in MEASURES.items():
        assert float(measure(found)) == pytest.approx(float(measure(here))), name


def test_subspaces_are_compared_where_they_lie(device: str) -> None:
    U, _, _ = svd(decaying(device))
    assert subspace_similarities(U[:, :4], U[:, :4]).diagonal().tolist() == pytest.approx([1.0] * 4)
