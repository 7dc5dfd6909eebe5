"""The memory ledger: what one training step holds, by category, measured and predicted. It also explains what would
fit when memory runs out."""

from lorax_lab.memory.ledger import (
    CATEGORIES,
    Ledger,
    measure_step,
    peak_device_bytes,
    peak_resident_bytes,
    reset_peak,
)
from lorax_lab.memory.shortage import explained
