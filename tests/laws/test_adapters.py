"""The updates read from a PEFT adapter's files are those of PEFT's own merge into the original base weights."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lorax_lab.errors import ConfigError
from lorax_lab.methods import adapters
from lorax_lab.methods.adapters import AdapterUpdate, read_adapter
from lorax_lab.spectra import LowRank
from lorax_lab.streams import generator

WORDS, WIDTH, RANK = 20, 12, 4
LINEAR, CONV1D = ["q", "o"], ["up", "square"]
ONE = "layers.0.q"


class Block(nn.Module):
    """Linear layers wide and tall, one whose name ends like another's, and GPT-2's layers, one of them square."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.o, self.kq = nn.Linear(WIDTH, 8), nn.Linear(8, WIDTH), nn.Linear(WIDTH, 8)
        self.up, self.square = Conv1D(16, WIDTH), Conv1D(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.o(self.q(x) + self.kq(x)) + self.square(self.up(x))[..., :WIDTH]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.layers = nn.Embedding(WORDS, WIDTH), nn.Sequential(Block(), Block())
        self.head, self.picture = nn.Linear(WIDTH, 3), nn.Conv2d(3, 5, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layers(self.words(tokens)))


def network() -> Network:
    model, draw = Network(), generator(0, "network")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) / 3)
    return model


def tuned(targets: list[str], **settings: object) -> Any:
    """A PEFT model of which every trainable number has moved."""
    from peft import LoraConfig, get_peft_model

    settings = {"r": RANK, "lora_alpha": 6, "fan_in_fan_out": targets == CONV1D} | settings
    torch.manual_seed(0)
    model = get_peft_model(network(), LoraConfig(target_modules=targets, **settings))
    return moved(model)


def moved(model: nn.Module) -> Any:
    draw = generator(1, "moves")
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn(parameter.shape, generator=draw) / 3)
    return model


def merged_differences(folder: Path) -> dict[str, Tensor]:
    """PEFT's merged weights minus the original ones, (out, in), for every module that changed."""
    from peft import PeftModel

    before, after = network(), PeftModel.from_pretrained(network(), folder).merge_and_unload()
    differences = {}
    for name, module in before.named_modules():
        if isinstance(getattr(module, "weight", None), Tensor) and module.weight.ndim == 2:
            change = (after.get_submodule(name).weight.double() - module.weight.double()).detach()
            differences[name] = change.T if isinstance(module, Conv1D) else change
    return {name: change for name, change in differences.items() if change.any()}


def assert_same(found: LowRank | Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    dense = found.dense() if isinstance(found, LowRank) else found
    assert dense.dtype == torch.float64
    assert dense.shape == expected.shape
    assert expected.norm() > 0.05
    assert (dense - expected).norm() <= tolerance * expected.norm()


def assert_as_merged(folder: Path) -> dict[str, AdapterUpdate]:
    """Every update of the folder equals PEFT's, with the base's weights as they are stored."""
    updates, expected, base = read_adapter(folder).updates, merged_differences(folder), network()
    assert updates.keys() >= expected.keys()
    for name, update in updates.items():
        if name not in expected:  # nothing is left of it
            assert len(update.product.A) == 0
            continue
        assert update.name == name
        stored = base.get_submodule(name).weight
        assert_same(update.update(update.oriented(stored)), expected[name])
        if not update.needs_base:
            assert_same(update.update(), expected[name])
    return updates


METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "rslora+dora": {"use_dora": True, "use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa+rslora": {"init_lora_weights": "pissa", "use_rslora": True},
    "pissa+dora": {"init_lora_weights": "pissa", "use_dora": True},
}
everywhere = pytest.mark.parametrize("targets", [LINEAR, CONV1D, ["words"]], ids=["linear", "conv1d", "embedding"])


@everywhere
@pytest.mark.parametrize("kind", METHODS)
def test_the_update_is_pefts(kind: str, targets: list[str], tmp_path: Path) -> None:
    tuned(targets, **METHODS[kind]).save_pretrained(tmp_path)
    updates = assert_as_merged(tmp_path)
    assert len(updates) == (1 if targets == ["words"] else 4)
    if targets == ["words"]:
        kind = kind.removeprefix("pissa+") if "+" in kind else kind.replace("pissa", "lora")  # PEFT leaves these alone
    assert {update.kind for update in updates.values()} == {kind}
    assert {update.needs_base for update in updates.values()} == {"pissa" in kind or "dora" in kind}


PLAIN = [("lora", {"init_lora_weights": start}) for start in (True, False, "gaussian", "orthogonal", "mica", "eva")]
OLORA = {"init_lora_weights": "olora"}


@pytest.mark.filterwarnings("ignore:`init_lora_weights` is 'eva' but", "ignore:lora with eva initialization used with")
@pytest.mark.parametrize(
    ("kind", "settings"), [*PLAIN, ("olora", OLORA), ("olora+rslora", OLORA | {"use_rslora": True, "r": 10})]
)
def test_of_other_starts_only_olora_changes_the_base(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """It has no more directions than the matrix, whatever its rank."""
    tuned(LINEAR, **settings).save_pretrained(tmp_path)
    updates = assert_as_merged(tmp_path)
    assert {update.kind for update in updates.values()} == {kind}
    assert len(updates[ONE].product.A) == min(8, settings.get("r", RANK))


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize("rslora", [False, True])
@everywhere
def test_ranks_and_alphas_follow_pefts_patterns(targets: list[str], rslora: bool, tmp_path: Path) -> None:
    targets = ["q", "o", "kq"] if targets == LINEAR else targets
    patterns = {
        "rank_pattern": {r"layers\.1\.(q|square)": 2, "q": 3, "up": 6, "words": 5, "0": 7},
        "alpha_pattern": {r"layers\.[0-9]\.o": 5, "q": 13, "layers.0.q": 9, "o": 7, "square": 3, "word": 11},
    }
    tuned(targets, use_rslora=rslora, **patterns).save_pretrained(tmp_path)
    updates = assert_as_merged(tmp_path)  # where patterns overlap, PEFT takes another one when it loads the file
    if "q" in targets:
        assert updates[ONE].product.scaling == 9 / (3**0.5 if rslora else 3)


def adalora(folder: Path, targets: list[str], steps: int, alpha: int) -> None:
    """An AdaLoRA adapter trained until its ranks were cut, if `steps` reach that far."""
    from peft import AdaLoraConfig, get_peft_model

    settings = {"init_r": 6, "target_r": 2, "total_step": 10, "tinit": 1, "tfinal": 2, "deltaT": 1}
    settings |= {"lora_alpha": alpha, "fan_in_fan_out": targets == CONV1D}
    torch.manual_seed(0)
    model = moved(get_peft_model(network(), AdaLoraConfig(target_modules=targets, **settings)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for step in range(1, steps + 1):
        model(torch.arange(WORDS)).square().mean().backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    model.save_pretrained(folder)


@pytest.mark.filterwarnings("ignore:The following rank_pattern keys did not match:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Adapter 'default'. . LoRA tensor.s. have invalid shape")  # a rank of 0
@pytest.mark.parametrize("alpha", [5, 0])
@pytest.mark.parametrize("steps", [0, 10])
@pytest.mark.parametrize("targets", [LINEAR, CONV1D], ids=["linear", "conv1d"])
def test_adalora_is_what_peft_makes_of_the_saved_files(
    targets: list[str], steps: int, alpha: int, tmp_path: Path
) -> None:
    adalora(tmp_path, targets, steps, alpha)
    updates = assert_as_merged(tmp_path)
    assert {update.kind for update in updates.values()} == {"adalora"}
    ranks = [len(update.product.A) for update in updates.values()]
    assert ranks == [6] * 4 if steps == 0 else sum(ranks) == 8
    if alpha:
        assert {update.product.scaling for update in updates.values()} == {5 / (6 + 1e-5)}


@pytest.mark.filterwarnings("ignore:Adapter 'default'. . LoRA tensor.s. have invalid shape")  # PEFT's biases
def test_biases_heads_and_token_rows_are_noted_and_the_rest_is_measured(tmp_path: Path) -> None:
    tokens = {"words": [1, 2]}
    settings = {"bias": "all", "lora_bias": True, "modules_to_save": ["head"], "trainable_token_indices": tokens}
    from peft import PeftModel

    model = tuned([*LINEAR, "picture"], **settings)
    model.save_pretrained(tmp_path)
    adapter, expected = read_adapter(tmp_path), merged_differences(tmp_path)
    assert len(adapter.updates) == 5
    picture = adapter.updates["picture"]
    change = PeftModel.from_pretrained(network(), tmp_path).merge_and_unload().picture.weight - network().picture.weight
    expected["picture"] = change.detach().double().flatten(1)
    for name, update in adapter.updates.items():
        assert_same(update.update(), expected[name])
    assert picture.foreign
    notes = "\n".join(adapter.notes)
    assert all(name in notes for name in ("layers.0.o.lora_B.bias", "words.token_adapter"))
    assert torch.equal(adapter.saved["head.weight"], model.base_model.model.head.modules_to_save.default.weight)
    assert torch.equal(adapter.saved["layers.0.q.bias"], model.base_model.model.layers[0].q.base_layer.bias)


def test_an_old_bin_file_is_read_and_beside_safetensors_it_is_not(tmp_path: Path) -> None:
    tuned(LINEAR).save_pretrained(tmp_path)
    product = read_adapter(tmp_path / adapters.WEIGHTS).updates[ONE].product
    tensors = load_file(tmp_path / adapters.WEIGHTS)
    (tmp_path / adapters.WEIGHTS).unlink()
    torch.save(tensors, tmp_path / "adapter_model.bin")
    for path in (tmp_path, tmp_path / "adapter_model.bin"):
        assert torch.equal(read_adapter(path).updates[ONE].product.dense(), product.dense())
    save_file({key: 2 * tensor for key, tensor in tensors.items()}, tmp_path / adapters.WEIGHTS)
    assert torch.equal(read_adapter(tmp_path).updates[ONE].product.A, 2 * product.A)


def test_half_precision_factors_and_magnitudes(tmp_path: Path) -> None:
    tuned(LINEAR, use_dora=True).save_pretrained(tmp_path)
    file = tmp_path / adapters.WEIGHTS
    save_file({key: tensor.bfloat16() for key, tensor in load_file(file).items()}, file)
    assert_as_merged(tmp_path)


SETTINGS: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "org/base"}
KEY = f"base_model.model.{ONE}."


def factors() -> dict[str, Tensor]:
    draw = generator(2, "factors")
    return {
        KEY + "lora_A.weight": torch.randn(4, 12, generator=draw),
        KEY + "lora_B.weight": torch.randn(8, 4, generator=draw),
    }


def write(folder: Path, changes: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None) -> Path:
    """A small adapter's files with some settings or tensors changed; None takes a tensor out."""
    folder.mkdir(exist_ok=True)
    (folder / adapters.SETTINGS).write_text(json.dumps(SETTINGS | (changes or {})))
    kept = {key: tensor for key, tensor in (factors() | (tensors or {})).items() if tensor is not None}
    save_file(kept, folder / adapters.WEIGHTS)
    return folder


@pytest.mark.parametrize("turned", [False, True])
def test_a_stored_weight_is_turned_where_it_does_not_fit_or_the_settings_say_so(turned: bool, tmp_path: Path) -> None:
    square = {"x.lora_A.weight": torch.ones(4, 5), "x.lora_B.weight": torch.ones(5, 4)}
    rows = {"w.lora_embedding_A": torch.ones(4, 6), "w.lora_embedding_B": torch.ones(6, 4)}
    updates = read_adapter(write(tmp_path, {"fan_in_fan_out": turned}, square | rows)).updates
    weights = {ONE: torch.rand(8, 12), "x": torch.rand(5, 5), "w": torch.rand(6, 6)}
    expected = weights | {"x": weights["x"].T if turned else weights["x"]}
    for name, weight in weights.items():
        assert torch.equal(updates[name].oriented(weight), expected[name])
    assert torch.equal(updates[ONE].oriented(weights[ONE].T), weights[ONE])
    assert updates[ONE].oriented(torch.zeros(3, 8)).shape == (3, 8)


ZEROS = torch.zeros
A, B = f"{KEY}lora_A.weight", f"{KEY}lora_B.weight"
ADALORA = {"peft_type": "ADALORA", "init_r": 4}
NAN = float("nan")
WRONG: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "peft_type=LOHA": [({"peft_type": "LOHA"}, {})],
    **{f"{key}=[1]": [({key: [1]}, {})] for key in adapters.REFUSED},
    "init_lora_weights": [({"init_lora_weights": start}, {}) for start in ("corda", "lora_ga", "pissa_niter_16")]
    + [({"init_lora_weights": "olora", "fan_in_fan_out": True}, {})],
    f"{ONE}: lora_B": [({}, {B: None}), ({}, {B: torch.full((8, 4), NAN)})],
    f"{ONE}: lora_A": [({}, {A: None}), ({}, {A: ZEROS(4)}), ({}, {A: ZEROS(4, 12, dtype=torch.int32)})],
    "w: lora_embedding_B": [({}, {"w.lora_embedding_A": ZEROS(4, 9)})],
    f"{ONE}: lora_E": [(ADALORA, {}), (ADALORA, {KEY + "lora_E": ZEROS(4, 2)})],
    f"{ONE}: lora_magnitude_vector": [
        ({"use_dora": True}, {}),
        ({}, {KEY + "lora_magnitude_vector": ZEROS(8)}),
        ({"use_dora": True}, {KEY + "lora_magnitude_vector": ZEROS(12)}),
    ],
    f"{ONE}: B has shape": [({}, {B: ZEROS(8, 5)})],
    "rank 4": [
        ({"r": 8}, {}),
        ({"r": 3, "init_lora_weights": "pissa"}, {}),
        (ADALORA | {"rank_pattern": {ONE + ".lora_E": [True, True, False]}}, {KEY + "lora_E": ZEROS(4, 1)}),
    ],
    "r=": [({"r": value}, {}) for value in (0, -2, 1.5, "two", None)] + [({"rank_pattern": {".*": "many"}}, {})],
    "lora_alpha=": [({"lora_alpha": value}, {}) for value in (NAN, "8", True, None, [1], 1e300)]
    + [({"alpha_pattern": {"q": float("inf")}}, {}), (ADALORA | {"lora_alpha": 1e300}, {KEY + "lora_E": ZEROS(4, 1)})],
    "rank_pattern=": [({"rank_pattern": {bad: 4}}, {}) for bad in ("q(", "a?" * 10**5, "(?=q)q", "\ud800")]
    + [({"rank_pattern": ["a"]}, {})],
    "alpha_pattern=[3]": [({"alpha_pattern": [3]}, {})],
    "lora_A.default.weight": [({}, {KEY + "lora_A.default.weight": ZEROS(4, 12)})],
    "none of its tensors": [({}, dict.fromkeys(factors()) | {"head.weight": ZEROS(2, 2)})],
}
"""What is named, and the changes of settings and tensors by which it is."""


@pytest.mark.parametrize("named", WRONG)
def test_what_does_not_fit_is_refused_by_name(named: str, tmp_path: Path) -> None:
    for place, (changes, tensors) in enumerate(WRONG[named]):
        folder = write(tmp_path / str(place), changes, tensors)
        with pytest.raises(ConfigError) as caught:
            read_adapter(folder)
        assert named in str(caught.value)
        assert str(folder / adapters.WEIGHTS) in str(caught.value)
        assert "\n" not in str(caught.value)


DAMAGED: dict[str, Callable[[Path, Path], object]] = {
    "no weights": lambda file, _: file.unlink(),
    "no settings": lambda _, settings: settings.unlink(),
    **{text[:9]: lambda _, settings, text=text: settings.write_text(text)
       for text in ("[" * 100_000, "[]", "", "{", "{}", '{"peft_type": 5}', '{"r": ' + "9" * 5000)},
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_files_are_refused_by_name(how: str, tmp_path: Path) -> None:
    DAMAGED[how](write(tmp_path) / adapters.WEIGHTS, tmp_path / adapters.SETTINGS)
    with pytest.raises(ConfigError, match="adapter_") as caught:
        read_adapter(tmp_path)
    assert "weights_only=False" not in str(caught.value)


# ---- loralib and kohya: the key maps


def plain(names: dict[str, tuple[int, int]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors (B, A) of matrices of these shapes."""
    draw = generator(4, "plain")
    return {name: (torch.randn(out, 3, generator=draw), torch.randn(3, inner, generator=draw))
            for name, (out, inner) in names.items()}  # fmt: skip


def as_loralib(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {
        f"{name}.lora_{part}": tensor for name, pair in pairs.items() for part, tensor in zip("BA", pair, strict=True)
    }


def as_kohya(pairs: dict[str, tuple[Tensor, Tensor]], prefix: str) -> dict[str, Tensor]:
    tensors = {}
    for name, (B_, A_) in pairs.items():
        key = prefix + (name.replace(".", "_") if prefix.endswith("_") else name)
        tensors |= {f"{key}.lora_down.weight": A_, f"{key}.lora_up.weight": B_, f"{key}.alpha": torch.tensor(6)}
    return tensors


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path) if path.suffix == ".safetensors" else torch.save(contiguous, path)
    return path


NAMES = {"h.0.q": (8, 12), "h.0.up": (16, 12), "h.1.q": (8, 12)}


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".safetensors"])
def test_loralib_is_alpha_over_r_times_b_a(suffix: str, tmp_path: Path) -> None:
    pairs = plain(NAMES)
    adapter = read_adapter(saved(tmp_path / f"it{suffix}", as_loralib(pairs) | {"head.weight": ZEROS(2, 8)}), alpha=6)
    assert adapter.updates.keys() == pairs.keys()
    for name, (B_, A_) in pairs.items():
        assert_same(adapter.updates[name].update(), 2 * B_.double() @ A_.double(), 1e-12)
    assert list(adapter.saved) == ["head.weight"]


@pytest.mark.parametrize("enabled", [[True, False, True], [True, True, True], [False, True, False]])
def test_a_merged_linear_is_read_group_by_group(enabled: list[bool], tmp_path: Path) -> None:
    """ΔW as loralib's own code makes it: a convolution with groups, whose rows are put where the enabled thirds are."""
    groups, draw = sum(enabled), generator(5, "groups")
    A_, B_ = torch.randn(groups * 3, 20, generator=draw), torch.randn(groups * 10, 3, generator=draw)
    delta = 2 * torch.nn.functional.conv1d(A_[None].double(), B_[..., None].double(), groups=groups)[0]
    updates = read_adapter(saved(tmp_path / "it.bin", as_loralib({"c": (B_, A_)})), alpha=6).updates
    assert len(updates) == groups
    for update, block in zip(updates.values(), delta.chunk(groups), strict=True):
        assert_same(update.update(), block, 1e-12)
        assert bool(update.foreign) == (groups > 1)


EMBEDDINGS = ("transformer.wpe", "shared", "model.embed_tokens", "SelfAttention.relative_attention_bias")
LAYERS = ("mlp.shared_expert.up_proj", "embeddings_project", "time_embedding.linear_1", "lm_head")


@pytest.mark.parametrize("name", [*EMBEDDINGS, *LAYERS])
def test_only_an_embedding_is_turned_as_loralib_turns_it(name: str, tmp_path: Path) -> None:
    (update,) = read_adapter(saved(tmp_path / "it.bin", as_loralib(plain({name: (16, 50)}))), alpha=3).updates.values()
    assert update.shape == ((50, 16) if name in EMBEDDINGS else (16, 50))


@pytest.mark.parametrize("prefix", ["lora_", "lora_te_", "lora_unet_", "model.", "base_model.model.", ""])
def test_kohya_is_placed_by_the_names_of_the_base(prefix: str, tmp_path: Path) -> None:
    pairs = plain(NAMES)
    path = saved(tmp_path / "it.safetensors", as_kohya(pairs | plain({"no.such": (4, 4)}), prefix))
    adapter = read_adapter(path, base=[f"model.{name}.weight" for name in NAMES])
    assert adapter.updates.keys() == {f"model.{name}" for name in NAMES}
    for name, (B_, A_) in pairs.items():
        assert_same(adapter.updates[f"model.{name}"].update(), 2 * B_.double() @ A_.double(), 1e-12)
    assert len(adapter.unplaced) == 3
    assert any("such" in note for note in adapter.notes)
    alone = read_adapter(path)
    assert len(alone.updates) == 4
    assert sum(bool(update.foreign) for update in alone.updates.values()) == 4


def test_a_kohya_convolution_is_its_matrix_and_alpha_may_be_left_out(tmp_path: Path) -> None:
    down, up = torch.randn(4, 8, 3, 3), torch.randn(16, 4, 1, 1)
    path = saved(tmp_path / "it.safetensors", {"lora_unet_c.lora_down.weight": down, "lora_unet_c.lora_up.weight": up})
    (update,) = read_adapter(path).updates.values()
    assert_same(update.update(), up.flatten(1).double() @ down.flatten(1).double(), 1e-12)
    assert update.note
    assert update.foreign


@pytest.mark.parametrize("ending", ["alpha", "lora_alpha"])
def test_a_stated_alpha_is_used_and_another_one_is_refused(ending: str, tmp_path: Path) -> None:
    stated = {f"{name}.{ending}": torch.tensor(6) for name in NAMES}
    path = saved(tmp_path / "it.bin", as_loralib(plain(NAMES)) | stated)
    assert {read_adapter(path, alpha).updates["h.0.q"].product.scaling for alpha in (None, 6)} == {2}
    for other in (path, write(tmp_path / "peft")):
        with pytest.raises(ConfigError, match="--alpha 16"):
            read_adapter(other, alpha=16)


LORALIB = as_loralib(plain(NAMES))
KOHYA = as_kohya(plain(NAMES), "lora_unet_")
BAD_FILES: dict[str, list[dict[str, Any]]] = {
    "h.0.q": [LORALIB | {"h.0.q.lora_A": wrong} for wrong in (ZEROS(4, 12), torch.full((3, 12), NAN), ZEROS(3))]
    + [LORALIB | {"h.0.q.lora_A": ZEROS(3, 12, dtype=torch.int64)}, LORALIB | {"h.0.q.weight": ZEROS(8, 12, 1, 1)}]
    + [LORALIB | {"h.0.q.conv.weight": ZEROS(8, 12)}],
    "h.0.q.alpha": [LORALIB | {"h.0.q.alpha": torch.tensor(value)} for value in (0, -8.0, NAN, float("inf"), True)]
    + [LORALIB | {"h.0.q.alpha": torch.ones(2)}],
    "l.1": [LORALIB | {"l.1.lora_A": ZEROS(3, 40)}],
    "conv1": [LORALIB | {"conv1.lora_A": ZEROS(9, 9), "conv1.lora_B": ZEROS(9, 9)}],
    "lora_unet_h_0_q": [
        KOHYA | {"lora_unet_h_0_q.lora_down.weight": wrong} for wrong in (ZEROS(2, 12), torch.full((3, 12), NAN))
    ]
    + [{key: tensor for key, tensor in KOHYA.items() if key != "lora_unet_h_0_q.lora_up.weight"}]
    + [KOHYA | {"lora_unet_h_0_q.alpha": torch.tensor(value)} for value in (0, NAN)],
    "lora_te2_h_0_q": [as_kohya(plain(NAMES), "lora_te1_") | as_kohya(plain(NAMES), "lora_te2_")],
    "lora_unet_x": [as_kohya(plain({"x": (4, 4)}), "lora_unet_")],
}


@pytest.mark.parametrize("named", BAD_FILES)
def test_a_file_that_does_not_fit_is_refused_by_name(named: str, tmp_path: Path) -> None:
    for tensors in BAD_FILES[named]:
        path = saved(tmp_path / "it.bin", tensors)
        with pytest.raises(ConfigError, match=re.escape(named)) as caught:
            read_adapter(
                path, alpha=None if "lora_unet" in str(tensors) else 6, base=[f"{name}.weight" for name in NAMES]
            )
        assert "it.bin" in str(caught.value)
    with pytest.raises(ConfigError, match="--alpha"):
        read_adapter(saved(tmp_path / "it.bin", LORALIB))
