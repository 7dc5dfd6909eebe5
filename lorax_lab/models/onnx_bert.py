"""The BERT in a file of ONNX. Its biases have kept their names; its matrices have none, and lie turned, (in, out)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorax_lab.errors import ConfigError

PREFIX = "model.0.auto_model."
"""What sentence-transformers puts before the names of transformers."""


def read_onnx(path: Path) -> dict[str, Tensor]:
    """The weights by transformers' names. A matrix has the name of the bias that is added to its product, which nothing
    else reads.

    Raises:
        ConfigError: the package onnx is not installed.
    """
    try:
        from onnx import load, numpy_helper
    except ImportError:
        raise ConfigError(f"{path.name} is read by the package onnx; type python -m pip install '.[onnx]'") from None
    graph = load(path).graph
    arrays = {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    weights = {name.removeprefix(PREFIX): torch.from_numpy(array) for name, array in arrays.items() if "::" not in name}
    added = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    for node in graph.node:
        if node.op_type == "MatMul" and (matrix := arrays.get(node.input[1])) is not None:
            bias = next(name for name in added[node.output[0]].input if name in arrays)
            weights[bias.removeprefix(PREFIX).removesuffix("bias") + "weight"] = torch.from_numpy(matrix.T.copy())
    return weights


def save_bert(path: Path, tokenizer_folder: Path, sizes: Mapping[str, int], folder: Path) -> None:
    """Save the BERT of a file as transformers reads it, without a pooler, which it does not have.

    Args:
        tokenizer_folder: has its tokenizer.
        sizes: settings of `transformers.BertConfig` that are not its defaults, such as `hidden_size`.
    """
    from transformers import AutoTokenizer, BertConfig, BertModel

    settings: dict[str, Any] = {**sizes}
    model = BertModel(BertConfig(**settings), add_pooling_layer=False)
    model.load_state_dict(read_onnx(path))  # in full; the file is pinned by SHA-256, so no more is checked
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
