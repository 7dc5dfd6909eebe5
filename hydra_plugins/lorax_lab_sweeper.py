"""The lab's sweeper for Hydra, which looks for plugins in this namespace. Hydra reads this file whenever it starts, so
all that is slow is imported once a sweep begins."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf


class LoraxLabSweeper(BasicSweeper):
    """Hydra's basic sweeper, which knows its whole grid before it begins: every run is checked, the reference joins
    them, and what is recorded is not trained again.

    Args:
        max_batch_size: not used; it is an argument of every basic sweeper.
        params: lists of values by key, as an experiment's file has them.
        grids: a JSON file with the overrides of several grids, whose runs make one sweep; studies write it.
        dry_run: list the runs and train nothing.
        show: print the settings of the first run and do nothing.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        grids: str | None = None,
        dry_run: bool = False,
        show: bool = False,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.grids, self.dry_run, self.show = grids, dry_run, show

    def sweep(self, arguments: list[str]) -> None:
        """Carry out the sweep of these overrides; ends the program with the sweep's exit code unless it is 0."""
        from lorax_lab.config.defaults import kind_defaults
        from lorax_lab.config.overrides import check_sweeps
        from lorax_lab.launch.compose import content_of, spell_out, typed

        config, launcher = self.config, self.launcher
        assert config is not None
        assert launcher is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        parser, jobs = OverridesParser.create(loader), list[list[str]]()
        for grid in json.loads(Path(self.grids).read_text(encoding="utf-8")) if self.grids else [[]]:
            parsed = parser.parse_overrides([*spell_out([*self._parse_config(), *grid]), *arguments])
            check_sweeps(parsed, loader)
            jobs += self.split_arguments(parsed, None)[0]

        @lru_cache
        def composed(choices: tuple[str, ...]) -> dict[str, Any]:
            content: Any = OmegaConf.to_container(loader.load_sweep_config(config, list(choices)))
            return {key: value for key, value in content.items() if key != "hydra"}

        contents = [content_of(job, composed) for job in jobs]
        if self.show:
            task = kind_defaults(contents[0]["task"]["kind"]) | contents[0]["task"]
            print(OmegaConf.to_yaml(OmegaConf.create(contents[0] | {"task": task})), end="")
            return
        from lorax_lab.launch.sweep import carry_out  # imports torch

        configs = [typed(content) for content in contents]
        if len(jobs) > 1 and "--multirun" not in sys.argv:  # hydra.mode says it of a single run too
            from lorax_lab.errors import ConfigError

            words = [str(override.input_line).lstrip("+") for override in parsed if override.is_sweep_override()]
            raise ConfigError(f"{' '.join(words)} is a sweep of {len(jobs)} runs; type -m at the end to run it")
        is_basic = config.hydra.runtime.choices["hydra/launcher"] == "basic"
        if code := carry_out(configs, None if is_basic else launcher, self.dry_run):
            sys.exit(code)
