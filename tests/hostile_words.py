"""Command lines that no run can be made of: what is typed, and what the one line of the answer has to say.

`{tmp}` is a folder with `file`, `fifo`, `loop` (a link to itself) and `dangling` (a link to nothing).
"""

from __future__ import annotations

from dataclasses import dataclass

LONG = "x" * 300


@dataclass(frozen=True)
class Hostile:
    """A command line, and texts that its answer has."""

    words: tuple[str, ...]
    says: tuple[str, ...]


def line(words: str | tuple[str, ...], *says: str) -> Hostile:
    """One of the words with its key in the answer, several with what is said of them."""
    words = (words,) if isinstance(words, str) else words
    return Hostile(words, says)


WHOLE = (
    "seed", "rank", "train.batch_size", "train.epochs", "train.max_steps", "train.gradient_accumulation",
    "train.validations", "task.train_examples", "task.validation_examples", "task.test_examples", "task.split_seed",
    "task.max_length", "train.length_window", "workers",
)  # fmt: skip
REAL = (
    "train.learning_rate", "train.warmup", "train.weight_decay", "train.clip_norm", "checkpoint_seconds",
    "time_limit_seconds", "method.alpha", "method.dropout",
)  # fmt: skip
SWITCHES = (
    "reference",
    "force",
    "isolate",
    "train.head",
    "train.checkpointing",
    "method.rslora",
    "task.drop_unlabeled",
    "task.memorise",
    "tracking.artifacts",
)
CHOICES = (
    "measure",
    "train.schedule",
    "train.precision",
    "train.device",
    "train.kernel",
    "train.dropout",
    "tracking.mode",
    "task.kind",
    "task.pooling",
    "task.metric",
)
NAMES = ("model", "runs_dir", "tracking.project", "task.name", "task.source", "task.label", "task.text")
OTHERS = (
    "task.path",
    "task.subset",
    "task.group",
    "task.text_pair",
    "tracking.entity",
    "tracking.study",
    "method.ranks",
)

WRONG = ("1.5", "four", "-1", "inf", "99999999999999999999")
NOT_READ = ("", "=", "=4", "+", "~", "@", "-", "eight")

NUMBERS = [
    *(line(f"{key}={value}", f"{key}=") for key in WHOLE for value in WRONG),
    *(line(f"{key}={value}", f"{key}=") for key in REAL for value in ("nan", "-1", "1e400", "much", "[1]")),
    *(line(f"{key}=maybe", f"{key}=maybe is not possible: it is true or false") for key in SWITCHES),
    *(line(f"{key}=xyz", f"{key.removesuffix('.mode')}=xyz", "allowed: ") for key in CHOICES),
    *(line(f"{key}=null", f"{key}=null is not possible: it is text") for key in NAMES[:5]),
    *(line(f"{key}=[a,b]", f"{key}=") for key in (*NAMES, *OTHERS)),
    *(line(f"{key}=???", f"{key}=??? is not possible") for key in ("seed", "method.alpha", "task.text", "rank")),
    line(("method=full", "method.embeddings=maybe"), "method.embeddings=maybe is not possible: it is true or false"),
    line(("method=full", "method.others=maybe"), "method.others=maybe is not possible: it is true or false"),
    line(("method=full", "method.others=false", "method.embeddings=false"), "leave out method.embeddings"),
    line("rank=0", "rank=0 is not possible: a whole number from 1"),
    line("rank=33", "rank=33 is above min(out, in) = 32", "type rank=32"),
    line("rank='4 8'", "rank=4 8 is not possible: it is a whole number", "rank=8"),
    line("rank=null", "rank=None is not possible"),
    line("seed=true", "seed=true is not possible: it is a whole number"),
    line("seed=4294967296", "an integer from 0 to 4294967295"),
    line("seed=" + "9" * 5000, "seed=99", "is not understood"),
    line("seed=" + "9" * 20_000, "seed has 20005 characters; at most 10000"),
    line("seed=١", "seed=١ is not understood"),
    line("seed=0x10", "seed=0x10 is not possible"),
    line("train.weight_decay=inf", "train.weight_decay=inf is not possible: 0 or more"),
    line(("time_limit_seconds=1e20", "isolate=true"), "time_limit_seconds=1e+20 is not possible: at most 1e9"),
    line("time_limit_seconds=5", "type isolate=true as well"),
]  # fmt: skip
PLACES = [
    line("runs_dir={tmp}/file", "is a file; name a folder, as in runs_dir=runs"),
    line("runs_dir={tmp}/file/x", "{tmp}/file is not writable", "as in runs_dir=runs"),
    line("runs_dir={tmp}/fifo", "is a file; name a folder"),
    line("runs_dir={tmp}/dangling", "is a link to {tmp}/nowhere, which is not there", "as in runs_dir=runs"),
    line("runs_dir={tmp}/dangling/x", "is a link to {tmp}/nowhere, which is not there"),
    line("runs_dir={tmp}/loop", "runs_dir={tmp}/loop", "as in runs_dir=runs"),
    line(f"runs_dir={{tmp}}/{LONG}", "it is a path with names of 1 to 255 bytes; for instance runs_dir=runs"),
    line("runs_dir={tmp}/" + "abcdefgh/" * 460, "it is a path with names of 1 to 255 bytes"),
    line("runs_dir={tmp}/" + "abcdefgh/" * 430, "is too long for a path; name another folder"),
    line("runs_dir=/proc/x", "runs_dir=/proc/x cannot be ", "as in runs_dir=runs"),
    line("runs_dir=/dev/null", "is a file; name a folder"),
    line("runs_dir=", "runs_dir= is not possible", "for instance runs_dir=runs"),
    line("runs_dir='  '", "for instance runs_dir=runs"),
    line("runs_dir=~/x", "runs_dir=~/x is not understood"),
    line("runs_dir='a\x00b'", r"has the sign '\x00', which no setting has; leave the sign out"),
    line("runs_dir='a\nb'", r"has the sign '\n', which no setting has"),
    line("model=a\x1b[31mb", r"has the sign '\x1b', which no setting has"),
    line("model='\ud800'", r"has the sign '\ud800', which no setting has"),
    line(f"model={LONG}", "model=xxx", "for instance model=minilm"),
    line("model=", "model= is not possible", "for instance model=minilm"),
    line("model={tmp}/fifo", "model={tmp}/fifo"),
    line("model={tmp}/loop", "model={tmp}/loop"),
    line(f"task.path={LONG}", "task.path=xxx", "for instance task.path=my.csv"),
    line("task.path={tmp}/fifo", "task.path={tmp}/fifo"),
    line("task.path={tmp}/nowhere", "task.path={tmp}/nowhere"),
    line("task.name=", "task.name= is not possible: it names the task"),
    line("tracking.project=a/b", "tracking.project=a/b is not possible: it has 1 to 128 signs"),
    line("tracking.project=", "tracking.project= is not possible"),
    line("tracking.entity='a b'", "tracking.entity=a b is not possible"),
    line("tracking.study=a/b", "tracking.study=a/b is not possible"),
]
KEYS = [
    line("rnak=4", "there is no key rnak; did you mean 'rank'"),
    line("Rank=4", "there is no key Rank; did you mean 'rank'"),
    line("rank =4", "there is no key rank ; did you mean 'rank'"),
    line("learning_rate=1", "there is no key learning_rate; did you mean 'train.learning_rate'"),
    line("train.lr=1", "there is no key train.lr; ", "train.learning_rate", "--cfg job shows all"),
    line("task.txt=a", "there is no key task.txt; did you mean 'task.text'"),
    line("epochs=3", "there is no key epochs; did you mean 'train.epochs'"),
    line("+foo=1", "there is no key foo; did you mean 'force'"),
    line("++train.foo=1", "there is no key train.foo"),
    line("a.b.c.d=1", "there is no key a.b.c.d; allowed: model, task"),
    line("rank.x=1", "there is no key rank.x"),
    line(".rank=4", "there is no key .rank; did you mean 'rank'"),
    line("task.=1", "there is no key task.; "),
    line("ｒank=4", "there is no key ｒank"),
    line("~rank", "~rank is not possible: no setting can be deleted; leave it out"),
    line("~rank=8", "~rank is not possible: no setting can be deleted"),
    line("~task", "~task is not possible: no setting can be deleted"),
    line("~method.alpha", "~method.alpha is not possible"),
    line("~foo", "'~foo' is not understood"),
    line("rank@x=4", "rank@x=4 is not possible: a setting has one place; leave @"),
    line("task@foo=tweets", "task@foo=tweets is not possible: a setting has one place"),
    line("task@_global_=tweets", "task@_global_=tweets is not possible"),
    line("rank", "rank has no value; type rank=…"),
    line("rank\t=4", r"has the sign '\t'"),
    *(line(word, "is not understood; settings are written key=value, as in rank=8") for word in NOT_READ),
    line("-rank=4", "-rank=4 is not possible"),
    line("--rank=4", "--rank=4 is not possible; did you mean"),
    line("x" * 20_000 + "=1", "20002 characters; at most 10000 can be typed"),
    *(line(f"{group}=xyz", f"{group}=xyz", "allowed: ") for group in ("method", "train", "tracking")),
    *(line(f"{group}={value}", f"{group}={value} is not possible: {group} is a name; for instance {group}=")
      for group in ("task", "method", "train", "tracking") for value in ("null", "", "{a:1}", "[a]", "1")),
    line("method=LORA", "there is no method LORA"),
    line("method=../lora", "there is no method ../lora; did you mean 'lora'"),
    line("method=peft/xyz", "method=peft/xyz: there is no such method"),
    line("task=movie_review", "task=movie_review is not a preset; did you mean 'movie_reviews'"),
    line("task={tmp}/file", "type task=local task.path={tmp}/file"),
    line(("task=a/b,c/d", "-m"), "only presets can be swept like this; type task=hub task.path=a/b"),
]  # fmt: skip
SWEEPS = [
    line("rank=4,8", "rank=4,8 is a sweep of 2 runs; type -m"),
    line("seed=glob(*)", "seed=glob(*) has no list of values; list them, as in seed=1,2,3"),
    line(("task=glob(*)", "-m"), "task=glob(*) has no list of values"),
    line("seed=choice()", "seed=choice() is not understood"),
    line("seed=interval(0,1)", "seed=interval(0,1) has no list of values"),
    line(("train.learning_rate=interval(0,1)", "-m"), "list them, as in train.learning_rate=1,2,3"),
    *(line((f"seed={of}", "-m"), f"seed={of} has no values, or more than 10000; list them")
      for of in ("range(0,1000000)", "range(10,0)", "range(0,1,0)", "range(0,1,0.0)", "range(0,inf)", "range(nan,1)",
                 "range(0,1e30)", "shuffle(range(0,1000000000))")),
    line(("seed=range(0,2000)", "rank=1,2,3,4,5,6", "-m"), "is a sweep of 12000 runs, and at most 10000 are possible"),
    line(("rank=1,99", "-m"), "rank=99 is above min(out, in) = 32"),
    line(("seed=0,x", "-m"), "seed=x is not possible: it is a whole number"),
    line(("method=lora,nope", "-m"), "there is no method nope"),
    line(("seed=", "-m"), "seed= is not possible"),
    line(("seed=[]", "-m"), "seed=[] is not possible"),
    *(line(f"rank={value}", f"rank={value.strip()} is not understood", "quote special signs")
      for value in ("4,", ",4", "[1", "{a", '"1', "'1", "1'", "1;2", "`id`", "$(id)", "=4", "'1' '2'", "foo(1)",
                    "json_str(1)")),
    *(line(f"seed={sign * 500}", "is not understood") for sign in "[({"),
]  # fmt: skip
CODE = [
    *(line(word, "_target_ is not possible; settings are plain values")
      for word in ("+hydra.callbacks.e._target_=canary.call", "_target_=canary.call",
                   "+task._target_=canary.call", "++method._target_=canary.call",
                   "method.target_modules={_target_:canary.call}", "method.target_modules=[{_target_:canary.call}]",
                   "hydra.launcher._target_=canary.call")),
    *(line(word, "is not possible; settings are plain values, or ${key} of another setting")
      for word in (
          "tracking.entity=${oc.env:HOME}", "tracking.entity='${oc.${tracking.project}:KAGGLE_KEY}'",
          'tracking.entity="${oc.env:\'HOME\'}"', "tracking.entity='\\${oc.env:HOME}'",
          "tracking.entity=${ oc.env : HOME }",
          "tracking.entity='\\\\${oc.env:HOME}'", "tracking.entity=[${oc.env:HOME}]",
          "tracking.entity={a:'${oc.env:HOME}'}", "tracking.entity='$${oc.env:HOME}'",
          "method.target_modules=['${oc.env:HOME}']", "method.target_modules=[[${oc.env:HOME}]]",
          "seed='${oc.env:HOME}',1", "seed=choice('${oc.env:HOME}',1)",
          "seed=str('${oc.env:HOME}')", "task='${oc.env:HOME}'", "method='${oc.env:HOME}'", "task.label=${oc.decode:x}",
          "tracking.entity=${hydra:job.name}", "tracking.entity=${hydra.job.name}", "tracking.entity=${now:%Y}",
          "tracking.entity=${.mode}", "tracking.entity=${tracking[project]}",
          "tracking.entity='${tracking.${task.name}}'",
          "tracking.entity='${'", "tracking.entity='${}'", "tracking.entity=${nope}",
          "runs_dir='{tmp}/${oc.env:HOME}'")),
    line("tracking.entity=${task}", "tracking.entity=${task}: ${task} is not possible"),
    line("tracking.entity=${tracking.entity}", "tracking.entity=${tracking.entity} is not possible"),
    line("seed=${seed}", "seed=${seed} is not possible"),
    line("tracking.entity='${tracking.project}{oc.env:HOME}'", "lorax_lab{oc.env:HOME} is not possible"),
    line("seed=" + "${" * 2000, "seed="),
    *(line(word, "there is no key ", " here; of Hydra's own there are hydra/launcher")
      for word in ("hydra/launcher@hydra.callbacks.e=joblib", "+hydra/launcher@x=joblib", "hydra.searchpath=[pkg://canary]",
                   "hydra.run.dir={tmp}/evil", "hydra.mode=MULTIRUN", "hydra=x", "+hydra.job.env_copy=[HOME]",
                   "hydra.job_logging.handlers={x:{a:1}}", "hydra_x=1", "~hydra",
                   "+hydra.callbacks.e={_target_:canary.call}")),
    line("hydra.sweeper.params.rank=1", "belongs into a file of --config-dir; type rank=1 -m"),
    line("hydra/sweeper=optuna", "chooses each run by the results of those before"),
    *(line(f"hydra/launcher={name}", "hydra/launcher=", "allowed: basic, joblib")
      for name in ("", "xyz", "../x", "[joblib]", "joblib,basic", "{_target_:canary.call}")),
    line("hydra.launcher.n_jobs=2", "type hydra/launcher=joblib as well"),
    *(line(("hydra/launcher=submitit_slurm", f"hydra.launcher.{setting}"), f"hydra.launcher.{key}", says)
      for setting, key, says in (
          ("setup=['touch {tmp}/evil']", "setup", "it would run commands; run them in the shell before"),
          ("additional_parameters={wrap:x}", "additional_parameters", "SBATCH_RESERVATION"),
          ("submitit_folder={tmp}/evil", "submitit_folder", "its files go into runs_dir; leave it out"),
          ("partition='a b'", "partition", "it is a word without spaces"),
          ("partition='a\nb'", "partition", r"has the sign '\n'"),
          ("name='$(id)'", "name", "it is a word without spaces"),
          ("name='${oc.env:HOME}'", "name", "is not possible"),
          ("timeout_min=abc", "timeout_min", "it is a whole number above 0; for instance hydra.launcher.timeout_min=2"),
          ("mem_gb={a:1}", "mem_gb", "it is a whole number"),
          ("n_jobs=2", "n_jobs", "is not possible with hydra/launcher=submitit_slurm"),
          ("foo=1", "foo", "there is no key hydra.launcher.foo"))),
    *(line(("hydra/launcher=joblib", f"hydra.launcher.{setting}"), "hydra.launcher.", "is not possible")
      for setting in ("n_jobs=0", "n_jobs=abc", "pre_dispatch='__import__(\"canary\")'", "backend=dask", "prefer=x",
                      "temp_folder={tmp}/evil", "timeout_min=3")),
]  # fmt: skip
FLAGS = [
    line(("-p", "x"), "--package is about what --cfg prints; type --cfg job"),
    line("--resolve", "--resolve is about what --cfg prints"),
    line(("--cfg=job", "--info"), "--cfg --info are several questions; ask one at a time"),
    line(("--cfg=job", "-p", "tran"), "--package tran is no part; did you mean 'train'"),
    line(("--cfg=job", "-p", "a[${x}"), "is no part"),
    line(("--cfg", "x"), "invalid choice", "--help lists"),
    line("--cfg", "expected one argument"),
    line(("--info", "x"), "invalid choice"),
    line(("-h", "rnak=1"), "there is no key rnak"),
    line("--hydra-help", "--help lists what is"),
    line("--experimental-rerun=x", "type --config RUN/config.yaml"),
    line(("-cn", "x"), "type --config FILE"),
    line("--config-path=x", "type --config-dir DIR"),
    *(line(("--config-dir", name), "a sign that Hydra takes for its own") for name in ("\ud800", "$HOME")),
    line("-r", "leave it out"),
    line("--multirun=3", "ignored explicit argument"),
    line(("-sc", "query=bash"), "lorax-lab --shell-completion install=bash"),
    *(line((flag, ""), "an empty name") for flag in ("--config", "--config-dir")),
    *(line(("--config-dir", f"{{tmp}}/{name}"), "is no such folder") for name in ("file", "fifo", "loop", "gone")),
    *(line(("--config", f"{{tmp}}/{name}"), "cannot be read") for name in ("fifo", "loop", "gone")),
    line(("--config", "/dev/zero"), "--config /dev/zero cannot be read: it is no file"),
    line(("--config", "{tmp}/file"), "is no run's configuration"),
]  # fmt: skip
ASKING = (
    ("-p", "x"),
    ("--cfg", "all"),
    ("--info",),
    ("--help",),
    ("--dry-run",),
    ("-m",),
    ("--cfg=hydra", "--resolve"),
)
"""Flags beside which words are checked all the same."""
CORPUS = [*NUMBERS, *PLACES, *KEYS, *SWEEPS, *CODE, *FLAGS]
FILES = {
    "a target": ("task", "# @package _global_\nhydra: {callbacks: {e: {_target_: canary.call}}}\n", "_target_"),
    "a package": ("task", "# @package hydra.callbacks.e\n_target_: canary.call\n", "_target_"),
    "a factory of logging": ("task", "# @package _global_\nhydra: {job_logging: {x: {'()': canary.call}}}\n", "()"),
    "a launcher": ("hydra/launcher", "_target_: canary.call\n", "_target_"),
    "the environment": ("task", "name: '${oc.env:HOME}'\n", "${oc.env:HOME} is not possible"),
    "the environment's name": ("task", "name: '${oc.${source}:HOME}'\n", "is not possible; settings are plain values"),
    "a default from the environment": ("experiment", "defaults: [override /task: '${oc.env:HOME}']\n", "not possible"),
    "a copy of the environment": ("task", "# @package _global_\nhydra: {job: {env_copy: [HOME]}}\n", "hydra.job.env_"),
    "a search path": ("experiment", "# @package _global_\nhydra: {searchpath: ['pkg://canary']}\n", "hydra.searchpath"),
    "a folder of its own": ("task", "# @package _global_\nhydra: {run: {dir: evil}}\n", "no key hydra.run.dir"),
    "shell commands": (
        "experiment",
        "# @package _global_\ndefaults: [override /hydra/launcher: submitit_slurm]\n"
        "hydra: {launcher: {setup: ['touch evil']}}\n",
        "hydra.launcher.setup",
    ),
    "a call of YAML": ("experiment", "seed: !!python/object/apply:canary.call []\n", "cannot be read"),
    "an alias": ("experiment", "a: &a [x, x]\nb: *a\n", "it has an alias"),
    "a key twice": ("experiment", "seed: 1\nseed: 2\n", "duplicate key seed"),
    "no YAML": ("experiment", "seed: [1\n", "cannot be read"),
    "no settings": ("experiment", "- 1\n", "has no settings; write key: value"),
    "nothing": ("experiment", "", "has no settings; write key: value"),
    "depth": ("experiment", "seed: " + "[" * 500, "cannot be read"),
    "no text": ("experiment", "\x00", "cannot be read"),
}  # fmt: skip
"""Files of a folder of `--config-dir`: where, what is in them, and what is said of them."""
ELSEWHERE = [
    *(("memory", words, says) for words, says in (
        (("rank=0",), "rank=0 is not possible"),
        (("batch=99999999999999999999",), "batch=9999"),
        ((f"model={LONG}",), "File name too long"), (("model={tmp}/fifo",), "model={tmp}/fifo is no architecture"),
        (("model={_target_:canary.call}",), "_target_"), (("+rank=1",), "+rank=1 is not possible"),
    )),
    *(("audit", words, says) for words, says in (
        ((LONG, LONG), "File name too long"), (("{tmp}/fifo", "{tmp}/fifo"), "{tmp}/fifo"),
        (("{tmp}/loop", "{tmp}/loop"), "{tmp}/loop"), (("a", "b", "--top", "0"), "type --top 64"),
    )),
    *(("card", words, says) for words, says in (
        ((LONG,), "File name too long"), (("{tmp}/loop",), "{tmp}/loop"), (("{tmp}/file",), "type --base BASE"),
        (("a", "--margin", "nan"), "type --margin 0.02"), (("a", "--alpha", "-1"), "type --alpha 16"),
        (("a", "--extract"), "type --extract rank=16"), (("a", "--extract", "rank=0"), "type --extract rank=16"),
    )),
    *(("analysis", words, says) for words, says in (
        (("--runs", LONG), "File name too long"), (("--runs", "{tmp}/file"), "there is no folder"),
        (("audit", LONG), "File name too long"), (("step", LONG), "File name too long"),
        (("study", "--records", LONG), "File name too long"), (("serving", "{tmp}/file"), "there is no folder"),
    )),
    *(("study", ("--dry-run", *words), says) for words, says in (
        (("--runs", LONG), "it is a path with names of 1 to 255 bytes"), (("--runs", "{tmp}/file"), "is no folder"),
        (("--runs", "${oc.env:HOME}"), "is not possible; settings are plain values"),
        (("hydra.launcher.setup=[x]",), "it would run commands"), (("tracking=xyz",), "there is no tracking xyz"),
        (("hydra/launcher@hydra.callbacks.e=joblib",), "there is no key hydra/launcher@"),
        (("hydra.launcher.n_jobs=2",), "type hydra/launcher=joblib as well"), (("rank=3",), "a study's runs are fixed"),
    )),
]  # fmt: skip
"""Command lines of the other entries, and what is said of them."""
