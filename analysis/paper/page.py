"""`docs/paper.md`: a section for each table and figure of the LoRA paper; every number comes from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..study.command import PAGE
from ..study.markdown import listed
from ..study.markdown import table as markdown_table
from ..study.records import Records
from ..study.validator import breaches, not_begun
from .reading import FAILS, HOLDS, UNSURE, Reading, Section
from .sections import SECTIONS

INTRODUCTION = """\
What Hu et al. 2021 ([arXiv 2106.09685](https://arxiv.org/abs/2106.09685)) found on GPT-3, asked again of MiniLM
(hidden size 384, 6 layers) with what the paper lacked: full fine-tuning on the same axis, equal tuning of every arm,
five seeds with 95 % intervals, and chance, noise or a control beside each number. Written by `python -m analysis paper`
from the published records; nothing is trained. [Studies](studies.md) has the protocol, [figures](figures.md) explains
each figure."""
OUTCOMES = f"""\
A claim *{HOLDS}* or *{FAILS}* where the whole interval says so by the rule below it.
Else it *{UNSURE}*. That a claim does not hold here does not say that it does not on GPT-3."""
NOT_RUN = "not run yet"


def write(studies: Sequence[Records], links: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        studies: that can be read; those of no section are not used.
        links: to each study's folder of figures, by its name.
    """
    by_name = {study.name: study for study in studies}
    parts = ["[lorax_lab](../README.md) · [docs](README.md)", "# The LoRA paper's claims, and what they are here"]
    parts += [INTRODUCTION, OUTCOMES]
    readings = {
        (section.title, claim.text): list(claim.read(by_name[section.study]))
        for section in SECTIONS
        if _why_not(by_name.get(section.study), section.study) is None
        for claim in section.claims
    }
    parts.append(_overview(readings))
    for section in SECTIONS:
        parts += _section(section, by_name.get(section.study), readings, links)
    return "\n\n".join(parts) + "\n"


Readings = Mapping[tuple[str, str], list[Reading]]


def _overview(readings: Readings) -> str:
    rows = []
    for section in SECTIONS:
        for claim in section.claims:
            of_claim = readings.get((section.title, claim.text))
            rows.append([section.title.partition(":")[0], claim.text, _outcome(of_claim)])
    return markdown_table(["of the paper", "claim", "here"], rows)


def _outcome(readings: list[Reading] | None) -> str:
    """The outcomes of a claim, with the tasks of each; a task of several is told by all of them."""
    if readings is None:
        return NOT_RUN
    by_task: dict[str, list[str]] = {}
    for reading in readings:
        by_task.setdefault(reading.task, []).append(reading.outcome)
    tasks = {task: _summed(outcomes) for task, outcomes in by_task.items()}
    kinds = [kind for kind in (HOLDS, FAILS, UNSURE, MIXED) if kind in tasks.values()]
    return "; ".join(f"{kind} ({listed(t for t, own in tasks.items() if own == kind)})" for kind in kinds) or "—"


MIXED = "differs"


def _summed(outcomes: list[str]) -> str:
    return outcomes[0] if len(set(outcomes)) == 1 else MIXED


def _section(section: Section, study: Records | None, readings: Readings, links: Mapping[str, str]) -> list[str]:
    parts = [f"## {section.title}"]
    why = _why_not(study, section.study)
    for claim in section.claims:
        parts.append(f"**{claim.text}** The paper: {claim.theirs}.")
        if why is None:
            parts += [_table(readings[section.title, claim.text]), f"Rule: {claim.rule}."]
    if why is not None:
        parts += [f"**{NOT_RUN.capitalize()}.** {why}"]
    if study is None:
        return parts
    if why is None:
        folder = links[study.name]
        parts += [f"![{name.replace('_', ' ')}]({folder}/{name}.png)" for name in section.figures]
        parts.append(f"{_source(study)} [{study.name}]({folder}/{PAGE}) has all of it.")
    predicted = " ".join(study.declared.texts["prediction"].split())
    return [*parts, "Predicted before the runs:", f"> {predicted}"]


def _table(readings: list[Reading]) -> str:
    rows = [[r.task, r.subject, r.found, r.beside or "—", r.outcome] for r in readings]
    return markdown_table(["task", "of", "here, with the 95 % interval", "beside it", "the claim"], rows)


def _why_not(study: Records | None, name: str) -> str | None:
    """Why a study says nothing yet; None where it does."""
    command = f"Type `python -m experiments.{name}`."
    if study is None:
        return f"`{name}` has no records. {command}"
    if faults := [*not_begun(study), *breaches(study)]:
        return f"`{name}` is not complete, or breaks its protocol: {'; '.join(faults)}. {command}"
    return None


def _source(study: Records) -> str:
    finals = sum(len(study.of(task, "final")) for task in study.conditions)
    return f"From {len(study.lines)} runs, {finals} of them final, with seeds {listed(study.protocol.final_seeds)}."
