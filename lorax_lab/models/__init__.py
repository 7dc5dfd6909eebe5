"""Load the frozen base; name the adaptable matrices and the head."""

import os

from lorax_lab.models.base import Base, check_base, load_base, load_processor
from lorax_lab.models.coverage import Census, census, coverage, not_measured
from lorax_lab.models.files import PRESETS, model_sha256, preset_named, resolve
from lorax_lab.models.kernel import checkpoint_layers, keep_frozen_in_bf16, put_back, use_kernel
from lorax_lab.models.matrices import (
    Turned,
    adaptable,
    base_weights,
    choose,
    delta_view,
    head_modules,
    head_parameters,
    head_sha256,
    is_head,
    is_read,
    layer_number,
    like,
    mapped,
    out_in,
    select,
    shape_of,
    shapes_of,
    short_name,
)
from lorax_lab.models.skeleton import (
    matrix_shapes,
    most_tokens,
    tokenizer_of,
    vocabulary,
    without_weights,
)

# transformers 5.25 replaces a model's layers by compiled code that it fetches from a hub, unless it is told not to
os.environ["USE_HUB_KERNELS"] = "0"
