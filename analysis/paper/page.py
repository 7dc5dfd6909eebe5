"""`docs/paper.md`: a section for each table and figure of the LoRA paper; every number comes from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorax_lab.study.declaration import Declaration

from ..study.command import PAGE
from ..study.figures import FIGURES
from ..study.markdown import listed
from ..study.markdown import table as markdown_table
from ..study.records import Records, has_collapsed, hours_of, training_of
from ..study.validator import breaches, not_begun
from . import controls
from .notes import adapted, floors, tasks_of
from .reading import CONTROLS, FAILS, HOLDS, TOO, UNSURE, Claim, Reading, Section, is_task
from .sections import SECTIONS

INTRODUCTION = """\
What Hu et al. 2021 ([arXiv 2106.09685](https://arxiv.org/abs/2106.09685)) found on GPT-3, asked again of MiniLM
(hidden size 384, 6 layers). Added is what the paper lacked: full fine-tuning on the same axis, equal tuning of every
arm and five seeds with 95 % intervals. Chance, noise or another arm stands beside the numbers. Written by `python -m
analysis paper` from the published records; nothing is trained. [Studies](studies.md) has the protocol,
[figures](figures.md) explains each figure."""
OUTCOMES = f"""\
A claim *{HOLDS}* or *{FAILS}* where the whole interval says so by the rule below it.
Else it *{UNSURE}*. That a claim does not hold here does not say that it does not on GPT-3. Where noise in the
update's place meets a rule too, or the factors before training do, the outcome says so. LoRA decides the claims that
are of LoRA. Where full fine-tuning was measured by the same rule, it stands beside that in the first table.

The predictions were declared before the runs, and the rules were not. What was changed of them:

- **Figures 4 and 7 and Table 7**, after their numbers were known: reviews found that two rules held for pure noise,
  that φ(64, 64) hides what a few top directions share, and that ratios were not taken matrix by matrix. The outcomes
  over all matrices were added then as well. The last claim of Table 7 was worded anew: it had been our inference, and
  not the paper's.
- **Figures 3 and 4**, after sarcasm's numbers were known and before those of movie_reviews: φ(1, 64) has rows of its
  own, so that with query and value alone the claim of Figure 3 differs by row, where it had been said not to hold.
  Both sides of the product and of full fine-tuning have rows where the query is held against the value. A, which the
  paper has, decides.
- **The table of controls**, at the same time: two seeds of LoRA, and the query against the value, have random labels
  beside them too. These are of sarcasm's texts, and a control of that task alone.
- **Tables that had no runs then**, before their runs; that in the place of Table 8 also while its runs ran, and after
  them, with the same outcome.
- **Table 16**, after its first trials and before any final run: the declared "rank 8 or 64" became one reading, by an
  interval for two. After its numbers were known, its second claim was worded with the margin, which its rule had
  before."""
TO_READ = """\
## How to read the tables

- **φ(i, j)** = ‖UᵢᵀVⱼ‖²_F / min(i, j) says how much of the span of i directions lies in that of j others, from 0 to 1.
  *Chance* is max(i, j) / d, for directions of d numbers: 384, or 1,536 on the inner side of the feed-forward matrices.
- **Sides.** *A* stands for the right singular vectors of LoRA's factor A, which the paper compares. *Rows* and
  *columns* are the right and left singular vectors of the whole update: of the product B A, or of full fine-tuning.
  *Before training* is A at its random start.
- **Amplification** is ‖ΔW‖_F / ‖UᵀW V‖_F, where U and V are the first r directions of the update. In its place stand
  those of a *Gaussian* matrix, or what random directions have by the *closed form*, r‖W‖_F / √(mn).
- A **collapsed** run ended no better than one answer for every input, or worse than it began.
- The interval is of 95 %. It is over seeds, and of a difference in score over test examples too."""
OF_PREDICTIONS = "studies.md#what-was-predicted-and-what-came-out"
BASELINES = "paper_baselines"
NOT_RUN, NOT_SHOWN, NOT_MEASURED = "not run yet", "not shown", "not measured"
MIXED = "differs by row of its table"
ORDER = "the-studies-of-the-lora-paper"
NONE = "—"
TASKS = ("movie_reviews", "sarcasm")
"""The tasks that predictions name."""


def write(
    studies: Sequence[Records],
    links: Mapping[str, str],
    damaged: Mapping[str, str] | None = None,
    to_come: Mapping[str, Declaration] | None = None,
) -> str:
    """The whole page.

    Args:
        studies: that can be read; those of no section are not used.
        links: to each study's folder of figures, by its name.
        damaged: why each other study cannot be read, by its name.
        to_come: what studies without runs declared, by the study's name.
    """
    by_name = {study.name: study for study in studies}
    parts = ["[lorax_lab](../README.md) · [docs](README.md)", "# The LoRA paper's claims, and what they are here"]
    declared = {**(to_come or {}), **{name: study.declared for name, study in by_name.items()}}
    used = list({section.study: by_name[section.study] for section in SECTIONS if section.study in by_name}.values())
    of_paper = [declared[section.study] for section in SECTIONS if section.study in declared]
    parts += [INTRODUCTION, *adapted(of_paper, used), OUTCOMES]
    if used:
        parts += [_tasks(used), _cost(used)]
    parts.append(TO_READ)
    shown = [_of_section(section, by_name.get(section.study), damaged or {}) for section in SECTIONS]
    fair = {s.study: by_name[s.study] for s, of in zip(SECTIONS, shown, strict=True) if not isinstance(of, tuple)}
    parts += [_overview(shown), *controls.section(fair)]
    predicted = dict[str, str]()
    for section, of_section in zip(SECTIONS, shown, strict=True):
        study, declaration = by_name.get(section.study), declared.get(section.study)
        parts += _section(section, of_section, study, declaration, links, fair.get(BASELINES))
        if declaration and section.study not in predicted:
            parts += _prediction(section.study, declaration, study)
        elif declaration:
            parts.append(f"The prediction stands under {predicted[section.study]}.")
        predicted.setdefault(section.study, _short(section))
    return "\n\n".join(parts) + "\n"


def _tasks(studies: Sequence[Records]) -> str:
    """On which tasks each study has runs."""
    by_tasks: dict[str, list[str]] = {}
    for study in studies:
        by_tasks.setdefault(listed(tasks_of(study)), []).append(f"`{study.name}`")
    return " ".join(f"On {tasks}: {listed(names)}." for tasks, names in by_tasks.items())


def _cost(studies: Sequence[Records]) -> str:
    """How many runs there are, how often they were trained, and how long that took."""
    lines = [line for study in studies for line in study.lines]
    count, times = len({line["run_id"] for line in lines}), len(set(map(training_of, lines)))
    again = f" Where a study had not the runs of another at hand, it trained them again: {times - count} times."
    hours = f"Their times add up to {hours_of(lines)}; most ran side by side, so that they took fewer."
    return f"So far there are {count} runs.{again if times > count else ''} {hours}"


def left_out(studies: Sequence[Records], damaged: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The tables and figures of the paper of which the page has no numbers: why in a word, and in a sentence."""
    by_name = {study.name: study for study in studies}
    shown = {section: _of_section(section, by_name.get(section.study), damaged) for section in SECTIONS}
    return {_short(section): of for section, of in shown.items() if isinstance(of, tuple)}


def _prediction(name: str, declared: Declaration, study: Records | None) -> list[str]:
    """What was predicted, and which of its tasks are open."""
    words = " ".join(declared.texts["prediction"].split())
    so_far = "" if study else ", which has no published runs yet"
    parts = [f"Predicted before the runs of `{name}`{so_far}:", f"> {words}"]
    if study:
        parts.append(f"[What came out of it]({OF_PREDICTIONS}), part by part.")
    if study and (open_tasks := [task for task in TASKS if task in words and task not in study.conditions]):
        lacks = f"The study has no runs on {listed(open_tasks)}"
        parts.append(f"{lacks}, so what the prediction says of it, or of both tasks, is open.")
    return parts


Shown = tuple[str, str] | list[list[Reading]]
"""A section's readings, a list for each claim; or in two parts why there are none."""


def _of_section(section: Section, study: Records | None, damaged: Mapping[str, str]) -> Shown:
    name = section.study
    again = f"Type `python -m experiments.{name}`, in the order that [Studies](studies.md#{ORDER}) has."
    if name in damaged:
        return NOT_SHOWN, f"`{name}` cannot be read: {damaged[name]}."
    if study is None:
        return NOT_RUN, f"`{name}` has no published records. {again}"
    if lacking := not_begun(study):
        return NOT_RUN, f"`{name}` is not complete: {'; '.join(lacking)}. {again}"
    if faults := breaches(study):
        return NOT_SHOWN, f"`{name}` is not complete, or breaks its protocol: {'; '.join(faults)}. {again}"
    return [list(claim.read(study)) for claim in section.claims]


def _overview(shown: list[Shown]) -> str:
    rows = []
    for section, of_section in zip(SECTIONS, shown, strict=True):
        for number, claim in enumerate(section.claims):
            says = of_section[0] if isinstance(of_section, tuple) else _outcome(of_section[number])
            rows.append([_short(section), claim.text, says])
    return markdown_table(["of the paper", "claim", "here"], rows)


def _outcome(readings: list[Reading]) -> str:
    """The outcomes of a claim, each with its tasks; controls and other heads are no tasks of their own. What the claim
    is of decides; the rest stands beside that."""
    by_name: dict[str, list[Reading]] = {"": []}
    for reading in readings:
        by_name.setdefault(reading.stands_beside, []).append(reading)
    own, *beside = (f"{name}: {_kinds(of)}" if name else _kinds(of) for name, of in by_name.items())
    return "; ".join([own or NOT_MEASURED, *beside])


def _kinds(readings: list[Reading]) -> str:
    by_task: dict[str, set[str]] = {}
    for reading in readings:
        if is_task(reading.task):
            by_task.setdefault(reading.task, set()).add(reading.told)
    tasks = {task: outcomes.pop() if len(outcomes) == 1 else MIXED for task, outcomes in by_task.items()}
    kinds = list(dict.fromkeys(sorted(tasks.values(), key=(HOLDS, f"{HOLDS}{TOO}", FAILS, UNSURE, MIXED).index)))
    told = [f"{kind} ({listed(task for task, own in tasks.items() if own == kind)})" for kind in kinds]
    return "; ".join(told)


def _section(
    section: Section,
    shown: Shown,
    study: Records | None,
    declared: Declaration | None,
    links: Mapping[str, str],
    baselines: Records | None,
) -> list[str]:
    parts = [f"## {section.title}"]
    for number, claim in enumerate(section.claims):
        parts.append(f"**{claim.text}** The paper: {claim.theirs}.")
        if study and not isinstance(shown, tuple):
            parts += _claim(claim, shown[number], study.conditions if section.measured else [], study.name)
    if isinstance(shown, tuple):
        parts.append(f"**{shown[0].capitalize()}.** {shown[1]}")
    measured = None if isinstance(shown, tuple) else study
    sentences = [text for note in section.notes if declared for text in note(declared, measured)]
    if measured and baselines and not section.measured and section.study != BASELINES:
        sentences += floors(measured, baselines)
    if sentences:
        parts.append(" ".join(sentences))
    if study is None:
        return parts
    if not isinstance(shown, tuple):
        folder = links[study.name]
        for name in section.figures:
            title = FIGURES[name].TITLE
            parts += [f"![{title}]({folder}/{name}.png)", f"*{title[0].upper()}{title[1:]}.*"]
        parts.append(f"{_source(study)} [{study.name}]({folder}/{PAGE}) has its arms, their scores and their rates.")
    return parts


def _claim(claim: Claim, readings: list[Reading], expected: list[str], study: str) -> list[str]:
    """A claim's table, the conditions that it lacks, and its rule."""
    rows = [[_named(r.task), r.subject, r.number, r.beside or NONE, r.told] for r in readings]
    headings = ["task", "of", "here, with the 95 % interval", "beside it", "the claim"]
    parts = [markdown_table(headings, rows)] if rows else []
    if lacking := [task for task in expected if task not in {reading.task for reading in readings}]:
        again = f"`python -m experiments.{study}`, where its runs are, measures it"
        parts.append(f"{NOT_MEASURED.capitalize()}: {listed(lacking)}; {again}.")
    return [*parts, f"Rule: {claim.rule}."]


def _short(section: Section) -> str:
    """The title without what it is about: `Table 5`."""
    return section.title.partition(":")[0]


def _named(task: str) -> str:
    return f"{task} (control)" if task in CONTROLS else task


def _source(study: Records) -> str:
    finals = sum(len(study.of(task, "final")) for task in study.conditions)
    text = f"From {len(study.lines)} runs, {finals} of them final, with seeds {listed(study.protocol.final_seeds)}."
    if flagged := [told for task in study.conditions if (told := _collapsed(study, task))]:
        text += f" Of the final runs, {listed(flagged)} collapsed; none is left out."
    return text


def _collapsed(study: Records, task: str) -> str:
    """How many final runs of a condition collapsed, or nothing."""
    lines = study.of(task, "final")
    count = sum(map(has_collapsed, lines))
    return f"{count} of {len(lines)} on {_named(task)}" if count else ""
