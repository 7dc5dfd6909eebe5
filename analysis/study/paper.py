"""The LoRA paper's own numbers (Hu et al. 2021), by study, column and arm or size, to stand beside ours: `hu_2021.csv`.

- Tables 5 and 6: validation accuracy in per cent by arm, one seed, the best of one tuning.
- Table 18: validation loss and BLEU by rank, GPT-2 medium on E2E after 26,000 steps, one seed.
- Table 16: validation accuracy on MNLI in per cent by arm and number of training examples, GPT-3, one seed.
- Table 7, by r, of the query matrix of layer 48 of GPT-3; it has no Gaussian. The norm of the update, and that of W in
  its directions, in random ones and in W's own. Factors are the update's norm over each of the other three: 21.5 is the
  paper's own, the others follow from these norms, which have two digits:
  .02 stands for .015 to .025, and so 350 for 280 to 460.
"""

from functools import cache
from pathlib import Path

import pandas as pd

FILE = Path(__file__).with_name("hu_2021.csv")


@cache
def theirs(study: str) -> dict[str, dict[str, float]]:
    """The paper's numbers beside a study, by column, and by arm or size; none of a study that does not ask again."""
    rows = pd.read_csv(FILE, dtype={"at": str, "value": float})
    columns = rows[rows["study"] == study].groupby("column", sort=False)
    return {str(name): dict(zip(part["at"], part["value"], strict=True)) for name, part in columns}
