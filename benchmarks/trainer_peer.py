"""The peer of the sweep bench: one fine-tune by transformers' Trainer, with PEFT for LoRA, grouped by length.

`python benchmarks/trainer_peer.py MODEL_FOLDER DATA.json full|4|8|16 [all|one [fp32|bf16 [STEPS]]]`: trains on the
rows of `train`, takes the singular values of every update, prints one JSON line. It evaluates as often as the lab does
(three times on `validation`, once more at the end, and on `test`), or as people do who want one number: 600 rows of
`test`, once. With a number of steps it trains that long, and prints how many tokens a second it read.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

LEARNING_RATE = {"full": 1e-4, "lora": 1e-3}


FEW = 600
"""Rows of `test` where there is one evaluation."""


def main(
    folder: str, data: str, method: str, evaluations: str = "all", precision: str = "fp32", steps: str = "-1"
) -> None:
    set_seed(0)
    with open(data) as file:
        splits = json.load(file)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id
    base = {name: module.weight.detach().clone() for name, module in matrices(model).items()}
    if method != "full":
        from peft import LoraConfig, get_peft_model

        names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        settings = LoraConfig(
            task_type="SEQ_CLS",
            r=int(method),
            lora_alpha=16,
            target_modules=list(base),
            modules_to_save=[name for name in ("classifier", "pooler", "score") if name in names],
        )
        model = get_peft_model(model, settings)
    is_one = evaluations == "one"
    if is_one:
        splits = {"train": splits["train"], "test": splits["test"][:FEW]}
    sets = {name: encode(tokenizer, rows) for name, rows in splits.items()}
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            max_steps=int(steps),
            include_num_input_tokens_seen="non_padding",
            per_device_train_batch_size=16,
            per_device_eval_batch_size=64,
            learning_rate=LEARNING_RATE["full" if method == "full" else "lora"],
            warmup_steps=0.1,
            weight_decay=0.01,
            train_sampling_strategy="group_by_length",
            eval_strategy="no" if is_one else "steps",
            eval_steps=None if is_one else 1 / 3,
            save_strategy="no",
            bf16=precision == "bf16",
            use_cpu=not torch.cuda.is_available(),
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=sets["train"],
            eval_dataset=sets.get("validation"),
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
        )
        seconds = trainer.train().metrics["train_runtime"]
        if int(steps) > 0:
            print(json.dumps({"tokens_per_second": trainer.state.num_input_tokens_seen / seconds}))
            return
        scores = {name: trainer.evaluate(sets[name])["eval_accuracy"] for name in sets if name != "train"}
    if method != "full":
        model = model.merge_and_unload()
    ranks = [effective_rank(m.weight.detach() - base[name]) for name, m in matrices(model).items()]
    print(json.dumps({"method": method, **scores, "effective_rank": float(np.mean(ranks))}))


def matrices(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The linear layers of an encoder's or a decoder's layers."""
    linear = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    return {name: m for name, m in linear.items() if re.search(r"\.layers?\.", name) and "lora" not in name}


def encode(tokenizer: object, rows: list[dict[str, object]]) -> Dataset:
    table = Dataset.from_list(rows)
    encoded = table.map(lambda r: tokenizer(r["text"], truncation=True, max_length=128), batched=True)  # type: ignore[operator]
    return encoded.remove_columns(["text"])


def effective_rank(delta: torch.Tensor) -> float:
    sigma = torch.linalg.svdvals(delta.double())
    p = sigma / sigma.sum()
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))


if __name__ == "__main__":
    main(*sys.argv[1:])
