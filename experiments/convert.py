"""Reads today's lines once and writes them as Parquet."""
import base64, json, math, shutil, sys
from pathlib import Path
import numpy as np
import pandas as pd
from lorax_lab.spectra import gaussian_null
from lorax_lab.study.measured import Measured, GAUSSIAN, RECORDED
from lorax_lab.study.published import write_lines
from lorax_lab.study.tables import write_table, write_sums
from lorax_lab.study.answers import CUT_ANSWERS, CUT_PSEUDO_VALUES
from lorax_lab.config.defaults import flat
from lorax_lab.study.published import read_lines
from lorax_lab.study.rows import Afterwards, write_rows
from lorax_lab.study.declaration import *
from lorax_lab.study.declaration import TEXTS, NEUTRAL, decisive, conditions, same
from lorax_lab.study.protocol import Arm, Protocol
import yaml

R = Path(__file__).parent if False else Path(sys.argv[1])
DROPPED = {"format", "sha256", "declaration", "chosen_from", "method", "rank", "seed", "matrices", "gaussian", "functional", "sigma",
           "correct", "log_losses", "pseudo_values", "functional_correct", "functional_pseudo_values"}
worst = 0.0

def bits(text, n): return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=n).astype(bool)
def half(text): return np.frombuffer(base64.b64decode(text), "<f2")

def facts(row, sigma, rank):
    out = {"module": row["module"], "layer": row["layer"], "out": row["shape"][0], "in": row["shape"][1]}
    bn = row.get("base_norm")
    if bn is None and row.get("relative_norm"):
        bn = float(f"{row['frobenius_norm'] / row['relative_norm']:.6g}")
    if bn is not None: out["base_norm"] = bn
    if row.get("rounding_edge") is not None: out["rounding_edge"] = row["rounding_edge"]
    if False: out["rounding_energy"] = float(f"{row['rounding_share'] * row['frobenius_norm'] ** 2:.6g}")
    out |= flat({k: row[k] for k in ("nulls", "captured") if row.get(k)})
    if sigma is not None:
        out["sigma"] = np.array([row["spectral_norm"], *sigma[1:]], np.float32)  # six digits of the largest
        assert abs(sigma[0] - row["spectral_norm"]) <= 6e-4 * sigma[0]
        if "noise_std" not in row and "rounding_edge" not in row: out["is_product"] = True
        return out
    for r in (None, rank):
        try: null = gaussian_null(row["shape"], r)
        except ValueError: continue
        if all(math.isclose(null[k], v, rel_tol=1e-4) for k, v in row["null"].items()): break
    else: raise SystemExit(("no null", row, rank))
    if r is not None: out["product_rank"] = r
    no = {"module", "layer", "shape", "null", "nulls", "captured", "undefined", "untrusted", "base_norm", "relative_norm", "rounding_edge", "rounding_share", "spectral_norm", "noise_edge"}
    return out | {f"{RECORDED}.{k}": v for k, v in row.items() if k not in no}

def rank_in(line, matrix):
    own = [str(t).rpartition(":") for t in line["config"]["method"].get("ranks") or ()]
    named = [int(r) for end, _, r in own if f".{matrix}".endswith(f".{end}")]
    return named[0] if named else line["rank"]

def convert(path):
    name, folder = path.stem, path.with_suffix("")
    folder.mkdir(exist_ok=True)
    lines = []
    for text in path.open():
        old = json.loads(text)
        line = {k: v for k, v in old.items() if k not in DROPPED}
        line["config"]["rank"], line["config"]["seed"] = old["rank"], old["seed"]
        line["collapsed"] = old.get("collapsed")
        if not line["collapsed"]: del line["collapsed"]
        n = old.get("inputs", {}).get("examples", {}).get("test")
        if "correct" in old: line["correct"] = bits(old["correct"], n)
        for k in ("log_losses", "pseudo_values"):
            if k in old: line[k] = half(old[k])
        for k, read in ((CUT_ANSWERS, lambda t: bits(t, n)), (CUT_PSEUDO_VALUES, half)):
            if k in old: line[k] = {(c.partition("/")[0], int(c.partition("/")[2])): read(t) for c, t in old[k].items()}
        if "functional" in old: line["functional"] = [tuple(r) for r in old["functional"]]
        if "matrices" in old:
            line["matrices"] = {m: Measured.of(facts(r, (old.get("sigma") or {}).get(m), rank_in(old, m))) for m, r in old["matrices"].items()}
        if old.get("gaussian"):
            line[GAUSSIAN] = {m: Measured.of({k: v for k, v in facts(r, None, None).items() if k != "rounding_edge"}) for m, r in old["gaussian"].items()}
        lines.append(line)
    write_lines(folder, lines)
    shared = path.with_name(f"{name}_shared.csv")
    if shared.is_file():
        t = pd.read_csv(shared, dtype={k: str for k in ("task", "other_task", "matrix", "module")}, keep_default_na=False, na_values={k: [""] for k in ("layer", "column", "row")})
        rows = [{k: (None if v != v else int(v) if k == "layer" else v) for k, v in row.items()} for row in t.to_dict("records")]
        write_table(folder / "shared.parquet", rows)
    for rows_path in sorted(path.parent.glob(f"{name}.*.rows")):
        kind = rows_path.name.split(".")[1]
        runs, rows = {}, []
        for text in rows_path.open():
            row = json.loads(text)
            if row.keys() == {"condition", "runs", "rows"}: runs[row["condition"]] = row["runs"]
            else: rows.append(row)
        for row in rows:
            if kind == "directions": row["vectors"] = half(row["vectors"])
            if kind == "sets":
                right = row.pop("correct"); count = next(l["inputs"]["examples"]["test"] for l in lines if l["run_id"] in runs[row["condition"]])
                row["correct"] = bits(right, count); row["k"] = str(row["k"]); row.pop("score")
        rows = [r for r in rows if r.get("side") != "A at the start" or kind != "directions"]
        found = {c: Afterwards(ids, [{k: v for k, v in r.items() if k != "condition"} for r in rows if r["condition"] == c]) for c, ids in runs.items()}
        write_rows(folder, kind, found)
    declare(path, folder, lines)

def setting(override):
    key, _, text = override.partition("=")
    if key in ("task", "method"): return f"{key}.name", text
    value = yaml.safe_load(text)
    return key, sorted(value) if isinstance(value, list) else value

def declare(path, folder, lines):
    c = json.loads(path.with_suffix(".json").read_text())
    p = dict(c["protocol"])
    arms = [Arm(a["name"], tuple(a.get("overrides", a.get("words"))), a["lowest"]) for a in p.pop("arms")]
    p |= {k: tuple(p[k]) for k in ("selection_seeds", "final_seeds")}
    factors = {n: {k: tuple(v) for k, v in l.items()} for n, l in (c.get("factors") or {"task": c["tasks"]}).items()}
    written = c.get("settings")
    if written:
        cells = {(x["condition"], x["arm"]): written["all"] | x["settings"] for x in written["cells"]}
    else:
        cells = {}
        for cond, over in conditions(factors).items():
            for arm in arms:
                want = dict(map(setting, (*c.get("common", ()), *over, *arm.overrides)))
                want.pop("task.path", None)
                got = {json.dumps(decisive(l["config"]), sort_keys=True) for l in lines if all(same(want, decisive(l["config"]), k, NEUTRAL) for k in want)}
                # runs of a wider arm agree too: take the one closest
                assert got, (cond, arm)
                if len(got) > 1: print("several", path.stem, cond, arm.name, len(got))
                cells[cond, arm.name] = json.loads(sorted(got)[0])
    figures = c.get("figures")
    d = Declaration(texts={k: c[k] for k in TEXTS if k in c}, protocol=Protocol(arms=tuple(arms), **p), factors=factors, common=tuple(c.get("common", ())),
        final={a: tuple(o) for a, o in c.get("final", {}).items()}, settings=cells, neutral=dict(c.get("neutral", NEUTRAL)), apart=tuple(c.get("apart", ())),
        figures=None if figures is None else tuple(figures), control_of=c.get("control_of"), history=tuple(c.get("history", ())), written=str(c.get("written", "")),
        low_share=float(c.get("low_share", LOW_SHARE)), scores={n: (s[0], s[1]) for n, s in c.get("scores", {}).items()})
    write_declaration(folder, d)
    assert read_declaration(folder) == d, path
    none = [l["run_id"] for l in read_lines(folder) if d.cell_of(l) is None]
    assert not none, (path, len(none), len(lines), none[:3])

for path in sorted(R.glob("*.jsonl")):
    convert(path)
    print(path.stem, {p.name: p.stat().st_size for p in sorted(path.with_suffix("").iterdir())}, flush=True)
