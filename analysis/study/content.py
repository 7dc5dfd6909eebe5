"""Does each line follow from its own content? Its name, its score, its cuts, its sums and its counts are made again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from lorax_lab.study.declaration import decisive, same
from lorax_lab.study.published import Line
from lorax_lab.study.recorded import recorded_id

from ..variants import REFERENCE
from . import examples, spectra
from .examples import COUNTED, ROUNDING, WHOLE
from .records import Records, rate_of

COMPLETED = ("inputs", "parameters", "metric", "metrics", "memory", "time")
FINAL = ("matrices",)
"""What a completed run's line has, and what that of a final run has besides if its method changes matrices."""
REST = "remainder"
SHARES = (50, 70, 80, 90)
"""The percentages of the whole update that are scored."""
Cut = tuple[str, int, str | None]
"""Part, k, and the type of matrix, None for all."""


def of_line(records: Records, line: Line) -> Iterator[str]:
    """What in a line contradicts the rest of it."""
    config = line["config"]
    if (line["seed"], line["rank"], line["method"]) != (config["seed"], config["rank"], config["method"]["name"]):
        yield "seed, rank or method are not those of the configuration"
    if not _name_follows(records, line):
        yield "the run id does not follow from the configuration and its inputs"
    if line["status"] != "completed":
        if line.get("metrics") or line.get("matrices") or not line.get("reason"):
            yield "a run that is not completed has scores, or gives no reason"
        return
    if lacking := lacking_of(line):
        yield f"a completed run has no {', '.join(lacking)}"
        return
    trial = config["measure"] == "trial"
    if trial and any(line.get(key) for key in ("correct", "matrices", "functional", "sigma")):
        yield "a trial has what only a final run measures"
    yield from _scores(line)
    yield from _counts(line)
    if not trial:
        yield from _cuts(line)
        yield from spectra.of_line(line)


def _name_follows(records: Records, line: Line) -> bool:
    """Whether the run id is that of the configuration. Rounded numbers are taken from the declaration."""
    declared, cell, exact = records.declared, records.cell(line), dict[str, Any]()
    if cell:
        own, settings = declared.settings.get((cell.condition, cell.arm), {}), decisive(line["config"])
        exact = {key: value for key, value in own.items() if key in settings and same(own, settings, key, {})}
        rate = records.protocol.rate(cell.arm, records.protocol.step(cell.arm, cell.rate))
        exact |= {"train.learning_rate": rate} if math.isclose(rate, rate_of(line), rel_tol=1e-5) else {}
    hashes = _hashes(records, line)
    return hashes is None or recorded_id(line["config"], exact, hashes, declared) == line["run_id"]


def _hashes(records: Records, line: Line) -> tuple[str, str] | None:
    """The hashes of model and data; of a run that has none, as one that diverged, those of another run of its arm."""
    cell, found = records.cell(line), line.get("inputs")
    if found is None and cell:
        others = [*records.of(cell.condition, "final"), *records.of(cell.condition, "trial")]
        same_arm = [other for other in others if records.arm_of(other) == cell.arm]
        found = next((other["inputs"] for other in (*same_arm, *others) if other.get("inputs")), None)
    return (found["model_sha256"], found["data_sha256"]) if found else None


def lacking_of(line: Line) -> list[str]:
    """What a completed run's line does not have, without which no rate can be chosen and nothing compared."""
    trial = line["config"]["measure"] == "trial"
    wanted = [f"{split}/{line.get('metric')}" for split in (("validation",) if trial else ("validation", "test"))]
    measured = () if trial or line["method"] not in spectra.FORMS else FINAL
    lacking = [key for key in (*COMPLETED, *measured) if not line.get(key)]
    return lacking or [key for key in wanted if key not in line["metrics"]]


def _scores(line: Line) -> Iterator[str]:
    metrics, counts = line["metrics"], line["inputs"]["examples"]
    for split in ("validation", "test"):
        value = metrics.get(f"{split}/{COUNTED}")
        if value is not None and not _is_share(value, counts.get(split)):
            yield f"{split} accuracy is no share of the examples"
    yield from examples.of_scores(line)


def _agree(one: float | None, other: float | None) -> bool:
    """Whether two scores are one; a score may have no value."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=ROUNDING)


def _is_share(value: float, count: int | None) -> bool:
    if not 0 <= value <= 1 or not count:
        return False
    return abs(value * count - round(value * count)) <= max(count * ROUNDING, 1e-9)


def _counts(line: Line) -> Iterator[str]:
    """Sums: parameters, and the bytes of a step."""
    counts, memory = line["parameters"], line["memory"]
    if counts["trainable"] != counts["adapter"] + counts["head"] or not 0 < counts["trainable"] <= counts["total"]:
        yield "the numbers of parameters do not add up"
    if memory["by_category"] and sum(memory["by_category"].values()) != memory["peak_bytes"]:
        yield "the peak of memory is not the sum of its parts"


def _cuts(line: Line) -> Iterator[str]:
    """The cuts are all there, and those that change nothing, or everything, agree."""
    rows = line.get("functional")
    if rows is None:
        if line["method"] == REFERENCE:
            yield "the full update's cuts are gone"
        return
    scores = {(part, k, module): score for part, k, module, score in rows}
    if len(scores) != len(rows) or scores.keys() not in _editions(line):
        yield "cuts of the full update are missing, or there twice, or are others than are scored"
        return
    full, whole = examples.full(line), line["metrics"][f"validation/{line['metric']}"]
    if not all(_agree(scores[uncut], whole) for uncut in ((WHOLE, full, None), (REST, 0, None))):
        yield "the uncut update does not have the run's validation score"
    if scores[WHOLE, 0, None] != scores[REST, full, None]:
        yield "no update and the remainder of all of it have different scores"
    if line["metric"] == COUNTED:
        count = line["inputs"]["examples"].get("validation")
        if not all(score is not None and _is_share(score, count) for score in scores.values()):
            yield "the accuracy of a cut is no share of the examples"
    yield from examples.of_cuts(line, {k for part, k, module in scores if (part, module) == (WHOLE, None)})


def _editions(line: Line) -> list[set[Cut]]:
    """What is cut: 0, the powers of two and all directions. With controls there are two sets: that of the first
    edition, at the powers of two, and the present one, at the powers of four (`measure.truncation.controls`)."""
    full = examples.full(line)
    ranks = [0, *(2**i for i in range(full.bit_length()) if 2**i < full), full]
    cuts: set[Cut] = {(part, k, None) for part in (WHOLE, REST) for k in ranks}
    if line["config"]["measure"] != "controls":
        return [cuts]
    twos, fours = ranks[1:-1], [k for k in ranks[1:-1] if k.bit_length() % 2]
    modules = {str(row["module"]) for row in line["matrices"].values()}
    first = cuts | _parts(("random", "scaled"), twos) | _of_modules(modules, twos)
    now = cuts | _parts(("random_at_norm", "bottom_at_norm", "scaled", "global"), fours) | _parts(("shrunk",), SHARES)
    return [edition | {("gaussian", full, None)} for edition in (first, now | _of_modules(modules, fours))]


def _parts(parts: Iterable[str], ranks: Iterable[int]) -> set[Cut]:
    return {(part, k, None) for part, k in product(parts, ranks)}


def _of_modules(modules: Iterable[str], ranks: Iterable[int]) -> set[Cut]:
    return {(WHOLE, k, module) for module, k in product(modules, (0, *ranks))}
