"""Records of runs that never ran: what the tests of the store, of W&B and of the figures are made of."""

from typing import Any

from lorax_lab.record.record import Record
from lorax_lab.record.result import Git, Inputs, Matrix, Memory, Parameters, Result, Time


def run_record(run_id: str = "tiny-local-lora-r4-s0-0", **changes: Any) -> Record:
    """A completed LoRA run of rank 4, or of its configuration; `changes` are to fields of the record, or its result."""
    of_result = {key: changes.pop(key) for key in list(changes) if key in Result.__dataclass_fields__}
    fields: dict[str, Any] = {
        "run_id": run_id, "status": "completed", "written": "2026-11-25T00:00:00Z", "method": "lora", "rank": 4,
        "seed": 0, "versions": {}, "git": Git(None, None), "code": "c", "hardware": {},
        "config": {"model": "tiny", "task": {"name": "local"}, "measure": "k90"},
    }  # fmt: skip
    config = changes.get("config", {})
    fields |= {name: config[name] for name in ("rank", "seed") if name in config}
    fields |= {"method": config["method"]["name"]} if "method" in config else {}
    fields |= changes
    if fields["status"] == "completed":
        fields["result"] = run_result(**of_result)
    return Record(**fields)


def matrix(module: str = "query", layer: int | None = 0, rank: int | None = None, **more: Any) -> Matrix:
    """A measured matrix of shape (6, 4), which has 4 singular values, or as many as its rank."""
    return Matrix(**{"module": module, "layer": layer, "shape": (6, 4), "base_norm": 1.0, "rank": rank} | more)


def measured_rows(updates: Any, base: Any, dtype: Any) -> dict[str, dict[str, Any]]:
    """The rows of updates by way of what a record keeps of them."""
    from lorax_lab.measure import rows
    from lorax_lab.record.measures import rows_of

    return rows_of(rows.measure(updates, base, dtype=dtype), rows.to_save(rows.decompose(updates)))


def run_result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "inputs": Inputs("m", "d", {"train": 96, "validation": 400, "test": 1000}, ["no", "yes"], "h"),
        "reference": None,
        "parameters": Parameters(trainable=10, adapter=8, head=2, total=100),
        "memory": Memory(5, {"weights": 5}, "backward", [16, 64], 7, "run", None),
        "time": Time(0.5, 6, 96, 960, 0.0, 1.0),
        "metric": "accuracy",
        "metrics": {"test/accuracy": 0.5, "validation/accuracy": 0.5},
        "matrices": {},
    }
    return Result(**fields | changes)
