"""Laws of random subspaces: right gradients, the transform, the norms that are declared, and both ends of d."""

import copy
import re

import pytest
import torch
from conftest import tiny_model
from scipy.linalg import hadamard as scipys
from test_methods import BATCH, attach, method_config, outputs, train
from torch import Tensor, nn

from lorax_lab.errors import ConfigError
from lorax_lab.methods import METHODS, subspace
from lorax_lab.methods.subspace import (
    BLOCK,
    BODY,
    FASTFOOD,
    GATHER,
    NORM,
    SCALED,
    WEIGHT,
    Subspace,
    hadamard,
    numbers_read,
)  # fmt: skip
from lorax_lab.models import adaptable, checkpoint_layers, head_modules, is_head, select
from lorax_lab.record.checkpoints import load_trained, trained_tensors
from lorax_lab.streams import generator

METHOD = METHODS["subspace"]
projections = pytest.mark.parametrize("projection", [GATHER, FASTFOOD, SCALED])


class Small(nn.Module):
    """Two layers of 5 × 7 and 3 × 5 weights, and a head; what `attach` takes for a model."""

    base_model_prefix = "body"

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))
        self.head = nn.Linear(3, 2)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator(0, "model"))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.body(x))
        return result


def small(dimension: int, projection: str = GATHER, scale: str = NORM, seed: int = 0) -> tuple[Small, Subspace]:
    """A small model in fp64 with a subspace of its body."""
    model = Small().double()
    settings = subspace.SubspaceConfig(dimension=dimension, projection=projection, over=BODY, scale=scale)
    METHOD.attach(model, select(model, ["all-linear"]), settings, None, generator(seed, "adapter"))
    return model, subspace_of(model)


def subspace_of(model: nn.Module) -> Subspace:
    return next(module for module in model.modules() if isinstance(module, Subspace))


def shift(space: Subspace, z: Tensor) -> list[Tensor]:
    """P z of each tensor."""
    with torch.no_grad():
        space.z.copy_(z)
        return [space.weight(place) - base for place, base in enumerate(space.bases)]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(1, "test"), dtype=torch.float64)


@projections
@pytest.mark.parametrize("dimension", [3, 40])
def test_the_gradient_is_that_of_central_differences(projection: str, dimension: int) -> None:
    """Where some tensors have fewer numbers than z as well; public code is wrong by the padded length of each."""
    model, space = small(dimension, projection)
    trained, x = list(space.parameters()), normal(4, 7)
    with torch.no_grad():
        space.z.copy_(normal(dimension))

    def loss() -> Tensor:
        return model(x).square().sum()

    gradients, step = torch.autograd.grad(loss(), trained), 1e-5
    for parameter, gradient in zip(trained, gradients, strict=True):
        for place in range(parameter.numel()):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[place] += sign * step
                    values.append(loss())
                    parameter[place] -= sign * step
            difference = (values[0] - values[1]) / (2 * step)
            torch.testing.assert_close(gradient[place], difference, rtol=1e-6, atol=1e-6 * float(gradient.norm()))


@pytest.mark.parametrize("bits", range(9))
def test_the_transform_is_scipys_matrix(bits: int) -> None:
    x = normal(2**bits)
    torch.testing.assert_close(hadamard(x), torch.from_numpy(scipys(2**bits, dtype=float)) @ x)


@pytest.mark.parametrize("dimension", [1, 3, 17, 58])
def test_gather_is_isometric_over_all_tensors_together(dimension: int) -> None:
    _, space = small(dimension, GATHER)
    z = normal(dimension)
    moved = torch.cat([part.flatten() for part in shift(space, z)])
    torch.testing.assert_close(moved.norm(), z.norm())
    columns = torch.stack([torch.cat([p.flatten() for p in shift(space, unit)]) for unit in torch.eye(dimension)])
    torch.testing.assert_close(columns @ columns.t(), torch.eye(dimension, dtype=torch.float64))


@pytest.mark.parametrize("dimension", [1, 3, 17, 58])
def test_scaled_for_weights_each_weight_changes_by_its_number(dimension: int) -> None:
    """So one step of an optimizer that divides by the gradient's size moves every weight by the learning rate."""
    _, space = small(dimension, GATHER, WEIGHT)
    for part in shift(space, torch.full((dimension,), 0.25)):
        torch.testing.assert_close(part.abs(), torch.full_like(part, 0.25))


def test_each_number_is_read_equally_often_and_blocks_mix_them() -> None:
    sizes = [3 * BLOCK + 5, 7, BLOCK]
    for dimension in (1, 1000, 40_000, sum(sizes)):
        counts = numbers_read(sizes, dimension, generator(0, "adapter")).bincount(minlength=dimension)
        assert set(counts.tolist()) <= {sum(sizes) // dimension, sum(sizes) // dimension + 1}
    first, second = (numbers_read(sizes, 1000, generator(seed, "adapter")) for seed in (0, 1))
    assert not torch.equal(first, second)
    assert abs(float(torch.corrcoef(torch.stack([first[1:].double(), first[:-1].double()]))[0, 1])) < 0.05


@pytest.mark.parametrize("scale", [NORM, WEIGHT])
@pytest.mark.parametrize("dimension", [3, 40])
def test_fastfood_gives_each_tensor_the_norm_of_z_or_each_weight_its_mean_square(dimension: int, scale: str) -> None:
    z, draws = normal(dimension), 400
    shifts = [shift(small(dimension, FASTFOOD, scale, seed)[1], z) for seed in range(draws)]
    squares = torch.tensor([[part.square().sum() for part in parts] for parts in shifts])
    sizes = torch.tensor([part.numel() for part in shifts[0]])
    expected = z.square().sum() * (1 if scale == NORM else sizes / dimension)
    error = squares.std(0) / draws**0.5
    assert bool(((squares.mean(0) - expected).abs() < 4 * error).all())
    assert bool((error < 0.2 * expected).all())


def test_a_learned_scale_of_a_layer_is_one_at_the_start_and_multiplies_its_shift() -> None:
    (_, plain), (_, scaled) = small(3, FASTFOOD), small(3, SCALED)
    z = normal(3)
    assert len(scaled.scales) == 2  # layers 0 and 2
    torch.testing.assert_close(shift(scaled, z), shift(plain, z))
    with torch.no_grad():
        scaled.scales[1] = 3.0
    factors = [1, 1, 3, 3]  # weight and bias of each
    torch.testing.assert_close(shift(scaled, z), [f * s for f, s in zip(factors, shift(plain, z), strict=True)])


def test_as_many_numbers_as_weights_is_full_fine_tuning() -> None:
    """A signed permutation of the gradient, so that SGD takes the same steps."""
    full, (model, _), x, y = Small().double(), small(58, GATHER), normal(8, 7), normal(8, 2)
    losses: dict[nn.Module, list[float]] = {}
    for each in (full, model):
        optimizer = torch.optim.SGD([p for p in each.parameters() if p.requires_grad], lr=0.01)
        for _ in range(20):
            optimizer.zero_grad()
            loss = (each(x) - y).square().mean()
            loss.backward()
            optimizer.step()
            losses.setdefault(each, []).append(loss.item())
    assert losses[full][-1] < 0.8 * losses[full][0]
    assert losses[model] == pytest.approx(losses[full], rel=1e-9)
    assert torch.allclose(model.body[0].weight, full.body[0].weight)


@pytest.mark.parametrize("projection", [GATHER, FASTFOOD])
def test_a_planted_dimension_comes_back(projection: str) -> None:
    """Five equations in the weights are solved in a subspace of five numbers or more, as in Li et al. 2018, and of no
    fewer."""
    equations, wanted = normal(5, 58), torch.linspace(-1, 1, 5, dtype=torch.float64)
    left = {}
    for dimension in (3, 4, 5, 6):
        _, space = small(dimension, projection)
        optimizer = torch.optim.LBFGS([space.z], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def loss(space: Subspace = space, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            moved = [space.weight(place) - base for place, base in enumerate(space.bases)]
            missed = (equations @ torch.cat([part.flatten() for part in moved]) - wanted).square().sum()
            missed.backward()
            return missed

        optimizer.step(loss)
        left[dimension] = loss().item()
    assert min(dimension for dimension, missed in left.items() if missed < 1e-9) == 5
    assert left[4] > 1e-3


def steps(model: nn.Module, count: int) -> Tensor:
    """Train so many steps; returns what the model then says."""
    train(model, count, torch.optim.SGD, rate=0.1)
    return outputs(model)


@projections
def test_the_same_seed_goes_on_in_the_same_bits_and_another_size_is_refused(projection: str) -> None:
    config = method_config("subspace", dimension=50, projection=projection)
    straight, _ = attach("bert", "subspace", config)
    broken, _ = attach("bert", "subspace", config)
    expected = steps(straight, 4)
    steps(broken, 2)
    saved = copy.deepcopy(trained_tensors(broken))
    assert sum(t.numel() for t in saved.values()) < 2000  # P is in none of it
    again, _ = attach("bert", "subspace", config)
    load_trained(again, saved)
    assert torch.equal(steps(again, 2), expected)
    larger, _ = attach("bert", "subspace", method_config("subspace", dimension=51, projection=projection))
    with pytest.raises(ValueError, match="other parameters"):
        load_trained(larger, saved)


@projections
def test_what_a_model_says_without_gradients_follows_every_change_of_z(projection: str) -> None:
    """Weights are kept between passes without gradients, also where `.data` is written."""
    model, space = small(3, projection)
    x, answers = normal(2, 7), []
    with torch.no_grad():
        for value in (0.0, 0.0, 1.0):
            space.z.data.fill_(value)
            answers.append(model(x))
        assert torch.equal(answers[0], Small().double()(x))
        assert torch.equal(answers[0], answers[1])
        assert not torch.equal(answers[1], answers[2])
        twin = copy.deepcopy(model)
        subspace_of(twin).z.fill_(2.0)
        assert torch.equal(model(x), answers[2])
        assert not torch.equal(twin(x), answers[2])
    model(x).sum().backward()
    assert space.z.grad is not None
    assert not space.made


def test_layers_that_compute_again_have_the_same_gradient() -> None:
    gradients = []
    for checkpoints in (False, True):
        model, _ = attach("bert", "subspace", method_config("subspace", dimension=50))
        if checkpoints:
            checkpoint_layers(model)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model(**BATCH).loss.backward()
        gradients.append(subspace_of(model).z.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_autocast_does_not_round_the_shift() -> None:
    _, space = small(3, FASTFOOD)
    z = normal(3)
    exact = shift(space, z)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, shift(space, z), exact))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_the_whole_body_is_every_parameter_but_the_heads(kind: str) -> None:
    model = tiny_model(kind)
    heads, names = head_modules(model), list(adaptable(model))
    body = {name for name, _ in model.named_parameters() if not is_head(name, heads)}
    assert set(subspace.shifted(model, names, subspace.SubspaceConfig(over=BODY))) == body
    shifted = subspace.shifted(model, names, subspace.SubspaceConfig())
    assert set(shifted) == {f"{name}.weight" for name in names}
    model, _ = attach(kind, "subspace", method_config("subspace", over=BODY), steps=2)
    bare = dict(tiny_model(kind).named_parameters())
    (saved,) = METHOD.export(model, subspace.SubspaceConfig(), "public/name").values()
    assert set(saved) == set(tiny_model(kind).state_dict())
    assert all(not torch.equal(saved[name], bare[name]) for name in body)


def test_what_cannot_be_is_refused_with_its_key_and_value() -> None:
    from lorax_lab.launch.compose import compose

    for setting in ("dimension=0", "projection=dense", "over=head", "scale=2"):
        with pytest.raises(ConfigError, match=rf"method\.{setting}"):
            compose(["method=subspace", f"method.{setting}"])
    with pytest.raises(ConfigError, match=r"rank=8.*method\.dimension=1000"):
        compose(["method=subspace", "rank=8"])
    model = tiny_model()
    names = list(adaptable(model))
    with pytest.raises(ConfigError, match=r"method\.dimension=16385.*=16384"):
        METHOD.check_base(subspace.SubspaceConfig(dimension=16385), model, names)
    names, tied = [names[0]], model.get_submodule(names[0])
    model.get_submodule(list(adaptable(model))[1]).weight = tied.weight
    for over in (BODY, "matrices"):
        with pytest.raises(ConfigError, match=rf"method\.over={over} .*{re.escape(names[0])}"):
            METHOD.check_base(subspace.SubspaceConfig(dimension=5, over=over), model, names)
