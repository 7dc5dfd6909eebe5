"""Reads the tensors of a checkpoint from disk, block by block, without loading a model."""

from lorax_lab.audit.checkpoints.checkpoint import Checkpoint, open_checkpoint
from lorax_lab.audit.checkpoints.names import is_embedding, is_output_layer, plain_name
from lorax_lab.audit.checkpoints.pairing import KINDS, Note, Pair, Pairing, pair
from lorax_lab.audit.checkpoints.stored import MEASURED, Difference, Stored, as_matrix, norm

__all__ = [
    "KINDS",
    "MEASURED",
    "Checkpoint",
    "Difference",
    "Note",
    "Pair",
    "Pairing",
    "Stored",
    "as_matrix",
    "is_embedding",
    "is_output_layer",
    "norm",
    "open_checkpoint",
    "pair",
    "plain_name",
]
