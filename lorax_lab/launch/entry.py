"""`python -m lorax_lab.run`: Hydra's program, with a few flags of its own."""

import argparse
import io
import os
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

import lorax_lab
from lorax_lab.config.overrides import CONF
from lorax_lab.errors import ConfigError, answer
from lorax_lab.launch.compose import check_flags, in_our_words, recorded, spell_out, typed


def launch() -> int:
    """Run the command line in `sys.argv`. Returns the exit code: 0 all completed, 1 some not, 2 a setting that is not
    possible, 130 interrupted."""
    # torchrun starts several processes with one command line: one of each machine says what is wrong with it
    is_first = os.environ.get("LOCAL_RANK", "0") == "0" or "TORCHELASTIC_RUN_ID" not in os.environ
    with nullcontext() if is_first else redirect_stdout(io.StringIO()):
        return answer(_launch, "; the same command goes on with what is missing", sys.stdout)


def _launch() -> int:
    import hydra

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises then what it would print, and it is said in our words
    sys.argv[1:] = for_hydra(sys.argv[1:])
    with in_our_words():
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    return 0


def for_hydra(words: list[str]) -> list[str]:
    """A command line as Hydra takes it: our flags become overrides, and `-m` may have stood anywhere.

    >>> for_hydra(["rank=4,8", "-m", "task.text=sentence", "--dry-run"])
    ['rank=4,8', '++task.text=sentence', 'hydra.sweeper.dry_run=true', '--multirun']
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"lorax_lab {lorax_lab.__version__}")
    parser.add_argument("--cfg", "-c")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    ours, rest = parser.parse_known_args(words)
    overrides = [word for word in rest if "=" in word and not word.startswith("-")]
    flags = [word for word in rest if word not in overrides]
    check_flags(flags)
    if ours.config:
        overrides = recorded(ours.config, overrides)
    overrides = spell_out(overrides, ours.config_dir or CONF)
    overrides += ["hydra.sweeper.dry_run=true"] if ours.dry_run else []
    if ours.cfg == "job" and not flags:
        overrides += ["hydra.sweeper.show=true"]  # Hydra would leave out what belongs to the kind of task
    elif ours.cfg:
        flags += ["--cfg", ours.cfg]
    flags += ["--config-dir", str(ours.config_dir)] if ours.config_dir else []
    asks = any(flag.startswith(("--cfg", "--info", "-i", "--help", "-h")) for flag in flags)
    if "--resolve" in flags and not asks:
        raise ConfigError("--resolve is not possible alone; type --cfg job --resolve")
    return [*overrides, *flags, *(["--multirun"] if ours.multirun and not asks else [])]


def job(config: DictConfig) -> float:
    """A job of Hydra's, as every sweeper and launcher may start one: the run of its configuration. Where another
    sweeper than the lab's starts it, the full fine-tune that the run is compared with comes before it. What is recorded
    is not trained again, and what another job trains is not waited for. Returns the score on validation.

    Raises:
        RuntimeError: the run has no result.
    """
    from hydra.core.hydra_config import HydraConfig

    from lorax_lab.comparison import why_unusable
    from lorax_lab.distributed import check_joined
    from lorax_lab.launch.plan import check, run_of, with_reference
    from lorax_lab.launch.runs import is_settled
    from lorax_lab.launch.sweep import Sweep
    from lorax_lab.record.lease import is_leased
    from lorax_lab.record.record import read_record

    check_joined()
    *references, run = with_reference(run_of(typed(config)))
    if HydraConfig.get().sweeper._target_.endswith(".LoraxLabSweeper"):  # it has a job for each run, and compares later
        if is_leased(run.folder):
            raise RuntimeError(f"{run.run_id} is trained by another process")
        if references and why_unusable(references[0].folder):
            run = replace(run, reference=None)
        references = []
    sweep = Sweep([*references, run])
    *_, run = sweep.runs
    if sweep.waiting:
        check(sweep.waiting)
        if sweep.train([{}], goal=run):
            raise KeyboardInterrupt
    if not is_settled(run):
        raise RuntimeError(f"{run.run_id} has no result; its record says why")
    return read_record(run.folder).completed.score("validation")
