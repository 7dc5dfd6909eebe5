"""Load the frozen base; name the adaptable matrices and the head."""

from lorax_lab.models.base import Base, load_base, load_processor, matrix_shapes, most_tokens
from lorax_lab.models.files import PRESETS, model_sha256, resolve
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
    layer_number,
    like,
    out_in,
    select,
    shape_of,
    shapes_of,
    short_name,
)

__all__ = [
    "PRESETS",
    "Base",
    "Turned",
    "adaptable",
    "base_weights",
    "choose",
    "delta_view",
    "freeze_head",
    "head_modules",
    "head_sha256",
    "is_head",
    "layer_number",
    "like",
    "load_base",
    "load_processor",
    "matrix_shapes",
    "model_sha256",
    "most_tokens",
    "out_in",
    "resolve",
    "select",
    "shape_of",
    "shapes_of",
    "short_name",
]
