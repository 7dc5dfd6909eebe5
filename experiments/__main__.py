"""`python -m experiments STUDY`: a study of this folder, or one that a YAML file declares: factors, arms, seeds,
prediction. `--help` after its name says what it asks and costs. A file:

    question: Does rank 1 do for tweets?
    prediction: It keeps 90 % of what fine-tuning brings.
    factors: {task: {tweets: [task=tweets]}}
    arms:
      full: {overrides: [method=full], lowest: 5e-5}
      LoRA r=1: {overrides: [method=lora, rank=1], lowest: 5e-4}
    seeds: [0, 1, 2, 3, 4]

More keys, all with defaults: cost, common, final (overrides of the final runs of an arm), selection_seeds, rates,
margin, loss_margin, extensions. The first arm is the one that the others are compared with. `lowest` is the lowest
learning rate of an arm's grid. The options are those of every study and follow the file; records go beside it.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from experiments.command import main as carry_out
from experiments.study import Plan, studies, study_of
from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.redact import guard
from lorax_lab.study.declaration import Design

NEEDED = ("question", "prediction", "factors", "arms")
OTHERS = ("cost", "common", "final", "seeds")
OF_PROTOCOL = ("selection_seeds", "rates", "margin", "loss_margin", "extensions")


def read(path: Path) -> Any:
    """The study in a file, as a module of `experiments` would be.

    Raises:
        ConfigError: it is no such file, or a key is missing, unknown or of a wrong form.
    """
    from omegaconf import OmegaConf

    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # what is no YAML, or no mapping, has no common error
        raise ConfigError(f"{path} is no YAML file of a study ({error}); --help has one") from None
    keys = (*NEEDED, *OF_PROTOCOL, *OTHERS)
    if missing := [key for key in NEEDED if not isinstance(content, dict) or key not in content]:
        raise ConfigError(f"{path} has no {', '.join(missing)}; --help has all")
    if wrong := next((key for key in content if key not in keys), None):
        raise ConfigError(f"{path}: there is no key {wrong}; {suggest(wrong, keys)}")
    texts = {key.upper(): str(content.get(key, "")) for key in ("question", "prediction", "cost")}
    plan = _plan(path, content)
    places = {"__name__": f"experiments.{path.stem}", "RECORDS": path.parent / "records"}
    return SimpleNamespace(plan=lambda: plan, **places, **texts)


def _plan(path: Path, content: dict[str, Any]) -> Plan:
    from pydantic import TypeAdapter, ValidationError

    try:
        levels = {
            factor: {str(level): overrides for level, overrides in by_level.items()}
            for factor, by_level in content["factors"].items()
        }
        arms = [{"name": str(name)} | arm for name, arm in content["arms"].items()]
        rules = {key: content[key] for key in OF_PROTOCOL if key in content} | {"arms": arms}
        rules |= {"reference": arms[0]["name"]} | ({"final_seeds": content["seeds"]} if "seeds" in content else {})
        more = {key: content[key] for key in ("common", "final") if key in content}
        design = TypeAdapter(Design).validate_python({"protocol": rules, "factors": levels} | more)
        of_trials, of_finals = design.protocol.selection_seeds, design.protocol.final_seeds
        is_twice = len({*of_trials, *of_finals}) < len(of_trials) + len(of_finals)
        if design.protocol.rates < 1 or not of_trials or not of_finals or is_twice:
            raise ValueError("rates are 1 or more, no seed is of both kinds, and seeds stand there, each once")
        return Plan(**vars(design))
    except ValidationError as errors:
        first = errors.errors()[0]
        value = f"{'.'.join(map(str, first['loc']))}={first['input']!s:.80}"
        raise ConfigError(f"{path}: a value is not as --help shows it ({value}: {first['msg']})") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: a value is not as --help shows it ({error})") from None


def main(arguments: list[str] | None = None) -> int:
    """Carry a study out; the exit codes are those of `experiments.command`."""
    guard()
    typed = sys.argv[1:] if arguments is None else arguments
    if not typed or typed[0] in ("-h", "--help"):
        print(__doc__, "Studies of this folder:", *studies(), sep="\n  ")
        return 0
    name, *words = typed
    return answer(lambda: carry_out(read(Path(name)) if Path(name).suffix else study_of(name), words))


if __name__ == "__main__":
    raise SystemExit(main())
