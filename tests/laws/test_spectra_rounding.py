"""The rounding floor against real rounding, and the measures that it decides."""

import math

import pytest
import torch
from matrices import gaussian

from lorax_lab.spectra import edge_of, rounding_energy, summary, untrusted

BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64


def std_of(weight: torch.Tensor, dtype: torch.dtype) -> float:
    """The root of the mean square of what storing is expected to change."""
    return math.sqrt(rounding_energy(weight, dtype)[0].sum().item() / weight.numel())


@pytest.mark.parametrize("std", [1.0, 0.02, 1e-4, 1e-6])
@pytest.mark.parametrize("dtype", [BF16, FP16, FP32])
def test_the_energy_is_that_of_the_error_of_rounding(dtype: torch.dtype, std: float) -> None:
    weight = std * gaussian(400, 500)
    error = (weight.to(dtype).double() - weight).square().mean().sqrt().item()
    assert std_of(weight, dtype) == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize(("dtype", "bits"), [(BF16, 8), (FP16, 11), (FP32, 24), (FP64, 53)])
def test_an_ulp_by_hand(dtype: torch.dtype, bits: int) -> None:
    ulp = 2.0 ** (1 - bits)
    for value, expected in ((1.0, ulp), (-1.99, ulp), (2.0, 2 * ulp), (0.99, ulp / 2), (0.0, 0.0)):
        assert std_of(torch.full((2, 3), value).double(), dtype) == pytest.approx(expected / math.sqrt(12), rel=1e-12)
    assert std_of(torch.tensor([[1.0, 0.0]]), dtype) == pytest.approx(ulp / math.sqrt(24), rel=1e-12)


def test_below_the_normal_numbers_an_ulp_is_the_smallest_number() -> None:
    smallest = 2**-24 / math.sqrt(12)
    for value in (2**-14, 1.9 * 2**-14, 1e-5, 1e-7, 1e-12):
        assert std_of(torch.full((2, 2), value), FP16) == pytest.approx(smallest, rel=1e-6)
    assert std_of(torch.full((2, 2), 2**-13), FP16) == pytest.approx(2 * smallest, rel=1e-6)
    assert edge_of(*rounding_energy(torch.zeros(3, 3), BF16)) == 0


class TestUntrusted:
    sigma = torch.tensor([4.0, 3.0] + 30 * [0.1], dtype=torch.float64)

    def test_edges(self) -> None:
        everything = tuple(summary(self.sigma, (32, 32)))
        for edge in (4.0, 5.0, math.inf):
            assert untrusted(self.sigma, (32, 32), edge) == everything
        assert untrusted(self.sigma, (32, 32), edge=0.0) == untrusted(self.sigma, (32, 32), edge=0.099) == ()
        assert "numerical_rank" in untrusted(self.sigma.flip(0), (32, 32), edge=0.1)  # at the edge is under it
        assert untrusted(torch.zeros(3), (3, 3), edge=0.0) == untrusted(torch.zeros(0), (3, 3), 1.0) == everything

    def test_a_tenth_is_let_pass(self) -> None:
        """One direction too many on 11 passes, and on 9 it does not."""
        eleven, nine = (torch.tensor([1.0] * count + [0.99], dtype=torch.float64) for count in (11, 9))
        assert untrusted(eleven, (12, 12), edge=0.995) == ()
        flags = untrusted(nine, (10, 10), edge=0.995)
        assert {"effective_rank", "numerical_rank", "stable_rank"} <= set(flags)
        assert not {"frobenius_norm", "spectral_norm"} & set(flags)


@pytest.mark.parametrize("sd", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("dtype", [BF16, FP16, FP32])
def test_rounding_stays_under_its_edge_where_rows_and_columns_differ(sd: float, dtype: torch.dtype) -> None:
    scale = (sd * gaussian(200, seed=1)).exp()[:, None] * (sd * gaussian(300, seed=2)).exp()
    W = 0.02 * scale * gaussian(200, 300, seed=3)
    error = torch.linalg.matrix_norm(W - W.to(dtype).double(), 2).item()
    rows, columns = rounding_energy(W.to(dtype), dtype)
    edge = edge_of(rows, columns)
    assert edge * (1 / 3 if sd else 0.8) < error <= edge
    assert columns.sum().item() == pytest.approx(rows.sum().item(), rel=1e-5)
    parts = [rounding_energy(part.to(dtype), dtype) for part in W.split(70)]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), rows)
    torch.testing.assert_close(sum(part[1] for part in parts), columns, rtol=1e-5, atol=0)
