"""The engine on a GPU: the numbers of an SVD in numpy, and the results where the matrix lies."""

import numpy as np
import pytest
import torch
from matrices import gaussian, with_values

from lorax_lab import spectra

pytestmark = pytest.mark.gpu
SHAPE = (300, 200)
DECAYING = with_values(1 / torch.arange(1, 201), *SHAPE)


def oracle(x: torch.Tensor) -> np.ndarray:
    return np.linalg.svd(x.cpu().double().numpy(), compute_uv=False)


@pytest.mark.parametrize("x", [DECAYING.float(), torch.diag(10.0 ** -torch.arange(12.0).double())])
def test_all_values_lie_within_their_error(x: torch.Tensor) -> None:
    found = spectra.spectrum(x.cuda())
    assert found.sigma.device.type == "cuda"
    assert (np.abs(found.sigma.cpu().numpy() - oracle(x)) <= found.error.cpu().numpy() + 1e-14).all()


def test_factors_and_subspaces_are_measured_where_they_lie() -> None:
    updates = [spectra.LowRank(gaussian(60, 4, seed=i).cuda(), gaussian(4, 50, seed=9 + i).cuda()) for i in range(3)]
    for update, sigma in zip(updates, spectra.low_rank_singular_values(updates), strict=True):
        assert sigma.device.type == "cuda"
        assert sigma.cpu().numpy() == pytest.approx(oracle(update.dense())[:4])
        assert spectra.singular_values(update).tolist() == pytest.approx(sigma.tolist())
    U, _, _ = spectra.svd(DECAYING.cuda())
    assert spectra.subspace_similarities(U[:, :4], U[:, :4]).diagonal().tolist() == pytest.approx([1.0] * 4)


def test_noise_is_fitted_where_the_values_lie() -> None:
    x = 0.5 * gaussian(*SHAPE) + 3 * torch.ones(SHAPE)
    there, here = spectra.spectrum(x.cuda()).sigma, torch.from_numpy(oracle(x).copy())
    assert spectra.spikes(there, SHAPE) == spectra.spikes(here, SHAPE) == 1
    assert spectra.gavish_donoho_rank(there, SHAPE) == spectra.gavish_donoho_rank(here, SHAPE) == 1
    for measure in (lambda sigma: spectra.noise_scale(sigma, SHAPE), *spectra.MEASURES.values()):
        assert float(measure(there)) == pytest.approx(float(measure(here)))
