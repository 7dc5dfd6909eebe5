"""The peer of the sweep bench: one fine-tune by transformers' Trainer, with PEFT for LoRA, as people write it.

`python benchmarks/trainer_peer.py MODEL_FOLDER DATA.json full|4|8|16`: trains on the rows of `train`, evaluates
`validation` and `test`, takes the singular values of every update, prints one JSON line.
"""

from __future__ import annotations

import json
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


def main(folder: str, data: str, method: str) -> None:
    set_seed(0)
    with open(data) as file:
        splits = json.load(file)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32)
    base = {name: module.weight.detach().clone() for name, module in encoder_matrices(model).items()}
    if method != "full":
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            task_type="SEQ_CLS",
            r=int(method),
            lora_alpha=16,
            target_modules=list(base),
            modules_to_save=["classifier", "pooler"],
        )
        model = get_peft_model(model, settings)
    sets = {name: encode(tokenizer, rows) for name, rows in splits.items()}
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=64,
            learning_rate=LEARNING_RATE["full" if method == "full" else "lora"],
            warmup_steps=0.1,
            weight_decay=0.01,
            eval_strategy="steps",
            eval_steps=1 / 3,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=sets["train"],
            eval_dataset=sets["validation"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
        )
        trainer.train()
        scores = {name: trainer.evaluate(sets[name])["eval_accuracy"] for name in ("validation", "test")}
    if method != "full":
        model = model.merge_and_unload()
    ranks = [effective_rank(m.weight.detach() - base[name]) for name, m in encoder_matrices(model).items()]
    print(json.dumps({"method": method, **scores, "effective_rank": float(np.mean(ranks))}))


def encoder_matrices(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    linear = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    return {name: m for name, m in linear.items() if ".encoder." in name and "lora" not in name}


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
