"""The rounding floor against real rounding, and the measures that it decides."""

import math

import pytest
import torch
from matrices import gaussian

from lorax_lab import spectra
from lorax_lab.spectra import noise_edge, summary
from lorax_lab.spectra.rounding import FORMATS, rounding_edge, rounding_std, untrusted


def stored(x: torch.Tensor, name: str) -> torch.Tensor:
    return x.to(FORMATS[name]).to(torch.float64)


class TestRoundingStd:
    @pytest.mark.parametrize("std", [1.0, 0.02, 1e-4, 1e-6])
    @pytest.mark.parametrize("name", ["bf16", "fp16", "fp32"])
    def test_is_the_error_of_rounding(self, name: str, std: float) -> None:
        weight = std * gaussian(400, 500)
        error = (stored(weight, name) - weight).square().mean().sqrt().item()
        assert rounding_std(weight, name) == pytest.approx(error, rel=0.01)

    @pytest.mark.parametrize(("name", "bits"), [("bf16", 8), ("fp16", 11), ("fp32", 24), ("fp64", 53)])
    def test_by_hand(self, name: str, bits: int) -> None:
        ulp = 2.0 ** (1 - bits)
        for value, expected in ((1.0, ulp), (-1.99, ulp), (2.0, 2 * ulp), (0.99, ulp / 2), (0.0, 0.0)):
            weight = torch.full((2, 3), value, dtype=torch.float64)
            assert rounding_std(weight, name) == pytest.approx(expected / math.sqrt(12), rel=1e-12)
            assert rounding_std(weight, FORMATS[name]) == rounding_std(weight, name)
        assert rounding_std(torch.tensor([[1.0, 0.0]]), name) == pytest.approx(ulp / math.sqrt(24), rel=1e-12)

    def test_below_the_normal_numbers(self) -> None:
        smallest = 2**-24 / math.sqrt(12)
        for value in (2**-14, 1.9 * 2**-14, 1e-5, 1e-7, 1e-12):
            assert rounding_std(torch.full((2, 2), value), "fp16") == pytest.approx(smallest, rel=1e-12)
        assert rounding_std(torch.full((2, 2), 2**-13), "fp16") == pytest.approx(2 * smallest, rel=1e-12)
        for value in (1e-300, 1e-315):
            weight = torch.full((2, 2), value, dtype=torch.float64)
            assert 0 <= rounding_std(weight, "fp64") < 1e-316
            assert rounding_std(weight, "bf16") == pytest.approx(2**-133 / math.sqrt(12), rel=1e-12)

    def test_nothing(self) -> None:
        assert rounding_std(torch.zeros(3, 3), "bf16") == rounding_edge(torch.zeros(3, 3), "bf16") == 0
        assert math.isnan(rounding_std(torch.zeros(0, 3), "bf16"))

    @pytest.mark.parametrize("dtype", ["fp8", "bfloat16", torch.float8_e4m3fn, torch.int8])
    def test_other_formats_are_refused(self, dtype: torch.dtype | str) -> None:
        with pytest.raises(ValueError, match=r"dtype is .*expected one of 'bf16' \(torch.bfloat16\), 'fp16'"):
            rounding_std(torch.ones(2, 2), dtype)

    @pytest.mark.parametrize(("value", "name"), [(1e5, "fp16"), (math.inf, "fp64"), (math.nan, "bf16"), (1e39, "fp32")])
    def test_what_the_format_cannot_hold_is_refused(self, value: float, name: str) -> None:
        with pytest.raises(ValueError, match="weight has an entry of"):
            rounding_std(torch.tensor([[1.0, -value]], dtype=torch.float64), name)


class TestRoundingEdge:
    @pytest.mark.parametrize("shape", [(256, 256), (128, 400)])
    def test_holds_the_rounding_errors(self, shape: tuple[int, int]) -> None:
        weight, change = 0.02 * gaussian(*shape), 1e-3 * gaussian(*shape, seed=1)
        base, sum_ = stored(weight, "bf16"), stored(stored(weight, "bf16") + change, "bf16")
        one, two = sum_ - base - change, stored(weight + change, "bf16") - base - change
        for copies, error in ((1, one), (2, two)):
            edge = rounding_edge(weight, "bf16", copies)
            assert 0.8 * edge < torch.linalg.matrix_norm(error, 2) < edge
            assert edge == pytest.approx(noise_edge(shape, 0.00166 * 0.02 * math.sqrt(copies)), rel=0.2)

    @pytest.mark.parametrize("copies", [0, 3])
    def test_copies(self, copies: int) -> None:
        with pytest.raises(ValueError, match="copies is"):
            rounding_edge(torch.ones(2, 2), "bf16", copies)


class TestUntrusted:
    sigma = torch.tensor([4.0, 3.0] + 30 * [0.1], dtype=torch.float64)

    def test_edges(self) -> None:
        everything = tuple(summary(self.sigma, (32, 32)))
        for edge in (4.0, 5.0, math.inf):
            assert untrusted(self.sigma, (32, 32), edge) == everything
        assert untrusted(self.sigma, (32, 32), edge=0.0) == untrusted(self.sigma, (32, 32), edge=0.099) == ()
        assert "numerical_rank" in untrusted(self.sigma.flip(0), (32, 32), edge=0.1)  # at the edge is under it
        assert untrusted(torch.zeros(3), (3, 3), edge=0.0) == untrusted(torch.zeros(0), (3, 3), 1.0) == everything

    def test_tolerance(self) -> None:
        nine = torch.tensor([1.0] * 9 + [0.99], dtype=torch.float64)
        assert untrusted(nine, (10, 10), edge=0.995, tolerance=0.12) == ()
        flags = untrusted(nine, (10, 10), edge=0.995, tolerance=0.1)
        assert {"effective_rank", "numerical_rank", "stable_rank"} <= set(flags)
        assert not {"frobenius_norm", "spectral_norm"} & set(flags)
        assert "frobenius_norm" in untrusted(nine, (10, 10), edge=0.995, tolerance=0.05)
        assert untrusted(self.sigma, (32, 32), edge=0.5, tolerance=math.inf) == ()
        every = untrusted(self.sigma, (32, 32), edge=0.5, tolerance=0.0)
        assert "spectral_norm" not in every
        assert {"stable_rank", "participation_ratio", "frobenius_norm"} <= set(every)

    @pytest.mark.parametrize(("edge", "tolerance"), [(-1.0, 0.1), (math.nan, 0.1), (1.0, -0.1), (1.0, math.nan)])
    def test_bad_values_are_refused(self, edge: float, tolerance: float) -> None:
        with pytest.raises(ValueError, match=r"edge is .* and tolerance"):
            untrusted(self.sigma, (32, 32), edge, tolerance)
        with pytest.raises(ValueError, match="negative, nan or infinite"):
            untrusted(torch.tensor([1.0, -1.0]), (32, 32), 0.5)


@pytest.mark.parametrize("sd", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rounding_stays_under_its_edge_where_rows_and_columns_differ(sd: float, dtype: torch.dtype) -> None:
    scale = (sd * gaussian(200, seed=1)).exp()[:, None] * (sd * gaussian(300, seed=2)).exp()
    W = 0.02 * scale * gaussian(200, 300, seed=3)
    error = torch.linalg.matrix_norm(W - W.to(dtype).double(), 2).item()
    edge = rounding_edge(W, dtype)
    assert edge / 3 < error <= edge
    rows, columns = spectra.rounding_energy(W.to(dtype), dtype)
    assert rows.sum().item() == pytest.approx(rounding_std(W, dtype) ** 2 * W.numel(), rel=0.02)
    assert columns.sum().item() == pytest.approx(rows.sum().item(), rel=1e-5)
    parts = [spectra.rounding_energy(part.to(dtype), dtype) for part in W.split(70)]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), rows)
    torch.testing.assert_close(sum(part[1] for part in parts), columns, rtol=1e-5, atol=0)


def test_the_numerical_rank_above_the_edge_is_that_of_the_whole_shape() -> None:
    sigma = torch.tensor([4.0, 3.0, 0.1])
    assert untrusted(sigma, (4, 1000), edge=0.05, eps=1e-3) == ()  # 0 by max(out, in) · eps, above the edge or not
