"""Does r90 or k90 move with the depth of an encoder? MiniLM of six layers and of three, of one width, tuned alike.

Their word embeddings are alike (a mean cosine of .88), so both seem cut from one larger MiniLM; each was then tuned on
pairs of sentences of its own. So depth is not all that differs. Runs of the six layers are those of
`experiments.pretraining` on its pretrained base.
"""

from experiments.pretraining import plan_of_bases, write_spotted
from experiments.study import Plan


def plan() -> Plan:
    return plan_of_bases({"6 layers": ("model=minilm",), "3 layers": ("model=minilm_l3",)}, write_spotted)
