"""The paper's tables and figures in its order, with their claims."""

from __future__ import annotations

from . import arms, directions, norms
from .arms import CENT, LARGEST, STOPS
from .directions import BARELY, LITTLE, MOST, TOP, TOP_OF_W
from .norms import ALIKE
from .reading import Claim, Section

MARGIN = "the declared margin, .02"
SECTIONS = (
    Section(
        "Table 5: which matrices to adapt, at one budget of parameters",
        "paper_which_matrices",
        ("arms",),
        (
            Claim(
                "Query and value together do better than one type of matrix at twice the rank.",
                "73.7 against 70.0 to 73.2 (WikiSQL), 91.3 against 90.8 to 91.3 (MNLI)",
                "holds where the gain over each single type is surely above 0",
                arms.several_types("query and value r=4"),
            ),
            Claim(
                "So do all four types of attention matrix at a quarter of the rank.",
                "73.7 against 70.0 to 73.2, 91.7 against 90.8 to 91.3",
                "holds where the gain over each single type is surely above 0",
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
                "73.4 at r = 1, 73.5 at 64 (WikiSQL); 91.3 and 91.4 (MNLI)",
                f"holds where rank 1 is surely within {MARGIN}, of ranks 2 to 64 in the same matrices",
                arms.rank_one_is_enough,
            ),
            Claim(
                "It is not for the query alone.",
                "68.8 at r = 1, 70.4 at 8; 90.7 and 90.7",
                "holds where rank 8 is surely better than rank 1",
                arms.rank_one_of_the_query_is_not,
            ),
        ),
    ),
    Section(
        "Figures 3 and 6: the directions of rank 8 and rank 64",
        "paper_subspaces",
        ("ranks_share",),
        (
            Claim(
                "The top direction of A is the same at rank 8 and at rank 64.",
                f"φ(1, 1) above {MOST:g}",
                f"holds where the mean over layers is surely above {MOST:g}",
                directions.top_direction,
            ),
            Claim(
                "The other directions are not.",
                "no number",
                f"holds where φ(8, 64) is surely within {LITTLE:g} of chance",
                directions.other_directions,
            ),
        ),
    ),
    Section(
        "Figures 4 and 7: the directions of two seeds",
        "paper_subspaces",
        ("seeds_share",),
        (
            Claim(
                "Two seeds have more directions in common than two Gaussian matrices.",
                "no number",
                "holds where φ(64, 64) is surely above chance",
                directions.more_than_chance,
            ),
            Claim(
                "They have more of the query's update in common than of the value's, so the query's has a higher rank.",
                "no number",
                "holds where the query's φ(64, 64) is surely above the value's",
                directions.more_of_the_query,
            ),
        ),
    ),
    Section(
        "Figure 8: the directions of W and of its update",
        "paper_subspaces",
        ("base_shares",),
        (
            Claim(
                "The update's top directions are not those of W.",
                f"φ of the top {TOP} of ΔW and the top 10 % of W barely exceeds {BARELY:g}",
                f"holds where φ({TOP_OF_W}, {TOP}) is surely below {BARELY:g}",
                directions.directions_of_the_base,
            ),
        ),
    ),
    Section(
        "Table 7: amplification",
        "paper_amplification",
        ("amplification",),
        (
            Claim(
                "W is larger in the update's directions than in random ones.",
                ".32 against .02 at r = 4, 16 times; 1.90 against .33 at r = 64, 5.8 times",
                "holds where the ratio is surely above 1",
                norms.uses_directions_of_the_base,
            ),
            Claim(
                "It is far larger in its own top directions than in the update's.",
                "21.67 against .32 at r = 4, 68 times; 37.71 against 1.90 at r = 64, 20 times",
                "holds where the ratio is surely above 2",
                norms.not_the_top_ones,
            ),
            Claim(
                "The update amplifies more at r = 4 than at r = 64.",
                "21.5 and 1.9, 11 times",
                "holds where the ratio is surely above 1",
                norms.less_at_a_higher_rank,
            ),
            Claim(
                "The factor tells of the directions that training found, not of the update's size alone.",
                "21.5; of random directions 345, by the same table",
                f"holds where the factor is surely unlike that of a Gaussian update of the same norm, by more than "
                f"{ALIKE:.2f} times; does not where it is surely within",
                norms.more_than_size,
            ),
        ),
    ),
    Section(
        "In the place of Table 8: what adapting a model adds",
        "paper_baselines",
        ("arms",),
        (
            Claim(
                "An adapted model scores far above the model as it is.",
                "RTE 85.4 against 69.0, MNLI 89.5 against 40.6 (few examples in the prompt)",
                f"holds where full fine-tuning is surely above the head alone by more than {MARGIN}",
                arms.more_than_the_head,
            ),
        ),
    ),
    Section(
        "Tables 16 and 17: few and many examples",
        "paper_data_sizes",
        ("answer",),
        (
            Claim(
                "With 100 examples LoRA does better than full fine-tuning.",
                "63.8 against 60.2",
                "holds where the gain is surely above 0",
                arms.better_with_few,
            ),
            Claim(
                "It is no worse with more.",
                "85.6 against 85.8 (1,000), 89.2 against 88.9 (10,000), 91.7 against 89.5 (392,000)",
                f"holds where LoRA is surely within {MARGIN}",
                arms.no_worse_at_any_size,
            ),
        ),
    ),
    Section(
        "Table 18: rank by log loss",
        "paper_rank_by_loss",
        ("losses",),
        (
            Claim(
                f"The loss falls up to rank {STOPS} and stays from there.",
                "1.23 at r = 1, 1.16 at 16 and at 256, 1.17 at 1,024",
                f"holds where it surely falls from 1 to {STOPS}, and surely stays within {CENT:g} nats to {LARGEST}",
                arms.loss_falls_and_stops,
            ),
        ),
    ),
)
