"""What each figure of a study found, in a sentence from its own table: the first line of its title."""

from collections.abc import Callable

import pandas as pd

from lorax_lab.record.share import MOST, SURE

from ...scores import higher_is_better
from .. import share
from ..update import ALL
from ..words import SAMPLE, ends, listed
from .arms import LOSS
from .cost import COSTS, reference_of
from .directions import is_lora, update_of
from .sizes import STARS

TOLD = 8
"""The rank that a title speaks of, where it was tried."""
CUT, AT_NORM = "cut", "random_at_norm"
TOP = 16
"""The number of directions that is told of the cut and its controls."""
MOST_SHARED = (("two seeds of full", "row", 8, 8), ("two seeds of r=64", "A", 8, 8))


def answer(table: pd.DataFrame, word: str = "task") -> str:
    """How much LoRA and the cut update keep, second samples of a task left out, tasks counted where there are several;
    without shares, how many surely match.

    >>> rows = pd.DataFrame({"side": "rank", "size": 8, "share": [0.9, 1], "surely_80": [True, False]})
    >>> print(answer(rows.assign(task=["a", "b"])).replace(". ", ".\\n"))
    LoRA of rank 8 keeps 90 to 100 % of what fine-tuning brings in the mean.
    Rank 8 surely keeps 80 % on 1 of 2 tasks
    >>> single = rows.assign(task="a")
    >>> print(answer(single.tail(1)).partition(". ")[2])
    Rank 8 does not surely keep 80 %
    >>> larger = single.tail(1).assign(size=16)
    >>> print(answer(pd.concat([single.head(1), larger, single.head(1).assign(side="k")])).partition(". ")[2])
    Rank 8 surely keeps 80 %, but not every larger rank tried. The top 8 directions of the full update surely keep 80 %
    """
    if "share" not in table:
        return _matching(table)
    rows = table[~table["task"].str.contains(SAMPLE)]
    rank = _rank(rows.loc[(rows["side"] == "rank") & rows["share"].notna(), "size"])
    from_rank = rows[(rows["side"] == "rank") & (rows["size"] >= rank)]
    at_rank = from_rank[from_rank["size"] == rank]
    means = ends(100 * at_rank["share"], "{:.0f}")
    text = f"LoRA of rank {rank} keeps {means} % of what fine-tuning brings in the mean. "
    at_it, from_it = (part.groupby("task")[share.column(SURE)].all() for part in (at_rank, from_rank))
    is_single, sure = len(from_it) == 1, f"{100 * SURE:.0f} %"
    if is_single and not at_it.all():
        text += f"Rank {rank} does not surely keep {sure}"
    else:
        text += f"Rank {rank} surely keeps {sure}" + (
            "" if is_single else f" on {at_it.sum()} of {len(from_it)} {word}s"
        )
    if at_it.any() and len(from_rank) > len(at_rank):
        larger = "but not every larger rank tried" if is_single else f"every larger rank tried on {from_it.sum()}"
        text += ", as every larger rank tried does" if from_it.sum() == at_it.sum() else f", {larger}"
    cuts = rows[rows["side"] == "k"].sort_values("size").groupby("task")
    smallest = [share.from_on(of_task["size"], of_task[share.column(SURE)]) for _, of_task in cuts]
    enough = [k for k in smallest if k is not None]
    if enough and len(enough) == len(smallest):
        whose = (
            ""
            if is_single
            else f" on {len(smallest)} of {len(smallest)} {word}s"
            if len(smallest) == len(from_it)
            else f" on all {word}s that were cut"
        )
        text += f". The top {max(enough)} directions of the full update surely keep {sure}{whose}"
    return text + _by_dimension(rows[rows["side"] == "dimension"], len(from_it), word)


def _by_dimension(rows: pd.DataFrame, tasks: int, word: str = "task") -> str:
    """From which dimension on a random subspace keeps 90 % in the mean; nothing where none was tried. Of
    several `tasks` the only one on which it was tried is named.

    >>> rows = pd.DataFrame({"task": ["a", "b"], "size": 100, "share": [0.9, 0.8], "share_high": 1, "surely_90": False})
    >>> for tried, tasks in ((rows, 2), (rows.head(1), 2), (rows.head(1), 1), (rows.tail(1), 2)):
    ...     print(_by_dimension(tried, tasks).partition("In the mean ")[2])
    90 % takes 100 numbers of a random subspace, on 1 of 2 tasks tried
    90 % takes 100 numbers of a random subspace, on a
    90 % takes 100 numbers of a random subspace
    90 % takes more numbers than were tried of a random subspace, on b
    """
    if rows.empty:
        return ""
    by_task = {str(task): share.enough(of_task, MOST).mean for task, of_task in rows.groupby("task")}
    sizes = [size for size in by_task.values() if size is not None]
    where = f", on {min(by_task)}" if len(by_task) < tasks else ""
    if len(by_task) > 1:
        where = f", on {len(sizes)} of {len(by_task)} {word}s tried"
    smallest = f"{ends(sizes, '{:,.0f}')} numbers" if sizes else "more numbers than were tried"
    return f". In the mean {100 * MOST:.0f} % takes {smallest} of a random subspace{where}"


def _matching(table: pd.DataFrame) -> str:
    """Of how many conditions LoRA matches from some rank on, and the cut update from some number of directions on."""
    worst = table["difference_low"] if higher_is_better(table) else -table["difference_high"]
    counts = {}
    for side, rows in table.assign(passes=worst > -table["margin"]).groupby("side"):
        by_task = rows.sort_values("size").groupby("task")
        enough = [share.from_on(of["size"], of["passes"]) for _, of in by_task]
        counts[side] = f"{sum(size is not None for size in enough)} of {len(enough)}"
    within = f"surely within {table['margin'].iloc[0]:g}"
    lora = f"From some rank on LoRA is {within} of full fine-tuning in {counts['rank']}"
    return f"{lora}; the cut update is so of the whole one in {counts['k']}"


def _rank(ranks: pd.Series) -> int:
    tried = sorted({int(rank) for rank in ranks.dropna()})
    return TOLD if TOLD in tried else tried[len(tried) // 2]


def cost(table: pd.DataFrame) -> str:
    """What LoRA of one rank costs as a share of full fine-tuning."""
    rank = _rank(table["rank"])
    shares: dict[str, list[float]] = {key: [] for key in COSTS}
    for _, rows in table.groupby("task"):
        for key in COSTS:
            shares[key].append(100 * rows.loc[rows["rank"] == rank, key].iloc[0] / reference_of(rows)[key])
    texts = [f"{ends(values, '{:.3g}')} % of the {COSTS[key]}" for key, values in shares.items()]
    return f"Rank {rank} takes {listed(texts)} of full fine-tuning"


def spectral(table: pd.DataFrame) -> str:
    """Two ranks of all matrices together, beside noise's."""
    rows = table[table["group"] == ALL]
    ratios = (100 * rows["mean"] / rows["null"]).groupby(rows["measure"])
    effective, stable = (ends(ratios.get_group(name), "{:.0f}") for name in ("effective_rank", "stable_rank"))
    return f"The full update's effective rank is {effective} % of noise's, its stable rank {stable} %"


def functional(table: pd.DataFrame) -> str:
    """What is left of the score of some top directions, beside as many random ones of their size."""
    k = TOP if (table["k"] == TOP).any() else table["k"].min()
    changes = table[table["k"] == k].groupby(["part", "task"])["difference"].mean()
    text = f"Cut to its top {k:.0f} directions the update changes the score by {ends(changes[CUT], '{:+.2f}')}"
    if AT_NORM not in changes:
        return text
    return f"{text}, with random ones of that norm by {ends(changes[AT_NORM], '{:+.2f}')}"


def modules(table: pd.DataFrame) -> str:
    """The type of matrix whose update the score needs most."""
    least = table["k"].min()
    changes = table[table["k"] == least].groupby(["task", "module"])["difference"].mean()
    task, module = changes.idxmin() if higher_is_better(table) else changes.idxmax()
    most = f"{abs(changes[task, module]):.3f} ({module}, {task})"
    return f"Cut to {least:.0f} directions, no single type of matrix loses more than {most}"


def shared(table: pd.DataFrame) -> str:
    """How much of their top directions two seeds have in common, beside random ones."""
    rows = table[(table["k"] == table["k"].max()) & table["pair"].str.contains("two seeds")]
    sides = listed(f"{ends(of['similarity'], '{:.2f}')} by {side}s" for side, of in rows.groupby("side"))
    top = f"their top {table['k'].max()} directions"
    return f"Two seeds share {sides} of {top}; random ones {rows['random'].max():.2f}" if len(rows) else ""


def trials(table: pd.DataFrame) -> str:
    """LoRA's chosen rates beside those of the first arm."""
    chosen = table[table["chosen"]].drop_duplicates(["task", "arm"])
    reference, is_of_lora = table["arm"].iloc[0], chosen["arm"].map(is_lora)
    by_task = chosen[chosen["arm"] == reference].set_index("task")["learning_rate"]
    ratios = (chosen["learning_rate"] / chosen["task"].map(by_task))[is_of_lora].dropna()
    return f"LoRA's best learning rates are {ends(ratios, '{:.2g}')} times those of {reference}" if len(ratios) else ""


def layers_share(table: pd.DataFrame) -> str:
    """What two seeds share beyond chance, the mean over matrices, by condition."""
    by_key = table.assign(beyond=table["phi"] - table["chance"]).groupby(["pair", "side", "i", "j"])
    pair, side, i, j = key = next(key for key in MOST_SHARED if key in by_key.groups)
    means = by_key.get_group(key).groupby("task", sort=False)["beyond"].mean()
    texts = listed(f"{mean:.2f} on {task}" for task, mean in means.items())
    return f"Of their top {i} directions {pair} share, beyond chance, {texts} ({side}, φ({i}, {j}))"


def amplification(table: pd.DataFrame) -> str:
    """The factor of each update of the first condition at the smallest r, beside a Gaussian's."""
    rows = table[(table["task"] == table["task"].iloc[0]) & (table["r"] == table["r"].min())]
    rows = rows.drop_duplicates("arm")  # all types of matrix together come first
    factors = [f"{row.factor:.1f} times in {update_of(row.arm)}" for row in rows.itertuples()]
    of_gaussians = [f"{gaussian:.1f}" for gaussian in rows["gaussian_factor"]]
    place = f"On {rows['task'].iloc[0]} at r = {rows['r'].iloc[0]}"
    of_updates = f"an update is as large as W in its directions {listed(factors)}"
    return f"{place} {of_updates} (Gaussian updates: {listed(of_gaussians)})"


def arms(table: pd.DataFrame) -> str:
    """How many arms surely match, and the nearest."""
    rows = table[table["matches"].notna()]
    tasks = rows["task"].nunique()
    compared = f"{len(rows)} {'arms' if tasks == 1 else 'comparisons'}"
    matching = f"{rows['matches'].eq(True).sum()} of {compared} are surely within {rows['margin'].iloc[0]:g}"
    gains = rows["difference"] if higher_is_better(rows) else -rows["difference"]
    if gains.isna().all():
        return f"{matching} of full fine-tuning; in each a run diverged"
    nearest = rows.iloc[int(gains.argmax())]
    best = f"{nearest['arm']} on {nearest['task']}" if tasks > 1 else nearest["arm"]
    return f"{matching} of full fine-tuning; the best, {best}, differs by {nearest['difference']:+.3f}"


def sets(table: pd.DataFrame) -> str:
    """The sets in which no rank matches, and those whose update the full one does not need."""

    def where(side: str, is_so: Callable[[str], bool]) -> str:
        stars = table[table["side"] == side].groupby("set", sort=False)["enough"].first()
        return ", ".join(str(name) for name, star in stars.items() if is_so(star)) or "no set"

    never, nothing = where("rank", lambda star: not star[0].isdigit()), where("k", lambda star: star[0] == "0")
    within = f"surely within {table['margin'].iloc[0]:g}"
    return f"No rank of LoRA is {within} in: {never}. The full update is so without: {nothing}"


def losses(table: pd.DataFrame) -> str:
    """The difference in log loss at the smallest and the largest rank, by condition."""
    falls = []
    for task, rows in table.groupby("task", sort=False):
        first, last = rows[LOSS].iloc[0], rows[LOSS].iloc[-1]
        falls.append(f"from {first:+.3f} to {last:+.3f} on {task}")
    ranks = table["rank"].astype(int)
    over = f"LoRA's log loss over full fine-tuning's, from rank {ranks.min()} to {ranks.max()}"
    return f"{over}, goes {listed(falls)} (nats)"


def sizes(table: pd.DataFrame) -> str:
    """r* and k* by the number of training examples."""
    stars = table[table["what"].isin(STARS)]
    texts = []
    for star, rows in stars.groupby("what", sort=False):
        values = ("none" if value != value else f"{value:.0f}" for value in rows.sort_values("examples")["value"])
        texts.append(f"{star} is {', '.join(values)}")
    counts = ", ".join(f"{count:,}" for count in sorted(set(stars["examples"])))
    return f"With {counts} training examples {' and '.join(texts)}"
