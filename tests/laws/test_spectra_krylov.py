"""Top spectra: what is said to hold does hold, on spectra that make a random start look bad."""

import math
from collections.abc import Callable

import pytest
import torch
from jaxtyping import TypeCheckError
from matrices import draws, gaussian, with_values

from lorax_lab.spectra import MEASURES, Bracket, TopSpectrum, certified, top_spectrum
from lorax_lab.spectra.krylov import WIDTH, missed_ratio

ROUNDING = 1e-12
NAMES = ("stable_rank", "participation_ratio", *(f"energy_rank_{percent}" for percent in (50, 90, 95, 99)))


def levels(m: int, *values: float) -> torch.Tensor:
    """m values in equal groups."""
    return torch.tensor(values, dtype=torch.float64).repeat_interleave(-(-m // len(values)))[:m]


def series(m: int) -> torch.Tensor:
    return torch.arange(1, m + 1, dtype=torch.float64)


SPECTRA: dict[str, Callable[[int], torch.Tensor]] = {
    "flat": lambda m: torch.ones(m, dtype=torch.float64),
    "power -1/2": lambda m: series(m) ** -0.5,
    "power -1": lambda m: 1 / series(m),
    "geometric .9": lambda m: 0.9 ** series(m),
    "geometric .5": lambda m: 0.5 ** series(m),
    "four levels": lambda m: levels(m, 1, 0.5, 0.25, 0.1),
    "three above six levels": lambda m: torch.cat(
        [torch.tensor([3.0, 2.5, 2.0]), levels(m - 3, 1, 0.8, 0.6, 0.4, 0.2, 0.1)]
    ),
    "rank 3": lambda m: (series(m) <= 3).double(),
    "rank 20": lambda m: (series(m) <= 20) / series(m),
    "17 equal over a bulk": lambda m: torch.cat([torch.ones(17), torch.linspace(0.8, 0, m - 17)]).double(),
    "30 nearly equal over a bulk": lambda m: torch.cat(
        [1 - 1e-7 * series(30), 0.7 * torch.linspace(1, 0, m - 30) ** 2]
    ).double(),
    "clusters of five": lambda m: 0.8 ** ((series(m) - 1) // 5) * (1 - 1e-6 * (series(m) % 5)),
    "one spike on a flat bulk": lambda m: torch.cat([torch.tensor([1.02]), torch.ones(m - 1)]).double(),
    "one far above the rest": lambda m: torch.cat([torch.tensor([1e6]), levels(m - 1, 1, 0.5)]),
}
SHAPES = {(260, 260): (1, 17, 100), (250, 400): (18,), (400, 250): (90,)}
"""Shapes, each with the numbers of directions to take."""


def check(top: TopSpectrum, true: torch.Tensor, every: bool = False) -> None:
    """Everything `top` says, against all the singular values; `every` number of directions, or some."""
    k, m, shares = len(top.sigma), len(true), true / true[0]
    energy = shares.square() / shares.square().sum()
    assert top.norm == pytest.approx(float(true[0] * shares.norm()), rel=1e-13)
    assert len(top.high) == k
    assert (top.sigma <= true[:k]).all()
    assert (true[:k] <= top.high * (1 + 1e-14)).all(), float((true[:k] / top.high).max())
    curve = torch.cat([torch.zeros(1), energy.cumsum(0)]).tolist()
    for j in range(m + 1) if every else {0, 1, k // 2, k - 1, k, min(k + 1, m), (k + m) // 2, m}:
        found = top.energy(j)
        assert found.low - ROUNDING <= curve[j] <= found.high + ROUNDING, (j, found)
    brackets = top.brackets()
    assert tuple(brackets) == NAMES
    for name, bracket in brackets.items():
        value = MEASURES[name](true)
        slack = 0 if name.startswith("energy_rank") else ROUNDING * value
        assert bracket.low - slack <= value <= bracket.high + slack, (name, bracket, value)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SPECTRA)
def test_brackets_hold_the_truth(name: str, shape: tuple[int, int]) -> None:
    true = SPECTRA[name](min(shape)).sort(descending=True).values
    x = with_values(true, *shape)
    for seed, k in enumerate(SHAPES[shape]):
        top = top_spectrum(x, k, draws(seed))
        assert top is not None
        check(top, true, every=k == 18)


def test_a_small_matrix_is_exact() -> None:
    for shape in ((1, 5), (5, 1), (2, 2), (9, 6), (100, 240), (240, 100), (241, 241)):
        true = 1 / series(min(shape))
        x = with_values(true, *shape)
        for k in {1, min(5, min(shape) - 1), min(shape) - 1} - {0}:
            top = top_spectrum(x, k, draws())
            check(top, true)
            if min(shape) <= 240:
                assert (top.high / top.sigma < 1 + 1e-6).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["flat", "power -1", "four levels", "rank 3"])
def test_vectors(name: str, shape: tuple[int, int]) -> None:
    x = with_values(SPECTRA[name](min(shape)), *shape)
    for k in (1, 24):
        top = top_spectrum(x, k, draws())
        assert (tuple(top.U.shape), tuple(top.Vh.shape)) == ((shape[0], k), (k, shape[1]))
        eye = torch.eye(k, dtype=torch.float64)
        torch.testing.assert_close(top.U.T @ top.U, eye, rtol=0, atol=1e-12)
        torch.testing.assert_close(top.Vh @ top.Vh.T, eye, rtol=0, atol=1e-12)
        # on the side the space is built of, A V = U σ holds to rounding; on the other only as far as it converged
        image, vectors = (x @ top.Vh.T, top.U) if shape[0] >= shape[1] else (x.T @ top.U, top.Vh.T)
        torch.testing.assert_close(image, vectors * top.sigma, rtol=0, atol=1e-11)
        torch.testing.assert_close((top.U.T @ x @ top.Vh.T).diagonal(), top.sigma, rtol=0, atol=1e-11)


def test_the_seed_decides_and_no_global_stream_moves() -> None:
    x, state = gaussian(300, 310), torch.get_rng_state()
    first, again, other = (top_spectrum(x, 20, draws(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("U", "sigma", "Vh", "high"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.sigma, other.sigma)
    torch.manual_seed(5)
    assert torch.equal(top_spectrum(x, 20, draws(0)).sigma, first.sigma)
    torch.set_rng_state(state)


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize("name", ["power -1", "four levels"])
def test_extreme_sizes(name: str, size: float) -> None:
    for shape in ((300, 310), (9, 7)):
        unit = SPECTRA[name](min(shape))
        check(top_spectrum(size * with_values(unit, *shape), 5, draws()), size * unit)


def test_what_is_refused() -> None:
    for shape in ((300, 310), (6, 9), (9, 6)):
        for k in (-1, 0, min(shape), min(shape) + 1):
            with pytest.raises(ValueError, match=rf"k is {k}; .*1 to {min(shape) - 1}"):
                top_spectrum(torch.ones(shape), k, draws())
    for bad in (math.nan, math.inf):
        for shape in ((300, 310), (9, 6)):
            x = gaussian(*shape)
            x[4, 5] = bad
            for measure in (top_spectrum, certified):
                with pytest.raises(ValueError, match=rf"first {bad} at \(4, 5\)"):
                    measure(x, 2, draws())
    with pytest.raises((ValueError, TypeCheckError)):  # the second where the tests hold shapes to their annotations
        top_spectrum(torch.ones(5), 1, draws())
    with pytest.raises((ValueError, TypeCheckError)):
        top_spectrum(torch.ones(4, 4, dtype=torch.complex64), 1, draws())


def test_nothing_has_no_top() -> None:
    for shape in ((300, 300), (5, 9), (1, 1)):
        assert top_spectrum(torch.zeros(shape), 1, draws()) is None
    for shape in ((300, 300), (5, 9), (0, 4)):
        found = certified(torch.zeros(shape), 1, draws())
        assert found.route == ("gram",)
        assert (len(found.sigma), found.norm) == (min(shape), 0)
        ratios, counts = list(found.brackets.values())[:2], list(found.brackets.values())[2:]
        assert all(math.isnan(b.low) and math.isnan(b.high) for b in ratios)
        assert counts == [Bracket(0, 0)] * 4


class TestCertified:
    @pytest.mark.parametrize("name", SPECTRA)
    def test_krylov_only_where_it_is_narrow(self, name: str) -> None:
        true = SPECTRA[name](300).sort(descending=True).values
        found = certified(with_values(true, 300, 320), 24, draws())
        assert tuple(found.brackets) == NAMES
        assert found.norm == pytest.approx(float(true.norm()), rel=1e-13)
        for measure, bracket in found.brackets.items():
            assert bracket.width <= WIDTH
            value = MEASURES[measure](true)
            assert bracket.low - 1e-9 * value <= value <= bracket.high + 1e-9 * value, (measure, bracket, value)
        assert len(found.sigma) == (24 if found.route == ("krylov",) else 300)
        if name in ("geometric .9", "geometric .5", "rank 3", "rank 20"):
            assert found.route == ("krylov",)
        if name in ("power -1/2", "power -1", "four levels"):
            assert found.route[0].startswith("krylov: too wide: ")

    def test_the_width_asked_for_is_kept(self) -> None:
        x = with_values(SPECTRA["geometric .9"](300), 300, 300)
        widths = [b.width for b in top_spectrum(x, 30, draws(), width=1.0).brackets().values()]
        assert 1 < max(widths) < WIDTH
        assert certified(x, 30, draws(), width=max(widths)).route == ("krylov",)
        assert certified(x, 30, draws(), width=math.nextafter(max(widths), 0)).route[0].startswith("krylov: too")


def largest_ritz_values(values: torch.Tensor, block: int, depth: int, draws: int) -> torch.Tensor:
    """θ_1 of diag(values) in the block Krylov space of many Gaussian starts, in fp64."""
    space = [gaussian(draws, len(values), block, seed=7)]
    for _ in range(depth):
        space.append(torch.linalg.qr(values[:, None] * space[-1]).Q)
    basis = torch.linalg.qr(torch.cat(space, dim=2)).Q
    return torch.linalg.eigvalsh(basis.mT @ (values[:, None] * basis))[:, -1]


def worst_bulks(m: int, depth: int) -> list[torch.Tensor]:
    """Eigenvalues 1 and a bulk below it that is hard to tell from 1: flat, or where a Chebyshev polynomial is ±1."""
    bulks = []
    for gap in (0.02, 0.05, 0.1, 0.2, 0.4):
        nodes = (1 - gap) * (1 + torch.cos(math.pi * torch.arange(depth + 1, dtype=torch.float64) / depth)) / 2
        bulks.append(torch.cat([torch.ones(1), nodes.repeat(-(-m // (depth + 1)))[: m - 1]]).double())
        weighted = nodes[torch.arange(m - 1).clamp(max=depth)].clone()
        weighted[depth + 1 :] = nodes[0]
        bulks.append(torch.cat([torch.ones(1), weighted]).double())
    return bulks


@pytest.mark.parametrize(("m", "block", "depth"), [(40, 1, 2), (40, 2, 3), (60, 2, 8)])
def test_missed_ratio_against_simulation(m: int, block: int, depth: int) -> None:
    draws, failure = 200, 0.1
    rho = missed_ratio(m, block, depth, failure)
    ratios = [1 / largest_ritz_values(values, block, depth, draws) for values in worst_bulks(m, depth)]
    shares = [float((ratio > rho).double().mean()) for ratio in ratios]
    assert max(shares) <= failure + 3 * math.sqrt(failure / draws)
    misses = max(float(ratio.quantile(1 - failure)) for ratio in ratios)
    assert 1.01 < misses < rho < 1 + 8 * (misses - 1)


@pytest.mark.parametrize(("m", "block", "depth", "failure"), [(40, 1, 2, 0.3), (90, 3, 6, 0.1)])
def test_missed_ratio_is_its_formula(m: int, block: int, depth: int, failure: float) -> None:
    """F² by simulation, the Chebyshev polynomial by its recurrence, ε from a grid."""
    start = gaussian(8000, m, block)
    first = start[:, 0].norm(dim=1)
    along = (start @ (start[:, 0] / first[:, None])[:, :, None])[:, :, 0]
    F2 = float((along[:, 1:].square().sum(1) / first.square()).quantile(1 - failure))
    epsilon = torch.linspace(0.001, 0.9, 2000).double()
    x = (1 + epsilon) / (1 - epsilon)
    before, chebyshev = torch.ones_like(x), x
    for _ in range(depth - 1):
        before, chebyshev = chebyshev, 2 * x * chebyshev - before
    expected = float(((1 + F2 / chebyshev.square()) / (1 - epsilon)).min())
    assert missed_ratio(m, block, depth, failure) - 1 == pytest.approx(expected - 1, rel=0.06)
