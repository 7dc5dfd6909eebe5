"""Load the frozen base; name the adaptable matrices and the head."""

from lorax_lab.models.base import Base, check_base, load_base, load_processor
from lorax_lab.models.coverage import Census, census, coverage, in_words, not_measured
from lorax_lab.models.files import PRESETS, model_sha256, preset_named, resolve
from lorax_lab.models.kernel import use_kernel
from lorax_lab.models.matrices import (
    Turned,
    adaptable,
    base_weights,
    choose,
    delta_view,
    freeze_head,
    head_modules,
    head_sha256,
    is_head,
    is_read,
    layer_number,
    like,
    out_in,
    select,
    shape_of,
    shapes_of,
    short_name,
)
from lorax_lab.models.savings import keep_frozen_in_bf16
from lorax_lab.models.settings import check_sizes
from lorax_lab.models.skeleton import groups, matrix_shapes, most_tokens, vocabulary

__all__ = [
    "PRESETS",
    "Base",
    "Census",
    "Turned",
    "adaptable",
    "base_weights",
    "census",
    "check_base",
    "check_sizes",
    "choose",
    "coverage",
    "delta_view",
    "freeze_head",
    "groups",
    "head_modules",
    "head_sha256",
    "in_words",
    "is_head",
    "is_read",
    "keep_frozen_in_bf16",
    "layer_number",
    "like",
    "load_base",
    "load_processor",
    "matrix_shapes",
    "model_sha256",
    "most_tokens",
    "not_measured",
    "out_in",
    "preset_named",
    "resolve",
    "select",
    "shape_of",
    "shapes_of",
    "short_name",
    "use_kernel",
    "vocabulary",
]
