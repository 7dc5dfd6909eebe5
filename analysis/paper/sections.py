"""The paper's tables and figures in its order, with their claims."""

from __future__ import annotations

from . import arms, directions, norms, notes
from .arms import BETTER, CENT, LARGEST, STOPS
from .directions import BARELY, FEW, LITTLE, MANY, MOST, TOP, TOP_OF_W
from .norms import MORE
from .reading import Claim, Section

MARGIN = "the declared margin, .02"
AT_ONCE = "by an interval that is wide enough for all of them at once"
SHOWN = "The interval shown is of the closest one alone"
OF_EACH_TYPE = (
    f"holds where each gain over a single one is surely above 0, fails where one is surely below, {AT_ONCE}. {SHOWN}"
)
RANK_ONE = f"rank 1 is enough where it is surely not worse than each of ranks 2 to 64 by more than {MARGIN}"
SIZE = f"more than {MORE:.2f} times"
OF_RANKS = (
    Claim(
        "The top direction of A is the same at rank 8 and at rank 64.",
        f"a subspace of dimension 1 has φ above {MOST:g}; that may be φ(1, 1) or φ(1, {MANY})",
        f"holds where the mean of φ over matrices is surely above {MOST:g}, fails where it is surely below; "
        f"φ(1, {MANY}) asks whether the direction is among those of rank {MANY}",
        directions.top_direction,
    ),
    Claim(
        f"The other {FEW - 1} directions of A at rank {FEW} are not among those at rank 64.",
        "no number",
        f"holds where they share surely within {LITTLE:g} of chance, fails where surely more",
        directions.other_directions,
    ),
)
OF_SEEDS = (
    Claim(
        f"Two seeds have more directions in common than two Gaussian matrices, by φ of {LITTLE:g} or more.",
        "no number",
        f"holds where φ is surely above chance by more than {LITTLE:g}, fails where surely by less",
        directions.more_than_chance,
    ),
    Claim(
        "They have more of the query's update in common than of the value's, so the query's has a higher rank.",
        "no number",
        f"holds where the query's φ is surely larger by more than {LITTLE:g}, fails where surely by less. The paper "
        "has A alone",
        directions.more_of_the_query,
    ),
)
OF_BASE = (
    Claim(
        "The update's top directions are not those of W.",
        f"φ of the top {TOP} of ΔW and the top 10 % of W barely exceeds .2",
        f"holds where φ({TOP_OF_W}, {TOP}) is surely below {BARELY:g}, fails where surely above",
        directions.directions_of_the_base,
    ),
)
BY_RANK = Claim(
    "With a larger r the update has more of the directions that W emphasises.",
    "no number",
    f"counted are the squared cosines of W's top {TOP_OF_W} and all r of the update, beyond chance. It holds "
    "where these are surely more by a direction or more at r = 64 than at r = 4, fails where surely by less",
    directions.more_of_the_base_at_a_higher_rank,
)
OF_FACTORS = (
    Claim(
        "W is larger in the update's directions than in random ones, by a third or more.",
        ".32 against .02 at r = 4, 16 times; 1.90 against .33 at r = 64, 5.8 times",
        f"holds where it surely is by {SIZE}, beside a Gaussian update. It fails where W surely is larger by less, or "
        "not larger",
        norms.uses_directions_of_the_base,
    ),
    Claim(
        "It is far larger in its own top directions than in the update's.",
        "21.67 against .32 at r = 4, 68 times; 37.71 against 1.90 at r = 64, 20 times",
        "holds where it is surely more than twice as large; a Gaussian update repeats them even less",
        norms.not_the_top_ones,
    ),
    Claim(
        "The factor is far smaller at r = 64.",
        "21.5 at r = 4 and 1.9 at r = 64, a fall of 11 times; of random directions about 350 and 11, 32 times",
        "holds where the factor surely falls to less than half; a Gaussian update's falls too",
        norms.less_at_a_higher_rank,
    ),
)
SECTIONS = (
    Section(
        "Table 5: which matrices to adapt, at one budget of parameters",
        "paper_which_matrices",
        ("arms",),
        (
            Claim(
                "Query and value together do better than one type of matrix at twice the rank.",
                "73.7 against 70.0 to 73.2 (WikiSQL), 91.3 against 90.8 to 91.3 (MNLI)",
                OF_EACH_TYPE,
                arms.several_types("query and value r=4"),
            ),
            Claim(
                "So do all four types of attention matrix at a quarter of the rank.",
                "73.7 against 70.0 to 73.2, 91.7 against 90.8 to 91.3",
                OF_EACH_TYPE,
                arms.several_types("attention r=2"),
            ),
        ),
    ),
    Section(
        "Tables 6 and 15: the rank",
        "paper_which_rank",
        ("sets", "arms"),
        (
            Claim(
                "Rank 1 is enough for query and value together.",
                "73.4 at r = 1, 73.3 to 73.8 at 2 to 64 (WikiSQL); 91.3, and 91.3 to 91.6 (MNLI)",
                f"{RANK_ONE}. It is not where it is surely worse than one by more than that, {AT_ONCE}. {SHOWN}",
                arms.rank_one("query and value", True),
            ),
            Claim(
                "It is not for the query alone.",
                "68.8 at r = 1, 69.6 to 70.5 at 2 to 64; 90.7, and 90.7 to 91.1",
                f"holds where one of ranks 2 to 64 is surely better than rank 1, {AT_ONCE}. It fails where rank 1 "
                f"surely is better than each. No margin is taken, so that a gain of any size counts. {SHOWN}",
                arms.rank_one("query", False),
            ),
        ),
        notes=(notes.unequal, notes.cut_sets),
    ),
    Section(
        "Figures 3 and 6: the directions of rank 8 and rank 64",
        "paper_subspaces",
        ("ranks_share", "ranks_by_layer", "layers_share"),
        OF_RANKS,
        measured=True,
        notes=(notes.ties,),
    ),
    Section(
        "Figures 4 and 7: the directions of two seeds",
        "paper_subspaces",
        ("seeds_share", "seeds_by_layer"),
        OF_SEEDS,
        measured=True,
        notes=(notes.ties,),
    ),
    Section(
        "Figure 8: the directions of W and of its update",
        "paper_subspaces",
        ("base_shares",),
        OF_BASE,
        measured=True,
        notes=(notes.ties,),
    ),
    Section(
        "Table 7: amplification",
        "paper_amplification",
        ("amplification",),
        OF_FACTORS,
        measured=True,
        notes=(notes.means, notes.ties),
    ),
    Section(
        "Figures 3 and 6, query and value alone: the directions of rank 8 and rank 64",
        "paper_which_rank",
        ("ranks_share", "ranks_by_layer", "layers_share"),
        OF_RANKS,
        measured=True,
    ),
    Section(
        "Figures 4 and 7, query and value alone: the directions of two seeds",
        "paper_which_rank",
        ("seeds_share", "seeds_by_layer"),
        OF_SEEDS,
        measured=True,
    ),
    Section(
        "Figure 8, query and value alone: the directions of W and of its update",
        "paper_which_rank",
        ("base_shares",),
        (*OF_BASE, BY_RANK),
        measured=True,
    ),
    Section(
        "Table 7, query and value alone: amplification",
        "paper_which_rank",
        ("amplification",),
        OF_FACTORS,
        measured=True,
        notes=(notes.means,),
    ),
    Section(
        "In the place of Table 8: what adapting a model adds",
        "paper_baselines",
        ("arms",),
        (
            Claim(
                "An adapted model scores above one whose head is trained alone, by more than .02.",
                "full fine-tuning against few examples in the prompt, RTE 85.4 and 69.0, MNLI 89.5 and 40.6",
                f"holds where it surely is by more than {MARGIN}, fails where surely by less",
                arms.more_than_the_head,
            ),
        ),
        notes=(notes.baselines,),
    ),
    Section(
        "Tables 16 and 17: few and many examples",
        "paper_data_sizes",
        ("sizes", "answer"),
        (
            Claim(
                "With 100 examples LoRA does better than full fine-tuning.",
                "63.8 against 60.2, ± .3",
                f"holds where the gain of rank 8 or 64 is surely above {BETTER:g}, {AT_ONCE}. It fails where both "
                "surely are below. The interval shown is of the better one alone",
                arms.better_with_few,
            ),
            Claim(
                "With more examples it is not worse by more than .02.",
                "85.6 against 85.8 (1,000), 89.2 against 88.9 (10,000), 91.7 against 89.5 (392,000), ± .3",
                f"holds where rank 8, the paper's, is surely not worse by more than {MARGIN}, fails where it surely is",
                arms.no_worse_with_more,
            ),
        ),
        notes=(notes.sizes,),
    ),
    Section(
        "Table 18: rank by log loss",
        "paper_rank_by_loss",
        ("losses",),
        (
            Claim(
                f"The loss falls up to rank {STOPS} and stays from there.",
                "1.23 at r = 1, 1.16 at 16 and at 256, 1.17 at 1,024",
                f"holds where it surely falls to {STOPS} by more than {CENT:g} nats, and surely changes by less to "
                f"{LARGEST}; fails where one of the two is surely not so",
                arms.loss_falls_and_stops,
            ),
        ),
    ),
)
