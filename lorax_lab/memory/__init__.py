"""The memory ledger: what one training step holds, by category, measured and predicted."""

from lorax_lab.memory.ledger import (
    CATEGORIES,
    Ledger,
    peak_device_bytes,
    peak_resident_bytes,
    peak_unseen,
    record_step,
    reset_peak,
)
