"""`hydra/sweeper=search`: Optuna's sweeper for Hydra, told what the task's metric asks for. Hydra reads this file
whenever it starts, so all that is slow is imported once a search begins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    OptunaSweeper = Any
else:
    try:
        from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
    except ImportError:  # without the extra `search`, Hydra sees no sweeper here
        OptunaSweeper = object


class Search(OptunaSweeper):
    """Trials of single runs, each chosen by the scores on validation before it. A trial without a result counts as
    failed, and the search goes on."""

    def sweep(self, arguments: list[str]) -> None:
        """Search the settings that have lists or ranges; ends the program with exit code 1 if a trial has no result.

        Raises:
            ConfigError: there is nothing to search, or a setting is not possible.
        """
        import optuna
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.core.utils import JobReturn, JobStatus
        from omegaconf import OmegaConf

        from lorax_lab.console import say
        from lorax_lab.errors import ConfigError, in_one_line
        from lorax_lab.launch.compose import typed
        from lorax_lab.tasks import is_higher_better

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        search = self.sweeper
        parsed = OverridesParser.create().parse_overrides(arguments)
        fixed = [word.input_line for word in parsed if not word.is_sweep_override()]
        searched = [word.input_line for word in parsed if word.is_sweep_override()]
        if not searched and not search.params:
            raise ConfigError("hydra/sweeper=search: there is nothing to search; type a list too, as in rank=1,2,4,8")
        content: Any = OmegaConf.to_container(
            search.hydra_context.config_loader.load_sweep_config(search.config, fixed)
        )
        del content["hydra"]
        search.direction = "maximize" if is_higher_better(typed(content).task) else "minimize"
        failed, started_by = 0, search.launcher.launch

        def launch(jobs: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            nonlocal failed
            for number, job in enumerate(jobs, initial_job_idx + 1):
                say(f"trial {number} of {search.n_trials}: {' '.join(job)}", style="bold")
            returns = started_by([[*fixed, *job] for job in jobs], initial_job_idx=initial_job_idx)
            for error in [done._return_value for done in returns if done.status == JobStatus.FAILED]:
                if isinstance(error, ConfigError):
                    raise error
                failed += 1
                say(f"a trial has no score: {in_one_line(error)}")
            return returns

        search.launcher.launch = launch
        try:
            super().sweep(searched)
        except ValueError as error:  # Optuna has no best of no trial
            if failed < search.n_trials:
                raise ConfigError(in_one_line(error)) from None
            say(f"none of {failed} trials has a score")
            sys.exit(1)
        best = OmegaConf.load(Path(search.config.hydra.sweep.dir) / "optimization_results.yaml")
        words = " ".join(f"{key.lstrip('+')}={value}" for key, value in best.best_params.items())
        lacking = f", {failed} of them failed" if failed else ""
        say(f"the best of {search.n_trials} trials on validation{lacking}: {words} ({best.best_value:.3f})")
        say("next: train it with new seeds, as in seed=1,2,3 -m, for the best of many scores is partly luck")
        if failed:
            sys.exit(1)
