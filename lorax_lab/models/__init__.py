"""Load the frozen base; name the adaptable matrices and the head."""

from lorax_lab.models.base import Base, load_base, load_processor
from lorax_lab.models.files import PRESETS, model_sha256, resolve
from lorax_lab.models.matrices import (
    adaptable,
    base_weights,
    delta_view,
    freeze_head,
    head_modules,
    head_sha256,
    is_head,
    layer_number,
    out_in,
    select,
    short_name,
)

__all__ = [
    "PRESETS",
    "Base",
    "adaptable",
    "base_weights",
    "delta_view",
    "freeze_head",
    "head_modules",
    "head_sha256",
    "is_head",
    "layer_number",
    "load_base",
    "load_processor",
    "model_sha256",
    "out_in",
    "resolve",
    "select",
    "short_name",
]
