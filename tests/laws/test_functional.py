"""Cut updates: what is put into the model at each k, and that the model comes back to the bit."""

import random
import weakref
from typing import Any

import pytest
import torch
from conftest import tiny_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lorax_lab.measure import truncation
from lorax_lab.measure.rows import KEPT_DIRECTIONS, captured, decompose, measure, to_save, with_stand_ins
from lorax_lab.measure.truncation import Change, Decomposition, controls, cuts, gaussian_like
from lorax_lab.models import base_weights, delta_view, matrices, select, short_name
from lorax_lab.record.direction import oriented
from lorax_lab.record.share import from_where
from lorax_lab.spectra import LowRank, OneByOne, edge_of, rounding_energy
from lorax_lab.streams import generator

Seen = tuple[nn.Module, dict[str, Tensor], dict[str, Tensor], dict[str, Decomposition]]


def tuned_model(kind: str) -> Seen:
    """A tiny model with a random update in every matrix: the model, its W0, its tuned weights and the SVDs."""
    model = tiny_model(kind)
    model.requires_grad_(False)
    names = select(model, ["all-linear"])
    base, draw = base_weights(model, names), generator(0, "test")
    with torch.no_grad():
        for name in names:
            delta_view(model.get_submodule(name)).add_(0.05 * torch.randn(base[name].shape, generator=draw))
    tuned = {name: delta_view(model.get_submodule(name)).clone() for name in names}
    return model, base, tuned, decompose({name: tuned[name].double() - base[name].double() for name in names})


def weights_under(model: nn.Module, base: dict[str, Tensor], changes: list[Change]) -> tuple[list[Any], list[Any]]:
    """The rows, and the weights that were in place when each of them was scored; None where it was not."""
    seen: list[dict[str, Tensor]] = []

    def score(candidate: nn.Module) -> dict[str, float]:
        seen.append({name: delta_view(candidate.get_submodule(name)).clone() for name in base})
        return {"accuracy": float(len(seen))}

    metrics = truncation.seen_under(model, base, changes, {"accuracy": 0.0}, score)
    rows = [vars(change) | of_change for change, of_change in zip(changes, metrics, strict=True)]
    return rows, [seen[int(row["accuracy"]) - 1] if row["accuracy"] else None for row in rows]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_each_cut_holds_the_top_k_and_the_remainder_the_rest(kind: str) -> None:
    model, base, tuned, directions = tuned_model(kind)
    rows, weights = weights_under(model, base, cuts(directions))
    ranks = [0, 1, 2, 4, 8, 16, 32]
    assert [(row["part"], row["k"]) for row in rows] == [(p, k) for p in ("cut", "remainder") for k in ranks]
    assert all(torch.equal(delta_view(model.get_submodule(name)), tuned[name]) for name in base)
    at = {(row["part"], row["k"]): placed for row, placed in zip(rows, weights, strict=True)}
    assert at["remainder", 0] is None
    assert at["cut", 32] is None  # the whole: its score is known
    for name in base:
        u, s, vh = torch.linalg.svd(tuned[name].double() - base[name].double(), full_matrices=False)
        assert torch.equal(at["cut", 0][name], base[name])
        assert torch.equal(at["remainder", 32][name], base[name])
        top = (u[:, :4] * s[:4]) @ vh[:4]
        torch.testing.assert_close(at["cut", 4][name], (base[name] + top).float(), atol=1e-6, rtol=0)
        torch.testing.assert_close(at["remainder", 4][name], (tuned[name] - top).float(), atol=1e-6, rtol=0)


def test_the_controls_are_what_they_are_called() -> None:
    model, base, tuned, directions = tuned_model("bert")
    noise = gaussian_like(directions, generator(1, "gaussian"))
    rows, weights = weights_under(model, base, controls(directions, generator(1, "directions"), noise))
    at = {(row["part"], row["k"], row["module"]): placed for row, placed in zip(rows, weights, strict=True)}
    ranks = (1, 4, 16)
    assert {key[:2] for key in at if key[2] is None} == {
        ("gaussian", 32),
        *((part, k) for part in ("random_at_norm", "bottom_at_norm", "scaled", "global") for k in ranks),
        *(("shrunk", k) for k in (50, 70, 80, 90)),
    }
    assert {key[1:] for key in at if key[0] == "cut"} == {(k, short_name(name)) for name in base for k in (0, *ranks)}
    of_random: list[int] = []
    for name, d in directions.items():
        delta = tuned[name].double() - base[name].double()
        placed = {key: value[name].double() - base[name].double() for key, value in at.items()}
        scaled = placed["scaled", 4, None]
        torch.testing.assert_close(scaled, delta * (d.sigma[:4].norm() / d.sigma.norm()), atol=1e-7, rtol=1e-4)
        torch.testing.assert_close(placed["shrunk", 70, None], 0.7 * delta, atol=1e-7, rtol=1e-4)
        along = {
            key: torch.einsum("oi,oj,ji->i", d.U.double(), change, d.Vh.T.double()) / d.sigma
            for key, change in placed.items()
        }
        for k in ranks:
            # at the cut's norm, of the update's own directions; the smaller draw is among the larger
            for part in ("random_at_norm", "bottom_at_norm", "scaled"):
                norm = placed[part, k, None].norm()
                torch.testing.assert_close(norm, d.sigma[:k].norm(), atol=1e-6, rtol=1e-5)
            own = (along["random_at_norm", k, None].abs() > 1e-2).nonzero().flatten()
            assert len(own) == k
            of_random += own.tolist()
            one = (along["random_at_norm", 1, None].abs() > 1e-2).nonzero().flatten()
            assert set(one.tolist()) <= set(own.tolist())
            bottom = (along["bottom_at_norm", k, None].abs() > 1e-2).nonzero().flatten()
            assert bottom.tolist() == list(range(32 - k, 32))
        torch.testing.assert_close(placed["gaussian", 32, None].norm(), d.sigma.norm(), rtol=1e-5, atol=0)
        assert abs(float((placed["gaussian", 32, None] * delta).sum() / d.sigma.norm() ** 2)) < 0.2
        for module in {short_name(other) for other in base}:
            cut = at["cut", 0, module][name]
            assert torch.equal(cut, base[name] if module == short_name(name) else tuned[name])
    assert sum(of_random) / len(of_random) == pytest.approx(31 / 2, abs=3)  # neither the top ones nor the last


def test_the_largest_values_over_all_matrices_are_as_many_as_those_of_each() -> None:
    sizes = {"large": 9.0, "small": 1.0, "zero": 0.0}
    directions = {
        name: Decomposition(torch.eye(8), size * torch.linspace(1, 0.5, 8), torch.eye(8))
        for name, size in sizes.items()
    }
    zero = torch.zeros(8, 8)
    noise = dict.fromkeys(directions, zero)
    made = {(c.part, c.k): c for c in controls(directions, generator(0, "directions"), noise) if c.module is None}
    kept = {
        k: {name: int((made["global", k].weight(name, zero, zero) != 0).sum()) for name in directions} for k in (1, 4)
    }
    assert kept == {1: {"large": 3, "small": 0, "zero": 0}, 4: {"large": 8, "small": 4, "zero": 0}}
    for part in ("random_at_norm", "bottom_at_norm"):
        assert not made[part, 4].weight("zero", zero, zero).any()


def test_directions_that_are_rounding_are_not_the_bottom_ones() -> None:
    sigma = torch.tensor([4.0, 3.0, 2.0, 1e-7, 0.0])
    directions = {"a": Decomposition(torch.eye(5), sigma, torch.eye(5))}
    changes = controls(directions, generator(0, "directions"), {"a": torch.zeros(5, 5)})
    bottom = next(c for c in changes if (c.part, c.k) == ("bottom_at_norm", 1))
    placed = bottom.weight("a", torch.zeros(5, 5), torch.zeros(5, 5))
    torch.testing.assert_close(placed, torch.diag(torch.tensor([0, 0, 4.0, 0, 0])))


@pytest.mark.parametrize("is_monotone", [True, False])
def test_bisection_finds_what_the_whole_curve_says(is_monotone: bool, higher: bool) -> None:
    """Of a curve that rises and falls it finds a size that keeps enough between one that does not and one that does;
    the scores that it asked for say the same."""
    sizes, draw = truncation.cut_ranks(768)[:-1], random.Random(0)
    for _ in range(300):
        scores = [draw.random() for _ in sizes]
        curve = dict(zip(sizes, sorted(scores) if is_monotone else scores, strict=True))
        asked: set[int] = set()
        needed = draw.uniform(0, 1.1)
        smallest = truncation.bisected(
            sizes, lambda k, asked=asked, curve=curve, needed=needed: asked.add(k) or curve[k] >= needed
        )
        by_all = {size: oriented(score, higher) for size, score in curve.items()} | {768: oriented(1.2, higher)}
        by_asked = {size: by_all[size] for size in (*asked, 768)}
        expected = from_where(by_all, oriented(needed, higher), higher)
        assert from_where(by_asked, oriented(needed, higher), higher) == (768 if smallest is None else smallest)
        if is_monotone:
            assert len(asked) <= len(sizes).bit_length() + 1
            assert expected == (768 if smallest is None else smallest)
        elif smallest is not None:
            place = sizes.index(smallest)
            assert curve[smallest] >= needed
            assert place == 0 or curve[sizes[place - 1]] < needed
            assert place + 1 == len(sizes) or curve[sizes[place + 1]] >= needed


def test_the_model_comes_back_when_scoring_fails() -> None:
    model = tiny_model("bert")
    names = select(model, ["query"])
    base = base_weights(model, names)
    directions = {name: Decomposition(*torch.linalg.svd(torch.randn(32, 32).double())) for name in names}

    def score(_: torch.nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        truncation.seen_under(model, base, cuts(directions), {}, score)
    assert all(torch.equal(delta_view(model.get_submodule(name)), base[name]) for name in names)


def test_captured_share_of_a_planted_update() -> None:
    draw = generator(1, "test")
    b, a = torch.randn(40, 2, generator=draw), torch.randn(2, 60, generator=draw)
    planted = 3.0 * b.double() @ a.double()
    inside = captured(LowRank(b, a, 0.1), planted)
    assert (inside.column_share, inside.row_share, inside.best) == pytest.approx((1, 1, 1))
    one_sided = captured(LowRank(b, torch.randn(2, 60, generator=draw), 1.0), planted)
    assert one_sided.column_share == pytest.approx(1)
    assert one_sided.row_share < 0.5
    zero = captured(LowRank(torch.zeros(40, 2), a, 1.0), planted)
    assert (zero.column_share, zero.row_share) == (None, None)
    assert captured(LowRank(b, a, 1.0), torch.zeros(40, 60)).best is None


def test_the_best_share_counts_as_many_directions_as_the_rank() -> None:
    draw = generator(4, "test")
    planted = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64))
    for rank, share in ((1, 16 / 30), (2, 25 / 30), (3, 29 / 30)):
        update = LowRank(torch.randn(4, rank, generator=draw), torch.randn(rank, 4, generator=draw), 1.0)
        found = captured(update, planted)
        assert found.best == pytest.approx(share)
        assert max(found.column_share or 0, found.row_share or 0) <= share + 1e-9


def test_all_values_are_kept_in_fp64_and_the_top_directions_in_fp32() -> None:
    assert KEPT_DIRECTIONS == 32
    draw = generator(6, "test")
    decompositions = decompose(
        {"wide": torch.randn((40, 60), generator=draw), "small": torch.randn((5, 8), generator=draw)}
    )
    for name, kept in to_save(decompositions).items():
        whole, count = decompositions[name], min(32, len(decompositions[name].sigma))
        assert (kept["sigma"].dtype, kept["U"].dtype, kept["Vh"].dtype) == ("float64", "float32", "float32")
        assert kept["sigma"].tolist() == whole.sigma.tolist()
        assert torch.equal(torch.from_numpy(kept["U"]), whole.U[:, :count].float())
        assert torch.equal(torch.from_numpy(kept["Vh"]), whole.Vh[:count].float())


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, of those that are made inside it and map no file."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.peak, self.storages = 0, 0, set[int]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and not function._schema.is_mutable and tensor._base is None:
                storage = tensor.untyped_storage()
                if storage.resizable() and storage._cdata not in self.storages:
                    self.storages.add(storage._cdata)
                    self.bytes += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.bytes)
        return result

    def _freed(self, key: int, size: int) -> None:
        self.storages.discard(key)
        self.bytes -= size


def test_memory_is_bounded_by_the_largest_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "MAPPED", 1)
    peaks = []
    for count in (1, 6):
        names = [f"{index}.dense" for index in range(count)]
        model = nn.ModuleList(nn.ModuleDict({"dense": nn.Linear(256, 192)}) for _ in names)
        updates = OneByOne(names, lambda name: torch.randn(192, 256, generator=generator(0, name)).double())
        with Live() as live:
            live.storages |= {weight.untyped_storage()._cdata for weight in model.parameters()}
            base, directions = base_weights(model, names), decompose(updates)
            table = with_stand_ins(measure(updates, base), gaussian_like(directions, generator(0, "noise")), base)
            kept = to_save(directions, gaussian_like(directions, generator(0, "noise")))
        assert list(kept) == list(table) == names
        for name in names:
            assert torch.equal(base[name], delta_view(model.get_submodule(name)))
        peaks.append(live.peak)
    assert peaks[1] < 1.2 * peaks[0], peaks
    assert peaks[0] < 10 * 192 * 256 * 8


def test_the_rounding_is_that_of_the_tuned_weights_in_their_format() -> None:
    base, tuned = torch.full((8, 8), 1.0), torch.full((8, 8), 64.0)
    update = tuned.double() - base.double()
    for dtype, eps in ((torch.float32, 2.0**-23), (torch.bfloat16, 2.0**-7)):
        rounding = measure({"q": update}, {"q": base}, dtype=dtype)["q"].rounding
        assert rounding.edge == pytest.approx(edge_of(*rounding_energy(tuned, dtype)))
        assert rounding.energy == pytest.approx((64 * eps) ** 2 / 12 * 64)
