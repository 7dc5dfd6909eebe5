"""The workspace and the report, as W&B saves them: the panels of `panels.py`, and which runs each shows.

Filters are written here, not through `wandb_workspaces`, whose texts of filters double each `=` of a value
(`study=x` becomes `study==x`) and leave out the `value` in the names of nested settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorax_lab.dashboard import panels
from lorax_lab.dashboard.library import Config, reports, workspaces
from lorax_lab.dashboard.pages import StudyPage
from lorax_lab.dashboard.shown import Shown

FIGURES = "figures"
"""Type of the runs that hold no training but the figures of a study."""
STUDY = "study"
"""The setting by which a run says which study it is of."""
GROUPS = (panels.TASK, panels.ARM)
"""Runs are listed, and drawn, as arms of a task: those that differ in the seed alone are one line, their mean."""
LONGEST = 128
"""Letters of a report's title, at most; W&B refuses more."""
NO_STUDY = (
    "All runs of this project. A verdict is a study's: it compares arms by a protocol that was declared first. "
    "A study has a section of its own here with `--study NAME`."
)


@dataclass(frozen=True)
class Place:
    """The project that holds the runs, and the user or team that owns it, empty where no login says."""

    project: str
    entity: str = ""


def workspace(place: Place, shown: Shown, studies: Sequence[StudyPage]) -> Any:
    """A saved view of the project: one section of panels for each question, over the runs of the studies, or over all.

    Returns:
        A `View`, of which W&B keeps the JSON.
    """
    sections = [
        workspaces.Section(
            name=section.name,
            panels=section.panels,
            is_open=number < 3,
            layout_settings=workspaces.SectionLayoutSettings(columns=2, rows=2),
        )
        for number, section in enumerate(panels.sections(shown))
    ]
    view = workspaces.Workspace(
        entity=place.entity,
        project=place.project,
        name=" ".join(["lorax_lab", *(study.name for study in studies)]),
        sections=sections,
        settings=workspaces.WorkspaceSettings(max_runs=100, point_visualization_method="downsampling"),
        runset_settings=workspaces.RunsetSettings(
            groupby=[Config(name) for name in GROUPS], pinned_columns=list(panels.COLUMNS)
        ),
    )._to_model()
    (runs,) = view.spec.section.run_sets
    runs.filters = _filters(_of(*studies))
    runs.id = panels.named("runs", view.display_name)
    return view


def report(place: Place, shown: Shown, studies: Sequence[StudyPage]) -> Any:
    """A report: a section for each study with its verdict, figures and panels; without a study the panels of all runs.

    Returns:
        A `ReportViewspec`, of which W&B keeps the JSON.
    """
    blocks: list[Any] = [reports.TableOfContents()]
    for study in studies:
        blocks += _study(study, shown)
    if not studies:
        blocks += [reports.P(NO_STUDY), *_grids("all runs", shown, _of())]
    title = ": ".join(["lorax_lab", ", ".join(study.name for study in studies) or place.project])
    made = reports.Report(
        project=place.project, entity=place.entity, title=title[:LONGEST], blocks=blocks, width="fluid"
    )._to_model()
    for runs in runsets(made):
        runs.id = panels.named("runs", runs.name)
    return made


def runsets(made: Any) -> list[Any]:
    """Every set of runs of a report, in the order in which they stand."""
    grids = [block.metadata for block in made.spec.blocks if block.type == "panel-grid"]
    return [runs for grid in grids for runs in grid.run_sets]


def figure_key(path: Path) -> str:
    """The key under which a figure is shown."""
    return f"figure/{path.stem}"


def figures_run(study: str) -> str:
    """The id of the run that holds a study's figures."""
    return f"{FIGURES}-{study}"


def _study(study: StudyPage, shown: Shown) -> list[Any]:
    """A study's section: the question and the verdict, the figures, the panels of its runs, how it was found."""
    blocks: list[Any] = [reports.H1(study.name)]
    blocks += [reports.P(study.question)] if study.question else []
    blocks += [reports.CalloutBlock(study.verdict)]
    if study.figures:
        keys = [figure_key(path) for path in study.figures]
        gallery = reports.MediaBrowser(title=f"Figures of {study.name}", media_keys=keys, num_columns=2)
        gallery._id = panels.named(study.name, FIGURES)
        only = [_where("run", "name", "=", figures_run(study.name))]
        blocks += [_grid(f"figures of {study.name}", [gallery], only, columns=1, height=24)]
    blocks += _grids(study.name, shown, _of(study))
    return [*blocks, reports.H2("How it was found"), reports.MarkdownBlock(study.rest.strip())]


def _grids(name: str, shown: Shown, filters: list[dict[str, Any]]) -> list[Any]:
    """A grid for each question; the answer has one for each task, where the ranks of a method are one line."""
    blocks: list[Any] = []
    for section in panels.sections(shown):
        blocks += [reports.H2(section.name)]
        if section.name != panels.ANSWER:
            blocks += [_grid(f"{name}, {section.name}", section.panels, filters, GROUPS)]
            continue
        for task in shown.tasks:
            of_task = [*filters, _where("config", nested(panels.TASK), "=", task)]
            blocks += [reports.H3(task), _grid(f"{name}, {task}", panels.answers(f"{name} {task}"), of_task)]
    return blocks


def _grid(name: str, made: list[Any], filters: list[dict[str, Any]], groups: Sequence[str] = (), **layout: int) -> Any:
    runs = reports.Runset(name=name, groupby=[f"config.{group}" for group in groups])
    runs._stashed_filters_v2, runs._stashed_filter_string = _filters(filters), str(runs.filters)
    return reports.PanelGrid(runsets=[runs], panels=panels.laid_out(made, **layout))


def nested(key: str) -> str:
    """A setting's name in a filter: W&B keeps each top-level setting's value under `value`.

    >>> nested("task.name"), nested("rank")
    ('task.value.name', 'rank.value')
    """
    first, *rest = key.split(".")
    return ".".join([first, "value", *rest])


def _where(section: str, name: str, operator: str, value: Any) -> dict[str, Any]:
    return {"key": {"section": section, "name": name}, "op": operator, "value": value, "disabled": False}


def _of(*studies: StudyPage) -> list[dict[str, Any]]:
    """The runs of the studies, or all runs; not the trials of learning rates, whose score is of another split."""
    names = [study.name for study in studies]
    of_studies = _where("config", nested(STUDY), "IN", names) if names else _where("run", "jobType", "!=", FIGURES)
    return [of_studies, _where("config", nested("measure"), "!=", "trial")]


def _filters(all_of: list[dict[str, Any]]) -> dict[str, Any]:
    first, *others = all_of
    return {"filterFormat": "filterV2", "filters": [first, *(other | {"connector": "AND"} for other in others)]}
