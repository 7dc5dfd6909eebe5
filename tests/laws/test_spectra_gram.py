"""Exact spectra against the SVD: every family and shape, many blocks, extremes, and the way round a broken solver."""

import math
import re
from collections.abc import Callable
from itertools import permutations

import pytest
import scipy.linalg
import torch
from matrices import gaussian, with_values

from lorax_lab import spectra
from lorax_lab.spectra import all_directions, exact, spectrum, top_directions
from lorax_lab.spectra import blocks as blocked
from lorax_lab.spectra import gram as engine
from lorax_lab.spectra.exact import svd_error


def uniform(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def product(out: int, into: int, rank: int) -> torch.Tensor:
    return gaussian(out, max(rank, 0)) @ gaussian(max(rank, 0), into, seed=1)


FAMILIES: dict[str, Callable[[int, int], torch.Tensor]] = {
    "gaussian": gaussian,
    "positive": uniform,
    "constant": lambda out, into: torch.full((out, into), 0.1, dtype=torch.float64),
    "rank-deficient": lambda out, into: product(out, into, min(out, into) // 2),
    "one short of full rank": lambda out, into: product(out, into, min(out, into) - 1),
    "graded 1 to 1e-12": lambda out, into: with_values(torch.logspace(0, -12, min(out, into)).double(), out, into),
    "graded 1 to 1e-6": lambda out, into: with_values(torch.logspace(0, -6, min(out, into)).double(), out, into),
    "orthogonal": lambda out, into: with_values(torch.ones(min(out, into)).double(), out, into),
    "one huge column": lambda out, into: gaussian(out, into) * torch.where(torch.arange(into) == into // 2, 1e9, 1.0),
    "sparse": lambda out, into: gaussian(out, into) * (uniform(out, into, seed=1) < 0.1),
    "rows scaled": lambda out, into: gaussian(out, into) * 10 ** (12 * uniform(out, 1, seed=1) - 6),
    "integers": lambda out, into: (5 * gaussian(out, into)).to(torch.int64),
    "float32": lambda out, into: gaussian(out, into).float(),
    "float16": lambda out, into: gaussian(out, into).half(),
    "bfloat16": lambda out, into: (0.02 * gaussian(out, into)).bfloat16(),
    "Hilbert": lambda out, into: 1 / (1 + torch.arange(out)[:, None] + torch.arange(into)).double(),
    "zero": torch.zeros,
}
SIZES = (0, 1, 3, 10)
SHAPES = {
    "one block": [(out, into) for out in SIZES for into in SIZES]
    + [(33, 500), (500, 33), (1, 500), (500, 1), (130, 130)],
    "many blocks": [(0, 9), (9, 0), (5, 5), (16, 10), (3, 16), (33, 60), (60, 33), (1, 500), (500, 1)],
}


class Sliced:
    """A matrix that gives slices only, and remembers the largest."""

    def __init__(self, x: torch.Tensor) -> None:
        self._x, self.shape, self.largest = x, tuple(x.shape), 0

    def block(self, dim: int, start: int, stop: int) -> torch.Tensor:
        self.largest = max(self.largest, (stop - start) * self.shape[1 - dim])
        return self._x.narrow(dim, start, stop - start).clone()


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "many blocks":
        monkeypatch.setattr(blocked, "BLOCK_ENTRIES", 40)
        monkeypatch.setattr(engine, "PANEL", 3)
    return request.param


@pytest.fixture
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "BLOCK_ENTRIES", 8)
    monkeypatch.setattr(engine, "PANEL", 3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wanted", [0.0, 1.0])
def test_the_error_holds(family: str, wanted: float, blocks: str) -> None:
    for shape in SHAPES[blocks]:
        x = FAMILIES[family](*shape)
        oracle = torch.linalg.svdvals(x.double())
        found = spectrum(x if blocks == "one block" else Sliced(x), wanted)
        assert found.sigma.dtype == found.error.dtype == torch.float64
        assert len(found.sigma) == len(found.error) == min(shape)
        assert ((found.sigma - oracle).abs() <= found.error).all(), (shape, found.route)
        assert (found.sigma.diff() <= 0).all()
        assert (found.sigma >= 0).all()
        assert float(found.sigma.norm()) == pytest.approx(float(x.double().norm()), rel=1e-12)
        assert found.route[-1] in (("gram",) if wanted else ("gram", "svdvals"))


@pytest.mark.parametrize("family", FAMILIES)
def test_all_directions_are_those_of_an_svd(family: str, blocks: str) -> None:
    for shape in SHAPES[blocks]:
        x = FAMILIES[family](*shape)
        oracle = torch.linalg.svdvals(x.double())
        U, sigma, Vh = all_directions(x if blocks == "one block" else Sliced(x))
        m, size = min(shape), float(oracle.max()) if oracle.numel() else 0.0
        assert (U.shape, sigma.shape, Vh.shape) == ((shape[0], m), (m,), (m, shape[1]))
        assert (sigma.diff() <= 0).all()
        torch.testing.assert_close(sigma, oracle, rtol=1e-9, atol=svd_error(shape) * size)
        torch.testing.assert_close(U * sigma @ Vh, x.double(), rtol=0, atol=1e-12 * size)
        for vectors in (U, Vh.T):
            gap = (vectors.T @ vectors - torch.eye(m)).abs()
            assert (gap * sigma * sigma[:, None] <= (engine.gram_error(shape) + 1e-14) * size**2).all()


@pytest.mark.parametrize("shape", [(33, 500), (500, 33), (40, 40), (700, 1), (1, 700)])
def test_blocks_are_small_and_cover_the_matrix(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    x, whole = gaussian(*shape), spectrum(gaussian(*shape))
    for entries, length, limit in ((2**22, 1024, math.prod(shape)), (100, 1024, 100), (2**22, 7, 7 * min(shape))):
        monkeypatch.setattr(blocked, "BLOCK_ENTRIES", entries)
        monkeypatch.setattr(blocked, "BLOCK_LENGTH", length)
        parts = Sliced(x)
        found = spectrum(parts)
        assert 0 < parts.largest <= limit
        assert ((found.sigma - whole.sigma).abs() <= found.error).all()


def test_the_bound_says_something() -> None:
    for shape in ((33, 500), (16, 30), (100, 300), (1, 5)):
        found = spectrum(gaussian(*shape))
        assert found.route == ("gram",)
        assert found.error[0] < 1e-13 * found.sigma[0]
        carried = engine.gram_error(shape) * found.sigma[0] ** 2 / (2 * found.sigma)
        torch.testing.assert_close(found.error, carried, rtol=0.05, atol=0)
    for family in ("graded 1 to 1e-6", "graded 1 to 1e-12", "gaussian", "rank-deficient"):
        found = spectrum(FAMILIES[family](16, 10), wanted=1.0)
        bound, energy = engine.gram_error((16, 10)) * found.sigma[0] ** 2, found.sigma.square()
        ends = torch.stack([(energy - bound).clamp(min=0).sqrt(), (energy + bound).sqrt()])
        torch.testing.assert_close(found.error, (ends - found.sigma).abs().amax(0), rtol=0.05, atol=0)
    assert engine.gram_error((4096, 14336)) < 1e-12
    assert exact.svd_error((4096, 14336)) < 1e-10
    graded = spectrum(with_values(torch.logspace(0, -12, 10).double(), 20, 10))
    assert graded.route[-1] == "svdvals"
    assert (graded.error < 1e-13).all()


@pytest.mark.parametrize("shape", [(1, 4_000_000), (5, 100_000), (32_000, 16), (1024, 64), (5, 1024)])
def test_equal_terms_do_not_add_up_their_rounding(shape: tuple[int, int]) -> None:
    for value in (0.1, 1 / 3, 0.97):
        found = spectrum(torch.full(shape, value, dtype=torch.float64), wanted=1.0)
        true = value * math.sqrt(math.prod(shape))
        assert found.route == ("gram",)
        assert abs(found.sigma[0] - true) <= found.error[0]
        assert found.error[0] < 1e-11 * true


def test_wanted_decides_the_route() -> None:
    floor = math.sqrt(engine.gram_error((2, 2)))
    assert 1e-8 < floor < 1e-7

    def route(below: float, wanted: float) -> str:
        return spectrum(torch.diag(torch.tensor([7.0, 7 * below], dtype=torch.float64)), wanted).route[-1]

    assert [route(b, 0.0) for b in (1.0, 1e-3, 2 * floor)] == ["gram"] * 3
    assert [route(b, 0.0) for b in (0.5 * floor, 1e-12, 0.0)] == ["svdvals"] * 3
    assert [route(1e-12, w) for w in (0.0, 1e-9, 0.99 * floor)] == ["svdvals"] * 3
    assert [route(1e-12, w) for w in (1.01 * floor, 1e-3, 1.0)] == ["gram"] * 3
    assert route(1e-3, 1e-12) == "gram"
    reason = spectrum(torch.diag(torch.tensor([1.0, 1e-9, 1e-10, 1.0]))).route[0]
    assert reason.startswith("gram: 2 of 4 wanted values lie below ")
    for bad in (-1e-9, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"wanted is .*expected 0"):
            spectrum(torch.ones(2, 2), bad)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (6, 6), (1, 30), (60, 33), (33, 60)])
def test_top_directions(shape: tuple[int, int], size: float, blocks: str) -> None:
    x, m = gaussian(*shape), min(shape)
    whole = spectra.svd(x)
    for k in {0, 1, m // 2, m}:
        for given in (size * x, Sliced(size * x)):
            U, sigma, Vh = top_directions(given, k)
            assert (tuple(U.shape), len(sigma), tuple(Vh.shape)) == ((shape[0], k), k, (k, shape[1]))
            torch.testing.assert_close(sigma / size, whole[1][:k], rtol=1e-11, atol=0)
            torch.testing.assert_close(
                (U * sigma) @ Vh / size, (whole[0][:, :k] * whole[1][:k]) @ whole[2][:k], rtol=0, atol=1e-11
            )
            for vectors in (U, Vh.T):
                torch.testing.assert_close(vectors.T @ vectors, torch.eye(k).double(), rtol=0, atol=1e-13)
    for bad in (-1, m + 1):
        with pytest.raises(ValueError, match=rf"k is {bad}; .* 0 to {m} directions"):
            top_directions(x, bad)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_top_directions_of_equal_values_belong_together(shape: tuple[int, int]) -> None:
    x = with_values([3.0] * 6 + [1.0] * 6, *shape)
    U, sigma, Vh = top_directions(x, 12)
    torch.testing.assert_close((U * sigma) @ Vh, x, rtol=0, atol=1e-12)


def diverges(*_: object, **__: object) -> torch.Tensor:
    raise torch.linalg.LinAlgError("linalg: the algorithm failed to converge\nmore lines")


@pytest.mark.parametrize("route", ["gram", "svdvals"])
@pytest.mark.usefixtures("many_blocks")
def test_blocks_of_wildly_different_size(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if route == "svdvals":
        monkeypatch.setattr(torch.linalg, "eigvalsh", diverges)
    for sizes in permutations((0.0, 1e-200, 1.0, 1e200)):
        for count in (2, 3, 4):
            scales = torch.tensor(sizes[:count], dtype=torch.float64)
            rows = scales.repeat_interleave(4)[:, None] * gaussian(4 * count, 4)
            top = float(scales.max())
            oracle = torch.linalg.svdvals(rows / top)
            for x in (rows, rows.T, Sliced(rows), Sliced(rows.T)):
                found = spectrum(x, wanted=1.0)
                assert found.route[-1] == route
                assert ((found.sigma / top - oracle).abs() <= found.error / top).all(), (sizes, count)


@pytest.mark.parametrize("orientation", ["tall", "wide"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.usefixtures("many_blocks")
def test_a_bad_entry_is_named_by_its_place_in_the_whole(orientation: str, bad: float) -> None:
    for row, column in ((0, 0), (1, 2), (17, 3), (19, 0)):
        x = gaussian(20, 4)
        x[row, column] = bad
        x, place = (x, (row, column)) if orientation == "tall" else (x.T, (column, row))
        for given in (x, Sliced(x)):
            for measure in (spectrum, lambda y: top_directions(y, 2)):
                with pytest.raises(ValueError, match=re.escape(f"non-finite entries, the first {bad} at {place}")):
                    measure(given)


def ones(x: torch.Tensor, **_: object) -> torch.Tensor:
    return torch.ones(min(x.shape), dtype=torch.float64)


def nans(x: torch.Tensor, **_: object) -> torch.Tensor:
    return torch.full((min(x.shape),), math.nan, dtype=torch.float64)


def shifted(x: torch.Tensor) -> torch.Tensor:
    """The trace is right and the matrix is not positive."""
    values = torch.zeros(len(x), dtype=torch.float64)
    values[-1], values[0] = 2 * x.trace(), -x.trace()
    return values


BROKEN = {"diverges": (diverges, "converge"), "ones": (ones, "‖A‖²_F"), "nans": (nans, "nan")}


@pytest.mark.parametrize("fault", [*BROKEN, "shifted"])
@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (6, 6)])
def test_a_broken_eigensolver_is_gone_round(
    fault: str, shape: tuple[int, int], blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, reason = (BROKEN | {"shifted": (shifted, "an eigenvalue of -")})[fault]
    x = gaussian(*shape)
    monkeypatch.setattr(torch.linalg, "eigvalsh", broken)
    found = spectrum(x)
    assert found.route[1:] == ("svdvals",)
    assert found.route[0].startswith("gram: ")
    assert reason in found.route[0]
    assert "\n" not in found.route[0]
    assert ((found.sigma - torch.linalg.svdvals(x)).abs() <= found.error).all()


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (6, 6)])
def test_the_last_way_round(fault: str, shape: tuple[int, int], blocks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, reason = BROKEN[fault]
    x, oracle = gaussian(*shape), torch.linalg.svdvals(gaussian(*shape))
    monkeypatch.setattr(torch.linalg, "eigvalsh", diverges)
    monkeypatch.setattr(torch.linalg, "svdvals", broken)
    found = spectrum(1e-200 * x)
    assert [step.split(":")[0] for step in found.route] == ["gram", "svdvals", "gesvd"]
    assert reason in found.route[1]
    assert ((1e200 * found.sigma - oracle).abs() <= 1e200 * found.error).all()


def test_when_all_are_broken_each_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def gesvd_diverges(*_: object, **options: object) -> None:
        assert options["lapack_driver"] == "gesvd"
        raise scipy.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(torch.linalg, "eigvalsh", nans)
    monkeypatch.setattr(torch.linalg, "svdvals", ones)
    monkeypatch.setattr(scipy.linalg, "svd", gesvd_diverges)
    with pytest.raises(ArithmeticError, match=r"\(9, 5\).*gram: .*nan.*; svdvals: Σσ² is 5.*; gesvd: SVD did not"):
        spectrum(gaussian(9, 5))
    monkeypatch.setattr(scipy.linalg, "svd", lambda x, **_: ones(torch.from_numpy(x)).numpy())
    with pytest.raises(ArithmeticError, match=r"svdvals: Σσ² is 5.*; gesvd: Σσ² is 5"):
        spectrum(gaussian(9, 5))


def test_a_wrong_gram_matrix_is_caught_by_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    x, honest = gaussian(8, 5), engine.gram
    monkeypatch.setattr(exact, "gram", lambda y: engine.Gram(1.001 * honest(y).matrix, 0, honest(y).energy))
    found = spectrum(x)
    assert found.route[0].startswith("gram: the trace is ")
    assert ((found.sigma - torch.linalg.svdvals(x)).abs() <= found.error).all()
