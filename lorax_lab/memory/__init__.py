"""The memory ledger: what one training step holds, by category."""

from lorax_lab.memory.ledger import CATEGORIES, Ledger, measure_step
from lorax_lab.memory.process import peak_device_bytes, peak_resident_bytes, reset_peak

__all__ = ["CATEGORIES", "Ledger", "measure_step", "peak_device_bytes", "peak_resident_bytes", "reset_peak"]
