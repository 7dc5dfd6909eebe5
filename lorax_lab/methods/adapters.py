"""Adapters of others, read from their files alone: PEFT's folders, and single files of loralib's and kohya's names.

ΔW = W_tuned − W0 against the original base weight W0, in the arithmetic of PEFT 0.21, with s the scaling:

    LoRA, rsLoRA   s B A                               s = alpha / rank, alpha / √rank (Kalajdzievski 2023)
    AdaLoRA        s B (E ∘ A)                         s = alpha / (init_r + 1e-5) (Zhang et al. 2023)
    PiSSA          s B A − [W0]_rank                   PEFT trains on W0 − [W0]_rank (Meng et al. 2024)
    OLoRA          s B A − s Q_rank R_rank, W0 = Q R   PEFT trains on W0 − s Q_rank R_rank (Büyükakyüz 2024)
    DoRA           m ∘ V / ‖V‖ − W0, V = W0 + s B A    norms of rows, of an embedding's columns (Liu et al. 2024)
    loralib        s B A; of group g of a MergedLinear s B_g A_g, where the file has (groups · r, in), (groups · out, r)
    kohya          s up down; a convolution's as the matrix (out, in · k · k)

DoRA may stand on PiSSA or OLoRA; V is then W0 plus their update. loralib's file has no alpha, kohya's states one for
each module. No model is built, no PEFT imported, and nothing that a file holds is run.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorax_lab.config.checks import require
from lorax_lab.errors import ConfigError, named, suggest
from lorax_lab.methods.lora_layer import scaling_of
from lorax_lab.methods.names import is_embedding, plain_name
from lorax_lab.models import tensor_files
from lorax_lab.models.tensor_files import SAFETENSORS, TORCH, WEIGHT_DTYPES, as_matrix, dtype_of, read_tensors
from lorax_lab.spectra import LowRank, Update, svd

PREFIX = "base_model.model."
SETTINGS, WEIGHTS, OLD_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PEFT_KEY = re.compile(r"(.+)\.(lora_(?:A|B|E|embedding_A|embedding_B|magnitude_vector)|ranknum)(?:\.weight)?")
LORALIB_KEY = re.compile(r"(.+)\.(lora_[AB])")
KOHYA_KEY = re.compile(r"(.+?)[._]lora[._](down|up)\.weight")
"""The key maps: from the name of a factor's tensor to its module and its part."""
PEFT_ALONE = re.compile(r".+\.lora_(?:A|B|E|embedding_A|embedding_B|magnitude_vector)\..+")
"""A name of PEFT in a file without its settings, or one with an adapter's name inside, which PEFT does not save."""
INSERTED, UNTOUCHED = re.compile(r"\.(?:base_layer|modules_to_save)(?=\.)"), ".original_module."
"""Parts that PEFT inserts into the names of the base's own tensors, and of copies that it did not train."""
LORA_BIAS, TRAINED_TOKENS = ".lora_B.bias", ".trainable_tokens_delta"
"""Endings of PEFT's tensors that are no factors, and that replace nothing."""
ALPHAS = (".lora_alpha", ".alpha")
"""Endings of tensors with one number, by which files state the alpha of a module."""
PATTERNS = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}
LONGEST_PATTERN = 1000
METHODS = ("LORA", "ADALORA")
PLAIN_STARTS = ("true", "false", "none", "gaussian", "eva", "orthogonal", "mica")
"""Values of init_lora_weights that leave W0 as it is."""
REFUSED = (
    *("layer_replication", "target_parameters", "use_qalora", "use_bdlora", "kasa_config", "monteclora_config"),
    *("alora_invocation_tokens", "arrow_config"),
)
"""Settings with which ΔW is another one than these, or none for all inputs."""
GROUP = "a part of a MergedLinear"
"""As `AdapterUpdate.foreign` of one: which rows of the base's weight it belongs to is not in the file."""
MERGE = "merge it on the base it was trained on (merge_and_unload), and give the merged model with its base"
MATRIX = (2, 3, 4, 5)
"""Sides of a factor: a matrix, or a kernel of a convolution."""
LARGEST = 1e38
"""PEFT scales in fp32, which ends a little above."""
RANKNUM_EPS = 1e-5
"""PEFT's AdaLoRA adds this to the rank before it divides by it."""
CONVOLUTION = re.compile(r"(^|\.)(conv\d*|conv\d?d|downsample)(\.|$)", re.IGNORECASE)
UNLIKE = {".lora_mid.weight": "it has a Tucker core between its factors", ".dora_scale": "DoRA's magnitudes scale it"}
"""Endings of a kohya module's tensors that make its ΔW another one than the product of its factors."""
TRAINER = re.compile(r"(lora|lycoris)_")
MODELS = re.compile(r"(lora|lycoris)_((unet|transformer|te\d?|prior\w*)_)?")
"""What stands before a kohya module's path: which of a pipeline's models it is in."""
Settings = dict[str, Any]
Parts = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class AdapterUpdate:
    """One matrix's ΔW = W_tuned − W0: the saved product s B A, and how PEFT applies it to the base weight."""

    name: str  # the module's dotted name in the base model, as in `model.layers.0.self_attn.q_proj`
    kind: str  # `lora`, `adalora`, or all that apply of `pissa`, `olora`, `rslora` and `dora`, joined by `+`
    product: LowRank  # s B A, (out, in); for an embedding (num, dim), as its weight is stored
    start: str = ""  # `pissa` or `olora` where PEFT takes the start out of W0 before training
    magnitude: Tensor | None = None  # DoRA's m, (out,), or (dim,) for an embedding
    embedding: bool = False  # the matrix is an `nn.Embedding`'s
    fan_in_fan_out: bool = False  # the settings say that the base stores W0 as (in, out), as GPT-2 does
    note: str = ""  # a caution to report with the numbers
    foreign: str = ""  # why no LoRA of PEFT can hold it

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in); (num, dim) for an embedding."""
        return self.product.shape

    @property
    def needs_base(self) -> bool:
        """Whether ΔW depends on W0."""
        return bool(self.start) or self.magnitude is not None

    def update(self, base_weight: Tensor | None = None) -> Update:
        """ΔW (out, in): `LowRank`, for PiSSA and OLoRA with twice the columns; dense fp64 for DoRA. `base_weight` is
        the original W0 (out, in), see `oriented`, of any real dtype; only needed where `needs_base`."""
        if not self.needs_base:
            return self.product
        assert base_weight is not None, f"{self.name}: {self.kind} needs the base weight {self.shape}"
        base = base_weight.detach().to(self.product.B.device, torch.float64)
        learned = self._learned(base) if self.start else self.product
        if self.magnitude is None:
            return learned
        V, dim = base + learned.dense(), 0 if self.embedding else 1
        return V * self.magnitude.to(V).unsqueeze(dim) / V.norm(dim=dim, keepdim=True) - base

    def oriented(self, stored: Tensor) -> Tensor:
        """W0 (out, in) of the weight as the base stores it: transposed if only that fits, or if it is square and
        `fan_in_fan_out` is set. PEFT saves one `fan_in_fan_out` for all modules, that of the last one."""
        turned = stored.shape[::-1] == self.shape and (stored.shape != self.shape or self.fan_in_fan_out)
        return stored.T if turned else stored

    def _learned(self, base: Tensor) -> LowRank:
        rank, scaling = len(self.product.A), self.product.scaling
        if self.start == "pissa":
            U, sigma, Vh = svd(base)
            B, A = U[:, :rank] * sigma[:rank], Vh[:rank]
        else:
            Q, R = torch.linalg.qr(base)
            B, A = scaling * Q[:, :rank], R[:rank]
        return LowRank(torch.cat([scaling * self.product.B.double(), -B], 1), torch.cat([self.product.A.double(), A]))


@dataclass(frozen=True, eq=False)
class Adapter:
    """What an adapter's files hold."""

    name: str  # the folder's name, or the file's
    settings: Settings  # `adapter_config.json` as it is; empty for a file of other trainers
    updates: dict[str, AdapterUpdate]  # of the matrices with low-rank factors, by module name
    saved: dict[str, Tensor]  # what takes the place of the base's tensors, by their names: heads, biases, embeddings
    notes: list[str]  # what is in the files and not in `updates`
    unplaced: list[str] = field(default_factory=list)  # tensors that are in no update and have no place in the base

    @property
    def factors(self) -> dict[str, LowRank]:
        """The saved products by the dotted names of the matrices."""
        return {name: update.product for name, update in self.updates.items()}


def format_of(path: Path) -> str:
    """`peft`, `kohya` or `loralib`; empty where a path is no adapter. Of PEFT's two files one is enough.

    Raises:
        ConfigError: a damaged file, or PEFT's names without PEFT's settings.
    """
    if path.is_file() and path.suffix in (SAFETENSORS, *TORCH) and not (path.parent / SETTINGS).is_file():
        names = read_tensors(path)
        for form, key in (("kohya", KOHYA_KEY), ("loralib", LORALIB_KEY)):
            if any(key.fullmatch(name) for name in names):
                return form
        if alone := next(filter(PEFT_ALONE.fullmatch, names), None):
            raise ConfigError(f"{path} holds {alone}: alpha is in PEFT's {SETTINGS}; put both into one folder")
    is_weights = path.name in (WEIGHTS, OLD_WEIGHTS) and path.is_file()
    return "peft" if is_weights or any((path / name).is_file() for name in (SETTINGS, WEIGHTS, OLD_WEIGHTS)) else ""


def read_adapter(path: Path, alpha: float | None = None, base: Iterable[str] | None = None) -> Adapter:
    """The updates of the adapter at `path`: a folder of PEFT or its weights file, or a file of loralib or kohya.

    Args:
        alpha: as it was typed. loralib's file needs it where it states none; kohya's loaders take alpha = rank there.
        base: names of the base's tensors, by which kohya's modules are placed; None where there is no base.

    Raises:
        ConfigError: missing or damaged files, a method whose ΔW is not computed here, or tensors that do not
            belong together; it names the file, the tensor and what is allowed.
    """
    form = format_of(path)
    if form in ("kohya", "loralib"):
        with named(path):
            tensors = read_tensors(path)
            return _kohya(path.name, tensors, alpha, base) if form == "kohya" else _loralib(path.name, tensors, alpha)
    settings, tensors = read_files(path)
    file = _weights_file(path)
    with named(file):
        if alpha is not None:
            raise ConfigError(f"--alpha {alpha:g}: {SETTINGS} states lora_alpha; leave --alpha out")
        return _peft(file.resolve().parent.name, settings, tensors)


def read_files(path: Path) -> tuple[Settings, dict[str, Tensor]]:
    """(settings, tensors) of PEFT's adapter in a folder, or of its weights file; a ConfigError names a bad file."""
    file = _weights_file(path)
    return read_settings(file.parent), read_tensors(file)


def read_settings(folder: Path) -> Settings:
    """The settings of the adapter in a folder; a ConfigError says what is wrong with the file."""
    path = folder / SETTINGS
    settings = tensor_files.read_json(path)
    if not isinstance(settings.get("peft_type"), str):
        raise ConfigError(f"{path} names no peft_type; expected an object with PEFT's settings")
    return settings


def number(key: str, value: object) -> float:
    """The setting's value, if it is a number that fp32 holds and for a rank a whole one, else a `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ConfigError(
            f"{key}={value!s:.80} is not possible: it is a number below {LARGEST:g}; for instance {key}=16"
        )
    is_possible = key not in ("r", "init_r") or (value >= 1 and value == int(value))
    require(is_possible, key, value, f"it is a whole number from 1 on, for instance {key}=16")
    return value


def _weights_file(path: Path) -> Path:
    """`path` itself where it is a file, or the file that PEFT takes from the folder, safetensors first."""
    return next(filter(Path.is_file, (path, path / WEIGHTS, path / OLD_WEIGHTS)), path / WEIGHTS)


def _by_module(tensors: dict[str, Tensor], key: re.Pattern[str]) -> tuple[dict[str, Parts], dict[str, Tensor]]:
    modules: dict[str, Parts] = defaultdict(dict)
    rest = {}
    for name, tensor in tensors.items():
        if match := key.fullmatch(name):
            modules[match[1]][match[2]] = tensor
        else:
            rest[name] = tensor
    return modules, rest


def _factor(parts: Parts, name: str, sides: tuple[int, ...] = (2,)) -> Tensor:
    """A module's factor as a matrix, a kernel with its inputs in one; a `ConfigError` unless it is one, and finite."""
    if name not in parts:
        raise ConfigError(f"{name} is missing: copy or save the file again")
    tensor = parts[name]
    if tensor.ndim not in sides or tensor.dtype not in WEIGHT_DTYPES:
        expected = "expected a matrix of floating point, dequantized where it has a scale"
        raise ConfigError(f"{name} is {tuple(tensor.shape)}, {dtype_of(tensor)}; {expected}")
    if not torch.isfinite(tensor).all():
        raise ConfigError(f"{name} has nan or inf inside: a diverged run or a bad file")
    return as_matrix(tensor) if tensor.ndim > 2 else tensor


def _of_kernel(factor: Tensor) -> tuple[str, str]:
    """The note on an update, and why PEFT's linear layers cannot hold it: both empty unless it is of a convolution."""
    note = "a convolution, measured as the matrix (out, in · kernel)" if set(factor.shape[2:]) - {1} else ""
    return note, "a convolution" if factor.ndim > 2 else ""


def _listed(notes: dict[str, list[str]]) -> list[str]:
    return [f"{note} ({len(names)}): {_first(names)}" for note, names in notes.items() if names]


def _first(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")


# ---- PEFT


def _peft(name: str, settings: Settings, tensors: dict[str, Tensor]) -> Adapter:
    method = settings["peft_type"]
    if method not in METHODS:
        raise ConfigError(f"peft_type={method} is not possible: {suggest(method, METHODS)}; or {MERGE}")
    for key in REFUSED:
        if settings.get(key):
            raise ConfigError(f"{key}={settings[key]} is not possible: its update is no s B A of a matrix; {MERGE}")
    plain = {INSERTED.sub("", key.removeprefix(PREFIX)): tensor for key, tensor in tensors.items()}
    modules, rest = _by_module({key: tensor for key, tensor in plain.items() if UNTOUCHED not in key}, PEFT_KEY)
    if odd := next((key for key in rest if PEFT_ALONE.fullmatch(key) and not key.endswith(LORA_BIAS)), None):
        raise ConfigError(f"{odd} is not a name that PEFT saves; it expects for instance layer.lora_A.weight")
    if not modules:
        raise ConfigError("none of its tensors is a lora_A or lora_B")
    stated = {key: _stated_for(settings, key, list(modules)) for key in PATTERNS} if method == "LORA" else {}
    updates = {}
    for module, parts in modules.items():
        with named(module):
            updates[module] = _peft_update(module, parts, settings | {key: stated[key][module] for key in stated})
    biases, tokens = ([key for key in rest if key.endswith(end)] for end in (LORA_BIAS, TRAINED_TOKENS))
    saved = {key: tensor for key, tensor in rest.items() if key not in (*biases, *tokens)}
    notes = {
        "lora_bias: these biases were tuned too and are not measured": biases,
        "only some rows of these were tuned; they are not measured": tokens,
        "saved in full beside the low-rank updates": list(saved),
    }
    return Adapter(name, settings, updates, saved, _listed(notes), biases + tokens)


def _peft_update(name: str, parts: Parts, settings: Settings) -> AdapterUpdate:
    adalora, embedding = settings["peft_type"] == "ADALORA", any("embedding" in part for part in parts)
    dora, rslora = bool(settings.get("use_dora")) and not adalora, bool(settings.get("use_rslora"))
    wanted = ["lora_embedding_A", "lora_embedding_B"] if embedding else ["lora_A", "lora_B"]
    wanted += ["lora_E"] * adalora + ["lora_magnitude_vector"] * dora
    if extra := sorted(parts.keys() - {*wanted, "ranknum"}):
        raise ConfigError(f"{extra[0]} does not go with these settings, which expect {', '.join(wanted)}")
    saved_A, saved_B = (_factor(parts, part, MATRIX) for part in wanted[:2])
    B, A = (saved_A.T, saved_B.T) if embedding else (saved_B, saved_A)
    if adalora:
        product = _adalora(name, B, A, _factor(parts, "lora_E"), parts.get("ranknum"), settings)
        return AdapterUpdate(name, "adalora", product, embedding=embedding)
    start = "" if embedding else _start_of(settings)
    rank, alpha = number("r", settings.get("r")), number("lora_alpha", settings.get("lora_alpha"))
    # a start that is cut from W0 has at most min(out, in) directions, whatever the rank set
    _check_rank(len(A), max(1, min(rank, len(B), A.shape[1])) if start else rank)
    product = LowRank(B, A, scaling_of(alpha, int(rank), rslora))
    magnitude = _factor(parts, "lora_magnitude_vector", (1,)) if dora else None
    if magnitude is not None and len(magnitude) != len(saved_B):
        raise ConfigError(f"lora_magnitude_vector is {tuple(magnitude.shape)}; expected {(len(saved_B),)}")
    kind = "+".join(filter(None, [start, "rslora" * rslora, "dora" * dora])) or "lora"
    turned = bool(settings.get("fan_in_fan_out")) and not embedding
    return AdapterUpdate(name, kind, product, start, magnitude, embedding, turned, *_of_kernel(parts[wanted[0]]))


def _start_of(settings: Settings) -> str:
    """The start that PEFT subtracts from W0: `pissa`, `olora` or, for most, "". A ConfigError refuses what is neither
    in the files nor follows from W0, as a randomised PiSSA."""
    value = settings.get("init_lora_weights", True)
    word = str(value).lower()
    if word in PLAIN_STARTS:
        return ""
    if word == "pissa" or (word == "olora" and not settings.get("fan_in_fan_out")):
        return word  # of a Conv1D's OLoRA, PEFT 0.21 forgets to transpose the start
    refusal = f"init_lora_weights={value} is not possible: what it takes out of the base weight is not in the files"
    raise ConfigError(f"{refusal}; {MERGE}")


def _adalora(name: str, B: Tensor, A: Tensor, E: Tensor, ranknum: Tensor | None, settings: Settings) -> LowRank:
    """s B (E ∘ A). PEFT does not save the rank by which it divides; on loading it is init_r."""
    initial, alpha = number("init_r", settings.get("init_r")), number("lora_alpha", settings.get("lora_alpha"))
    mask = _patterns(settings, "rank_pattern").get(f"{name}.lora_E", initial)
    _check_rank(len(A), sum(map(bool, mask)) if isinstance(mask, list) else number("rank_pattern", mask))
    if E.shape != (len(A), 1):
        raise ConfigError(f"lora_E is {tuple(E.shape)}; expected {(len(A), 1)}")
    divisor = initial if ranknum is None else float(ranknum)
    return LowRank(B, E.double() * A.double(), (alpha if alpha > 0 else len(A)) / (divisor + RANKNUM_EPS))


def _check_rank(rows: int, rank: float) -> None:
    if rows != rank:
        raise ConfigError(f"its factors have rank {rows}, but the settings give {rank}")


def _stated_for(settings: Settings, key: str, names: list[str]) -> dict[str, Any]:
    """`r` or `lora_alpha` of each module: the value of the first pattern that matches, else the setting itself.

    A pattern is a regular expression for the whole name or for its end after a dot, as in PEFT's `get_pattern_key`. A
    file of others may hold one for which Python's `re` would take years; RE2, which pyarrow brings, takes linear time.

    >>> settings = {"r": 8, "rank_pattern": {r"layers.[01].q": 4}}
    >>> _stated_for(settings, "r", ["model.layers.1.q", "model.layers.2.q"])
    {'model.layers.1.q': 4, 'model.layers.2.q': 8}
    """
    from pyarrow import array
    from pyarrow.compute import match_substring_regex

    values, patterns = dict.fromkeys(names, settings.get(key)), _patterns(settings, PATTERNS[key])
    try:
        for pattern, value in reversed(patterns.items()):
            fits = match_substring_regex(array(names), rf"^(?:(.*\.)?({pattern})$)").to_pylist()
            values |= {name: value for name, fit in zip(names, fits, strict=True) if fit}
    except ValueError as error:
        expected = f"expected numbers by regular expression, without look-around or references: {error}"
        raise ConfigError(f"{PATTERNS[key]}={patterns!s:.200}: {expected}") from error
    return values


def _patterns(settings: Settings, key: str) -> dict[str, Any]:
    patterns = settings.get(key) or {}
    if not isinstance(patterns, dict) or any(len(pattern) > LONGEST_PATTERN for pattern in patterns):
        allowed = f"it is an object, from names of at most {LONGEST_PATTERN} letters to numbers"
        raise ConfigError(f"{key}={patterns!s:.80} is not possible: {allowed}")
    return patterns


# ---- loralib and kohya


def _loralib(name: str, tensors: dict[str, Tensor], alpha: float | None) -> Adapter:
    """A MergedLinear puts several matrices into one, as GPT-2's `c_attn` holds queries, keys and values, and adapts
    some of them. Each group is an update of its own; which of the three it is does not stand in the file."""
    modules, rest = _by_module(tensors, LORALIB_KEY)
    updates: dict[str, AdapterUpdate] = {}
    for module, parts in modules.items():
        stated = _stated_alpha(module, tensors, alpha)
        if stated is None:
            raise ConfigError("it does not hold loralib's alpha: type --alpha 16, with the training's for 16")
        kernel = tensors.get(f"{module}.conv.weight", tensors.get(f"{module}.weight", torch.empty(0)))
        with named(module):
            if kernel.ndim > 2 or f"{module}.conv.weight" in tensors or CONVOLUTION.search(module):
                raise ConfigError("it is a convolution, and its rank is not in its shapes: take it out of the file")
            updates |= {update.name: update for update in _loralib_updates(module, parts, stated)}
    saved = {key: tensor for key, tensor in rest.items() if not key.endswith(ALPHAS)}
    return Adapter(name, {}, updates, saved, _listed({"saved beside the factors, and not measured": list(saved)}))


def _loralib_updates(name: str, parts: Parts, alpha: float) -> list[AdapterUpdate]:
    """One update of a Linear or an Embedding, one for each group of a MergedLinear."""
    A, B = _factor(parts, "lora_A"), _factor(parts, "lora_B")
    rank = B.shape[1]
    groups = len(A) // rank if rank else 0
    if not groups or len(A) != groups * rank or len(B) % groups:
        shapes = f"lora_A is {tuple(A.shape)} and lora_B {tuple(B.shape)}"
        raise ConfigError(f"{shapes}; allowed are (r, in) and (out, r), or groups times these rows of a MergedLinear")
    scaling = scaling_of(alpha, rank, False)
    if groups == 1 and is_embedding(f"{name}.weight"):  # loralib adds (B A)ᵀ to an embedding (num, dim)
        return [AdapterUpdate(name, "lora", LowRank(A.T, B.T, scaling), embedding=True)]
    if groups == 1:
        return [AdapterUpdate(name, "lora", LowRank(B, A, scaling))]
    products = [LowRank(*pair, scaling) for pair in zip(B.chunk(groups), A.chunk(groups), strict=True)]
    titles = [f"{name} (group {group} of {groups})" for group in range(1, groups + 1)]
    return [AdapterUpdate(t, "lora", product, foreign=GROUP) for t, product in zip(titles, products, strict=True)]


def _kohya(name: str, tensors: dict[str, Tensor], alpha: float | None, base: Iterable[str] | None) -> Adapter:
    """A module's name is its path with underscores for dots, after the model's own name, as in
    `lora_unet_mid_block_attentions_0_proj_in`. Which underscores were dots a base tells; some trainers keep the dots.
    """
    modules, _ = _by_module(tensors, KOHYA_KEY)
    places = None if base is None else _places(base)
    updates: dict[str, AdapterUpdate] = {}
    read: dict[str, str] = {}
    absent, unlike, silent = [], [], []
    for module, parts in modules.items():
        place = _dotted(module) if places is None else _place(module, places)
        if reasons := [reason for ending, reason in UNLIKE.items() if module + ending in tensors]:
            unlike.append(f"{module} ({reasons[0]})")
        elif place is None:
            absent.append(module)
        elif place in read:
            raise ConfigError(f"{read[place]} and {module} both are {place}: keep one in the file, or give no base")
        else:
            stated = _stated_alpha(module, tensors, alpha)
            silent += [module] if stated is None else []
            read[place] = module
            with named(module):
                updates[place] = _kohya_update(place, parts, stated, has_base=places is not None)
    if not updates:
        where = "BASE has none of its modules" if absent else "no module of it is a product of two factors"
        raise ConfigError(f"{where}: {_first([*absent, *unlike])}; give the model that it was trained on, or no base")
    of_modules = {module + ending for module in modules for ending in (*ALPHAS, *UNLIKE)}
    notes = {
        "in no module of the base, not measured": absent,
        "no product of two factors, not measured": unlike,
        "no alpha in the file: alpha = rank is taken, as kohya's own loader does": silent,
        "keys that could not be placed": [k for k in tensors if k not in of_modules and not KOHYA_KEY.fullmatch(k)],
    }
    unplaced = [key for key in tensors if _module_of(key) not in read.values()]
    return Adapter(name, {}, updates, {}, _listed(notes), unplaced)


def _module_of(key: str) -> str:
    """The module of a kohya factor or of an alpha; of any other key, itself."""
    match = KOHYA_KEY.fullmatch(key)
    return match[1] if match else key.removesuffix(ALPHAS[0]).removesuffix(ALPHAS[1])


def _kohya_update(name: str, parts: Parts, alpha: float | None, has_base: bool) -> AdapterUpdate:
    down, up = (_factor(parts, part, MATRIX) for part in ("down", "up"))
    rank = len(down)
    if not rank:
        raise ConfigError("down has no rows; allowed are (r, in) and (out, r), or those of a convolution")
    product = LowRank(up, down, scaling_of(rank if alpha is None else alpha, rank, False))
    note, foreign = _of_kernel(parts["down"])
    foreign = foreign or ("" if has_base else "under a name with underscores for dots: give its base")
    return AdapterUpdate(name, "lora", product, note=note, foreign=foreign)


def _stated_alpha(module: str, tensors: dict[str, Tensor], typed: float | None) -> float | None:
    """The alpha that the file states for a module, or the typed one where it states none. A ConfigError says that it is
    no finite number above 0, or not the one that was typed."""
    key = next((module + ending for ending in ALPHAS if module + ending in tensors), None)
    if key is None:
        return typed
    stated = tensors[key]
    if stated.numel() != 1 or stated.dtype == torch.bool or stated.is_complex() or not 0 < float(stated) < math.inf:
        raise ConfigError(f"{key} is {stated.flatten()[:3].tolist()!s:.80}; expected one number > 0: a bad file")
    alpha = float(stated)  # sd-scripts saves alpha as it was typed, so it may be an integer
    if typed is not None and typed != alpha:
        raise ConfigError(f"--alpha {typed:g}: the file states alpha {alpha:g} as {key}; leave --alpha out")
    return alpha


def _places(base: Iterable[str]) -> dict[str, str]:
    """The modules of a base by their names with underscores for dots, in full and without what wrappers put before."""
    modules = [name.removesuffix(".weight") for name in base if name.endswith(".weight")]
    short = {_plain(name).replace(".", "_"): name for name in modules}
    return short | {name.replace(".", "_"): name for name in modules}


def _place(module: str, places: dict[str, str]) -> str | None:
    """Where a module is in the base. What stands before its path may be the path's own first part, as `transformer`."""
    paths = [TRAINER.sub("", module, count=1), MODELS.sub("", module, count=1), _plain(module)]
    return next(filter(None, (places.get(path.replace(".", "_")) for path in paths)), None)


def _plain(module: str) -> str:
    return plain_name(f"{module}.weight").removesuffix(".weight")


def _dotted(module: str) -> str:
    """Dots around the numbers of a name, and after its model, so that its layer and its type can be read.

    >>> _dotted("lora_unet_down_blocks_0_attentions_1_proj_in")
    'lora_unet.down_blocks.0.attentions.1.proj_in'
    """
    model = MODELS.match(module)
    inside = module[model.end() :] if model else module
    dotted = re.sub(r"_(\d+)(?=_|$)", r".\1", inside)
    dotted = re.sub(r"(?<=\.)(\d+)_", r"\1.", dotted)
    return f"{model[0].rstrip('_')}.{dotted}" if model else dotted
