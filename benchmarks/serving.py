"""Six adapters on one MiniLM: switches and requests against PEFT on the same files, and against full checkpoints."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import now
from lorax_lab.launch.compose import compose
from lorax_lab.methods import METHODS
from lorax_lab.methods.adapters import SETTINGS, WEIGHTS
from lorax_lab.models import Base, load_base, resolve, select
from lorax_lab.record.folder import save_trained
from lorax_lab.serve.exchange import Batch, Exchange
from lorax_lab.serve.prove import held_bytes
from lorax_lab.streams import generator
from lorax_lab.tasks import load_task
from lorax_lab.tasks.split import Split

NAMES = [f"task-{number}" for number in range(6)]
ROWS = 24
"""Of a request."""
SWITCHES = 50
"""Number of switches that are timed together, for PEFT and for ours."""
Contender = tuple[Callable[[], object], Callable[[], object]]
"""A preparation, which is not timed, and the call that is."""


def measure(rounds: int = 15) -> dict[str, Any]:
    """Median of the paired ratios; each contender has the same batch in each round, in turn."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as scratch:
        folder = Path(scratch)
        base = _base()
        batch = _batch(base)
        tokens = batch["input_ids"].shape[1]
        _write_adapters(folder)
        exchange = Exchange(base)
        for name in NAMES:
            exchange.add(name, folder / name)
        theirs = _peft(folder)
        ours, peft = _requests(exchange, batch, NAMES[0]), _peft_requests(theirs, batch)
        changed = _changed_by_merging(exchange, theirs)  # first: a second time round, rounding changes no more
        _check_answers(ours, peft)
        turns = {f"ours, {way}": ours[way] for way in peft} | {f"PEFT, {way}": peft[way] for way in peft}
        turns |= _switches(exchange, theirs) | {"load a full model": _full_load(folder)}
        times = _in_turn(turns, rounds)
        held = held_bytes(exchange) | {"PEFT": sum(p.nbytes for p in theirs.parameters())}
        disk = {"base": sum(file.stat().st_size for file in resolve("minilm").glob("*.safetensors"))}
        disk["adapters"] = sum((folder / name / file).stat().st_size for name in NAMES for file in (WEIGHTS, SETTINGS))
        disk["six full models"] = 6 * disk["base"]
    return {
        "title": "One base, six adapters: r = 8 on all encoder matrices of MiniLM",
        "rows": _rows(times, held, disk),
        "median_seconds": {name: statistics.median(values) for name, values in times.items()},
        "switches_timed_together": SWITCHES,
        "held_bytes": held,
        "bytes_on_disk": disk,
        "weights_changed_by_merging_and_unmerging": changed,
        "note": f"Random factors and heads, read by both from the same files. A request is {ROWS} movie reviews "
        f"of up to {tokens} tokens; median of {rounds}; spread: quartiles. "
        f"While an adapter is merged ours holds {held['merged'] / 1e6:.0f} MB more. "
        f"Merging and unmerging once changed {changed['PEFT']:.1%} of the base's adapted weights in PEFT, "
        f"{changed['ours']:.0%} in ours.",
    }


def _base() -> Base:
    return load_base("minilm", {"num_labels": 2}, 0)


def _batch(base: Base) -> Batch:
    config = compose([])
    task = load_task(config.task)
    inputs = Split.encoded(task, task.test, base.processor).batch(list(range(ROWS))).inputs
    return {key: tensor for key, tensor in inputs.items() if key != "labels"}


def _write_adapters(folder: Path) -> None:
    config = compose(["rank=8"])
    for name in NAMES:
        base, draw = _base(), generator(0, name)
        METHODS["lora"].attach(base.model, select(base.model, ["all-linear"]), config.method, 8, draw)
        with torch.no_grad():
            for parameter in base.model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.randn(parameter.shape, generator=draw) / 50)
        files = METHODS["lora"].export(base.model, config.method, base.name)
        save_trained(folder / name, files)


def _peft(folder: Path) -> Any:
    from peft import PeftModel

    model = PeftModel.from_pretrained(_base().model, folder / NAMES[0], adapter_name=NAMES[0])
    for name in NAMES[1:]:
        model.load_adapter(folder / name, adapter_name=name)
    return model.eval()


def _requests(exchange: Exchange, batch: Batch, name: str) -> dict[str, Contender]:
    """The ways to serve one batch by one adapter: unmerged and merged."""

    def merge() -> None:
        exchange.switch(name)
        exchange.merge()

    serve = lambda: exchange.serve(batch)  # noqa: E731
    return {"unmerged": (lambda: exchange.switch(name), serve), "merged": (merge, serve)}


def _in_turn(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round. Each round begins with another one; a first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            prepare, call = contenders[name]
            prepare()
            start = now()
            call()
            if turn:
                times[name].append(now() - start)
    return times


def _peft_requests(model: Any, batch: Batch) -> dict[str, Contender]:
    def unmerged() -> None:
        _unmerge_peft(model)
        model.set_adapter(NAMES[0])

    def merged() -> None:
        unmerged()
        model.merge_adapter()

    @torch.inference_mode()
    def serve() -> Tensor:
        logits: Tensor = model(**batch).logits
        return logits

    return {"unmerged": (unmerged, serve), "merged": (merged, serve)}


def _unmerge_peft(model: Any) -> None:
    if next(_peft_layers(model)).merged:
        model.unmerge_adapter()


def _peft_layers(model: Any) -> Iterator[Any]:
    from peft.tuners.lora import LoraLayer

    return (module for module in model.modules() if isinstance(module, LoraLayer))


def _check_answers(ours: dict[str, Contender], peft: dict[str, Contender]) -> None:
    for way in peft:
        answers: list[Any] = []
        for before, call in (ours[way], peft[way]):
            before()
            answers.append(call())
        torch.testing.assert_close(*answers, atol=1e-4, rtol=1e-4)


def _switches(exchange: Exchange, theirs: Any) -> dict[str, Contender]:
    """Switches of both, many timed together; merges and unmerges of the first adapter."""

    def switches(switch: Callable[[str], object]) -> Callable[[], object]:
        def many() -> None:
            for name in itertools.islice(itertools.cycle(NAMES), SWITCHES):
                switch(name)

        return many

    def peft_merged() -> None:
        _unmerge_peft(theirs)
        theirs.merge_adapter()

    return {
        "ours, switches": (exchange.unmerge, switches(exchange.switch)),
        "PEFT, switches": (lambda: _unmerge_peft(theirs), switches(theirs.set_adapter)),
        "ours, merge": (exchange.unmerge, exchange.merge),
        "PEFT, merge": (lambda: _unmerge_peft(theirs), theirs.merge_adapter),
        "ours, unmerge": (exchange.merge, exchange.unmerge),
        "PEFT, unmerge": (peft_merged, theirs.unmerge_adapter),
    }


def _full_load(folder: Path) -> Contender:
    """A full checkpoint, loaded into an existing model from the page cache."""
    from safetensors.torch import load_file, save_file

    model, path = _base().model, folder / "full.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return lambda: None, lambda: model.load_state_dict(load_file(path))


def _changed_by_merging(exchange: Exchange, theirs: Any) -> dict[str, float]:
    """Share of the base's adapted weights whose bits differ after one merge and unmerge."""
    _unmerge_peft(theirs)
    weights = [layer.get_base_layer().weight for layer in _peft_layers(theirs)]
    before = [weight.detach().clone() for weight in weights]
    theirs.merge_adapter()
    theirs.unmerge_adapter()
    pairs = zip(weights, before, strict=True)
    changed = sum(int((now != then).sum()) for now, then in pairs) / sum(t.numel() for t in before)
    for weight, then in zip(weights, before, strict=True):
        weight.data.copy_(then)
    base = [tensor.clone() for tensor in exchange.held()["base"]]
    exchange.switch(NAMES[0])
    exchange.merge()
    exchange.unmerge()
    ours = sum(int((now != then).sum()) for now, then in zip(exchange.held()["base"], base, strict=True))
    return {"PEFT": changed, "ours": ours / sum(t.numel() for t in base)}


def _rows(
    times: dict[str, list[float]],
    held: dict[str, int],
    disk: dict[str, int],
) -> list[dict[str, Any]]:
    def against(what: str, over: str, under: str) -> dict[str, Any]:
        ratios = [a / b for a, b in zip(times[over], times[under], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        return {"what": what, "ratio": middle, "spread": f"{low:.3g} – {high:.3g}", "aim": ""}

    def single(what: str, ratio: float) -> dict[str, Any]:
        return {"what": what, "ratio": ratio, "spread": "one value", "aim": ""}

    ways = ("unmerged", "merged")
    switch = statistics.median(times["ours, switches"]) / SWITCHES
    both, stored = held["base"] + held["adapters"], disk["base"] + disk["adapters"]
    rows = [against("a switch: PEFT's set_adapter / ours", "PEFT, switches", "ours, switches")]
    rows += [single("load a full model / our switch", statistics.median(times["load a full model"]) / switch)]
    rows += [against(f"{name}: PEFT / ours", f"PEFT, {name}", f"ours, {name}") for name in ("merge", "unmerge")]
    rows += [against(f"a request, {way}: ours / PEFT", f"ours, {way}", f"PEFT, {way}") for way in ways]
    rows += [single("weights held, base and six adapters: ours / PEFT", both / held["PEFT"])]
    rows += [single("on disk: six full models / base and six adapters", disk["six full models"] / stored)]
    return rows
