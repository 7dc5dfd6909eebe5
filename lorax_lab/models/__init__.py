"""Load the frozen base; name the adaptable matrices and the head."""

from lorax_lab.models.base import Base, groups, load_base, load_processor, matrix_shapes, most_tokens
from lorax_lab.models.coverage import Census, census, coverage, in_words, not_measured
from lorax_lab.models.files import PRESETS, model_sha256, resolve
from lorax_lab.models.matrices import (
    adaptable,
    base_weights,
    choose,
    delta_view,
    freeze_head,
    head_modules,
    head_sha256,
    is_head,
    layer_number,
    out_in,
    select,
    shape_of,
    shapes_of,
    short_name,
)

__all__ = [
    "PRESETS",
    "Base",
    "Census",
    "adaptable",
    "base_weights",
    "census",
    "choose",
    "coverage",
    "delta_view",
    "freeze_head",
    "groups",
    "head_modules",
    "head_sha256",
    "in_words",
    "is_head",
    "layer_number",
    "load_base",
    "load_processor",
    "matrix_shapes",
    "model_sha256",
    "most_tokens",
    "not_measured",
    "out_in",
    "resolve",
    "select",
    "shape_of",
    "shapes_of",
    "short_name",
]
