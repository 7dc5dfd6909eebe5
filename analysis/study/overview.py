"""`analysis/VERDICT.md`: the answer over all studies, with a link to each study's own page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import findings, page, rules, update
from .markdown import bold, bullets, listed
from .markdown import table as markdown_table
from .records import Records
from .validator import breaches
from .verdict import Ruling, answer, of_tasks


def write(studies: Sequence[Records], links: Mapping[str, str], damaged: Mapping[str, str] | None = None) -> str:
    """The whole document.

    Args:
        studies: the one of most tasks comes first, of as many the one that began last, but those that name figures of
            their own after those that have the standard ones; a control belongs to the study that it names, and follows
            it.
        links: to each study's page, by its name.
        damaged: why each study that is not here cannot be read, by its name.
    """
    names = {study.name for study in studies}
    controls = [study for study in studies if study.declared.control_of in names]
    main = sorted((study for study in studies if study not in controls), key=rules.began, reverse=True)
    main.sort(
        key=lambda study: (study.declared.figures is None, update.has_answer(study), len(study.conditions)),
        reverse=True,
    )
    unread = [f"**{page.UNREAD}** ({name}: {reason})" for name, reason in (damaged or {}).items()]
    of_main = {study.name: [other for other in controls if other.declared.control_of == study.name] for study in main}
    in_order = [one for study in main for one in (study, *of_main[study.name])]
    answers = [_answer(study) for study in main if update.has_answer(study)]
    parts = ["# Verdict", *answers, *unread, "## All studies", _table(in_order, links)]
    for study in main:
        parts += [f"## {study.name}", " ".join(study.declared.texts["question"].split())]
        parts += _study(study, of_main[study.name])
        parts += [f"Arms, cuts, shared directions, other margins, limits: [{study.name}]({links[study.name]})."]
    return "\n\n".join(parts) + "\n"


def _answer(study: Records) -> str:
    return f"{study.name}: {f'**{page.NOT_FAIR}**' if breaches(study) else bold(answer(study))}"


def _table(studies: Sequence[Records], links: Mapping[str, str]) -> str:
    rows = []
    for study in studies:
        role = f"control of {study.declared.control_of}" if study.declared.control_of else "study"
        first = [f"[{study.name}]({links[study.name]})", role]
        if breaches(study):
            rows.append([*first, listed(study.conditions), "not fair, or not complete", *["—"] * 6])
        elif update.asks_how_low(study):
            rows += [
                [
                    *first,
                    r.task,
                    r.verdict,
                    *(str(star or "—") for star in (r.r_star, r.by_loss)),
                    _k(r),
                    *_tried(study, r.task),
                ]
                for r in of_tasks(study)
            ]
        else:
            rows += [[*first, name, "not asked", "—", "—", "—", *_tried(study, name)] for name in study.conditions]
    headings = ["study", "role", "task", "low rank", "r*", "r* by log loss", "k*", "ranks tried", "margin"]
    share = (
        "of what full fine-tuning brings over the head alone (k = 0: over its update cut to nothing; untrained: over "
        "the model before training)"
    )
    return markdown_table([*headings, share], rows)


def _k(ruling: Ruling) -> str:
    return f"{ruling.k_star}{'' if ruling.on_test else ', on validation'}"


def _tried(study: Records, task: str) -> list[str]:
    ranks = [arm.rank for arm in study.protocol.ranked()]
    return [listed(ranks) or "—", study.scale(task).amount(f"{study.protocol.margin:g}"), rules.share_of(study, task)]


def _study(study: Records, controls: Sequence[Records]) -> list[str]:
    if faults := breaches(study):
        return [f"**{page.NOT_FAIR}**", *bullets(faults)]
    parts = [page.source(study)]
    if update.asks_how_low(study):
        parts += ["### Is it low?", *page.ruled(study)]
    else:
        parts += [answer(study)]
    parts += page.compared(study)
    if stated := findings.controls(study, controls):
        parts += ["### Controls", *stated]
    return parts
