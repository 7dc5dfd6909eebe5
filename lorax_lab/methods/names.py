"""What the names of tensors tell: their order, their place in a model, and which are one under a wrapper."""

import re
from collections import defaultdict
from collections.abc import Iterable

EMBEDDING = re.compile(
    r"(^|\.)(wte|wpe|shared|relative_attention_bias|embed_(in|tokens\w*|positions\w*)|(tok|tokens|pos|positions)_embed"
    r"|(\w+_)?embeddings?(_table|_\d+)?)\.weight$"
)
"""The whole last part of a name: `shared_experts.gate_proj`, `embeddings_project` and `time_embedding.linear_1` are
linear layers."""
OUTPUT_LAYERS = ("lm_head", "embed_out", "decoder", "output", "head")
WRAPPERS = {"base_model", "module", "model", "transformer", "language_model", "auto_model"}
WRAPPED = WRAPPERS | {"bert", "roberta", "distilbert", "electra", "deberta", "mpnet", "gpt_neox"}
"""Parts that a wrapper, or a head on top, puts before a name."""
INSERTED = {"base_layer", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts that PEFT, torch.compile and FSDP put anywhere into a name."""


def natural(name: str) -> list[str | int]:
    """A sort key by which layer 2 comes before layer 10.

    >>> sorted(["h.10.w", "h.2.w"], key=natural)
    ['h.2.w', 'h.10.w']
    """
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def is_output_layer(name: str) -> bool:
    """Whether a weight's module is one that models tie to their embedding.

    >>> is_output_layer("cls.predictions.decoder.weight"), is_output_layer("decoder.layers.0.fc1.weight")
    (True, False)
    """
    return name.split(".")[-2:-1] in [[layer] for layer in OUTPUT_LAYERS]


def is_embedding(name: str) -> bool:
    """Whether a weight is looked up by token or position.

    >>> [is_embedding(name) for name in ("model.embed_tokens.weight", "shared.weight", "shared_expert.up_proj.weight")]
    [True, True, False]
    """
    return EMBEDDING.search(plain_name(name)) is not None and not is_output_layer(name)


def plain_name(name: str) -> str:
    """A tensor's name without what wrappers and heads put before it or into it.

    >>> plain_name("base_model.model.bert.encoder.layer.0.query.base_layer.weight")
    'encoder.layer.0.query.weight'
    >>> plain_name("model.weight")
    'model.weight'
    """
    parts = [part for part in name.split(".") if part not in INSERTED]
    while len(parts) > 2 and parts[0] in WRAPPED:
        del parts[0]
    return ".".join(parts)


def renames(base: Iterable[str], tuned: Iterable[str]) -> dict[str, str]:
    """`{tuned name: base name}` where the two differ and no other name of either side has their plain form."""
    left, right = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for by_plain, names in ((left, base), (right, tuned)):
        for name in names:
            by_plain[plain_name(name)].append(name)
    single = [plain for plain in left if len(left[plain]) == len(right.get(plain, [])) == 1]
    return {right[plain][0]: left[plain][0] for plain in single if right[plain] != left[plain]}
