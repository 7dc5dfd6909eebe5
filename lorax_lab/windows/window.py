"""What a window such as W&B shows of a run, whatever the window is: names, configuration, curves, summary, pictures.

Nothing here says where anything lies on this machine: of a file or folder of the user's only its name is shown.
"""

from __future__ import annotations

import math
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorax_lab.config.identity import portable
from lorax_lab.record import variation
from lorax_lab.record.record import DamagedRecord, Record, read_record
from lorax_lab.record.redact import redact, redacted
from lorax_lab.record.spectrum import mean_spectra, share_of_noise, shown_indices
from lorax_lab.windows.door import Axis, Start

SUMMARY_KEYS = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90", "relative_norm")
OF_FULL = ("signal_share", "spike_energy")
"""Means that only a full update has: what share of its energy is no noise, and what share is in its spikes."""
LONGEST = 64
"""Letters of a tag, or of a job type, at most; W&B refuses more."""
EXIT = {"completed": 0, "diverged": 65, "failed": 66, "oom": 67, "killed": 137}
"""The exit code by which a window tells how a run ended; any but 0 is a failure."""
TRUNCATION, SPECTRUM = Axis("truncation", "truncation/k"), Axis("spectrum", "spectrum/index")
ANSWER = Axis("answer", "answer/rank")
AXES = (TRUNCATION, SPECTRUM, ANSWER)
QUOTED_PATH = re.compile(r"(['\"])~?/(?:[^'\"/]*/)*([^'\"/]+)/?\1")
QUOTED = re.compile(r"(?<=['\"])[^'\"/:]+/(?:[^'\"/]*/)*([^'\"/]+)/?(?=['\"])")
RELATIVE = re.compile(r"(?<![\w./~-])(?:[\w.~-]+/)+(\.?[\w-]+(?:\.[\w-]+)*)/?")
EXTENSION = re.compile(r"\.[A-Za-z]\w*$")
ADDRESS = re.compile(r"(\bhttps?://\S+)")
PATH = re.compile(r"(?:file://|(?<![\w/.]))~?(?:/[^\s/:;,'\"]+(?: [^\s/:;,'\"]+)?)+/([^\s/:;,'\"]+)")


def start_of(record: Record, group: str, began: float, tracking: dict[str, Any], mode: str, runs_dir: Path) -> Start:
    """What a window is told of a run when it is opened.

    Args:
        record: the run's, which may still be `running`.
        group: the name under which the window shows the sweep.
        began: seconds since 1970.
        tracking: the `tracking` section of its configuration.
        mode: as the door resolved it.
    """
    names = window_names(record)
    study = tracking.get("study")
    return Start(
        run_id=record.run_id,
        group=group,
        method=record.method,
        tags=names.tags + ([f"study={study}"[-LONGEST:]] if study else []),
        config=redacted(public(record.config) | {"arm": names.arm} | ({"study": study} if study else {})),
        began=began,
        mode=mode,
        project=tracking["project"],
        entity=tracking.get("entity"),
        runs_dir=runs_dir,
    )


def public(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a window is shown it: without places, and only the name of a file or folder of the user's."""
    kept = portable(config)
    if path := config["task"].get("path"):
        kept["task"]["path"] = _name(str(path), config["task"].get("source") == "hub")
    return kept | {"model": _name(str(config["model"]), is_public=True)}


def _name(path: str, is_public: bool) -> str:
    """The path itself if it is a data set's or a model's name on the hub, else its last part.

    >>> _name("org/name", True), _name("/home/me/data.csv", True), _name("clinic/patients.csv", False)
    ('org/name', 'data.csv', 'patients.csv')
    """
    of_the_hub = is_public and re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?(@[\w./-]+)?", path)
    return path if of_the_hub and not Path(path).exists() else Path(path).name


@dataclass(frozen=True)
class WindowNames:
    """The names of a run in a window beside its id: its arm (all but the seed), and a tag for each dial that differs
    from its default."""

    arm: str
    tags: list[str]


def window_names(record: Record) -> WindowNames:
    """Model, task, method and rank, then every setting that differs from its default, and as tags the seed too.

    A window learns of a run before other runs of its sweep begin, so the run's names depend only on itself.
    """
    config = record.config | {"rank": record.rank, "seed": record.seed}
    typed = dict(override.split("=", 1) for override in variation.overrides(config))
    tags = [f"{key}={Path(value).name if key in variation.INPUTS else value}" for key, value in typed.items()]
    arm = " ".join(tag for tag in tags if not tag.startswith(("model=", "task=", "seed=")))
    if len(arm) > LONGEST:
        arm = f"{arm[: LONGEST - 7]} {variation.digest(arm)}"
    return WindowNames(arm, [tag[-LONGEST:] for tag in tags])


def end_tags(record: Record) -> list[str]:
    """Tags that a run gets when it has ended."""
    if record.status != "completed":
        return [record.status]
    return ["collapsed"] if record.completed.collapsed else []


def end_of(status: str, reason: str | None) -> dict[str, Any]:
    """How a run ended, as its summary has it. A reason may quote an error of any library: of a path in it only the last
    part is shown, and neither this machine's name nor a secret. A relative path is known by its extension, its first
    part (`~me`, `.`, `..`), or because it exists; `test/accuracy` and `org/model` are none.

    >>> end_of("failed", "OSError: /home/me/data.csv is gone, '/a b/c d.csv' too")
    {'status': 'failed', 'status/why': "OSError: data.csv is gone, 'c d.csv' too"}
    >>> end_of("failed", "see file:///home/me/a.csv, at:/home/me/b and https://hub.org/a/b")["status/why"]
    'see a.csv, at:b and https://hub.org/a/b'
    >>> end_of("failed", "no clinic/patients.csv, ~me/x: 1/2 of test/accuracy of org/model-0.5B")["status/why"]
    'no patients.csv, x: 1/2 of test/accuracy of org/model-0.5B'
    """
    parts = ADDRESS.split(QUOTED_PATH.sub(r"\1\2\1", redact(reason or "")))
    parts[::2] = [RELATIVE.sub(_last, QUOTED.sub(_last, PATH.sub(r"\1", part))) for part in parts[::2]]
    why = "".join(parts)
    host = platform.node()
    return {"status": status, "status/why": why.replace(host, "this machine") if len(host) > 2 else why}


def _last(path: re.Match[str]) -> str:
    """The last part of what may be a relative path; the whole where it is none."""
    whole, last = path[0], path[1]
    is_path = whole.startswith(("~", "./", "../")) or EXTENSION.search(last) or os.path.exists(whole)
    return last if is_path else whole


def summary(record: Record, runs_dir: Path | None = None) -> dict[str, Any]:
    """The summary of a completed run by key: its scores, what it cost, its update, and how it differs from its
    reference.

    Args:
        runs_dir: where the reference's record is; None leaves the difference out.
    """
    result = record.completed
    flat: dict[str, Any] = dict(result.metrics)
    flat |= {f"baseline/{key}": value for key, value in result.baselines.items()}
    flat |= {f"parameters/{key}": value for key, value in asdict(result.parameters).items()}
    flat |= {f"memory/{key}": value for key, value in result.memory.by_category.items()}
    flat |= {"memory/peak_bytes": result.memory.peak_bytes}
    flat |= {"collapsed": bool(result.collapsed), "collapsed/why": "; ".join(result.collapsed)}
    if cover := result.coverage:
        flat |= {f"coverage/{key}": value for key, value in asdict(cover).items() if key != "parts"}
        flat |= {f"coverage/{part.reason}/{part.module}": part.parameters for part in cover.parts}
    flat |= {"metric": result.metric, "higher_is_better": result.higher_is_better}
    flat |= {"score": result.metrics.get(f"{record.split}/{result.metric}"), "score/split": record.split}
    flat |= {f"time/{key}": value for key, value in asdict(result.time).items()}
    return flat | _of_update(record) | _against_reference(record, runs_dir)


def _of_update(record: Record) -> dict[str, Any]:
    """Means of the update's measures; none for a trial."""
    result = record.completed
    means = result.summary
    if not means:
        return {}
    flat = {f"spectrum/{key}": means[key] for key in SUMMARY_KEYS}
    flat |= {f"spectrum/{key}": means[key] for key in OF_FULL if key in means}
    flat |= {key.replace(".", "/"): value for key, value in means.items() if key.startswith("captured.")}
    shares = noise_shares(record)
    flat |= {f"noise_share/{module}": share for module, share in shares.items()}
    if shares:
        flat["noise_share"] = sum(shares.values()) / len(shares)
    if cuts := _scores(record, "cut"):
        flat["truncation/smallest_k"] = _smallest(cuts, result.higher_is_better)
    return flat


def noise_shares(record: Record) -> dict[str, float]:
    """Effective rank as a share of that of noise of the same shape, for LoRA of the same rank too, by type of module:
    1 is pure noise, a small share is structure. A matrix of which noise tells nothing is left out."""
    modules: dict[str, list[float]] = {}
    for row in record.completed.matrices.values():
        if (share := share_of_noise(row, record.method)) is not None:
            modules.setdefault(row["module"], []).append(share)
    return {module: sum(shares) / len(shares) for module, shares in modules.items()}


def _scores(record: Record, part: str) -> dict[int, float]:
    """The score under each truncation of one part (`cut`, `remainder`) by k."""
    result = record.completed
    rows = [row for row in result.truncation or [] if row["part"] == part and row.get("module") is None]
    return {row["k"]: row[result.metric] for row in rows if row.get(result.metric) is not None}


def _smallest(cuts: dict[int, float], higher_is_better: bool) -> int:
    """The smallest k from which on every cut scores as well as the whole update, which is the last."""
    ranks, sign = sorted(cuts), 1 if higher_is_better else -1
    whole = sign * cuts[ranks[-1]]
    smallest = ranks[-1]
    for k in reversed(ranks):
        if sign * cuts[k] < whole:
            break
        smallest = k
    return smallest


def _against_reference(record: Record, runs_dir: Path | None) -> dict[str, Any]:
    """Every score of the test split minus the reference's, where that is recorded."""
    name, result = record.completed.reference, record.completed
    if runs_dir is None or name is None:
        return {}
    try:
        other = read_record(runs_dir / name).result
    except (FileNotFoundError, DamagedRecord):
        return {}
    if other is None:
        return {}
    flat: dict[str, Any] = {"reference": name, "reference/score": other.metrics.get(f"{record.split}/{result.metric}")}
    for key, value in result.metrics.items():
        theirs = other.metrics.get(key)
        if key.startswith(f"{record.split}/") and value is not None and theirs is not None:
            flat[f"difference/{key}"] = value - theirs
    main = f"difference/{record.split}/{result.metric}"
    return flat | ({"difference/score": flat[main]} if main in flat else {})


def curves(record: Record, spectra: dict[str, Any]) -> list[dict[str, float | None]]:
    """The rows of the curves that have an axis of their own (`AXES`): the truncation curve of a full update, the
    singular values of each type of module with those of noise, and the score against the rank.

    Args:
        spectra: as `load_spectra` gives them; empty for a trial.
    """
    rows: list[dict[str, float | None]] = []
    cut, rest = _scores(record, "cut"), _scores(record, "remainder")
    for k in sorted(cut):
        row: dict[str, float | None] = {TRUNCATION.key: k, "truncation/cut": cut[k]}
        row |= {"truncation/remainder": rest[k]} if k in rest else {}
        rows.append(row | {"truncation/whole": cut[max(cut)]})
    lines = mean_spectra(record, spectra) if spectra else {}
    for i in shown_indices(max((len(line.sigma) for line in lines.values()), default=0)):
        row = {SPECTRUM.key: i}
        for module, line in lines.items():
            if i <= len(line.sigma):
                row |= {f"spectrum/sigma/{module}": float(line.sigma[i - 1])}
                if math.isfinite(noise := float(line.null[i - 1])):
                    row |= {f"spectrum/null/{module}": noise}
        rows.append(row)
    return rows + (_answer(record, spectra) if spectra else [])


def _answer(record: Record, spectra: dict[str, Any]) -> list[dict[str, float | None]]:
    """The score at the run's rank; that of a method without ranks from 1 to the most that a matrix can have, so that it
    is a line beside the ranks of others."""
    most = max(len(parts["sigma"]) for parts in spectra.values())
    ranks = [1, most] if record.rank is None else [record.rank]
    score = record.completed.metrics.get(f"{record.split}/{record.completed.metric}")
    return [{ANSWER.key: rank, "answer/score": score} for rank in ranks]
