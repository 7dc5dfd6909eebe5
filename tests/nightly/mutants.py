"""`python tests/nightly/mutants.py [FILE …]`: mutations of the modules that decide what a study says. A test must see
every one. `--sample 60 [--seed 1]` counts a random sample over all numeric rooms instead.

mutmut's operators make the mutations. pytest imports and collects the tests once; each mutation is tried in a fork of
that process, where the functions get its code, up to the first test that fails. `mutations.toml` has for each module
its tests, mutations of our own that mutmut does not make, and those that change nothing, each with its reason.
"""

import argparse
import difflib
import gc
import os
import random
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate, groupby, zip_longest
from multiprocessing import Pipe
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from libcst import FunctionDef
from libcst.metadata import MetadataWrapper, WhitespaceInclusivePositionProvider
from mutmut.mutation.file_mutation import create_mutations
from scipy.stats import binomtest

ROOT = Path(__file__).parents[2]
GATE: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("mutations.toml").read_text(encoding="utf-8"))
SAMPLE = GATE.pop("sample")
LOOP_SECONDS = 5.0
"""Of the processor, beside five times its usual ones, after which a test is in an endless loop."""
Mutation = tuple[str, str]
"""A file and its mutated text."""
Place = tuple[str, str, int]
"""Where a function is: its file, its qualified name and its first line."""


def main(words: list[str]) -> int:
    """Run and print. Returns 1 where no test sees a mutation of a gated module that is not listed as equivalent."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", choices=[*GATE, []], metavar="FILE", help="all without one")
    parser.add_argument("--sample", type=int, help="mutations in a random sample of all numeric rooms")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(words)
    os.chdir(ROOT)
    if asked.sample:
        files = sorted(str(path) for pattern in SAMPLE["files"] for path in Path().glob(pattern))
        every = [mutation for file in files for mutation in mutations(file)]
        drawn = random.Random(asked.seed).sample(every, min(asked.sample, len(every)))
        trials, tests = Trials(sorted(drawn, key=lambda mutation: mutation[0])), SAMPLE["tests"]
    else:
        files = asked.files or list(GATE)
        trials = Trials([mutation for file in files for mutation in of_gate(file)])
        tests = [path for file in files for path in (file, *GATE[file]["tests"])]
    fast = ["--assert=plain", "--tb=no", "-p", "no:cacheprovider", "-m", "not network and not gpu"]
    code = pytest.main([*fast, *dict.fromkeys(tests)], [trials])
    if not asked.sample:
        return int(code or trials.survivors > 0)
    print(share_seen(len(trials.mutations) - trials.survivors, len(trials.mutations)))
    return int(code)


def mutations(file: str) -> list[Mutation]:
    """Those that mutmut's operators make of the functions of a file."""
    source = Path(file).read_text(encoding="utf-8")
    module, made, *_ = create_mutations(file, source)
    ranges = MetadataWrapper(module, unsafe_skip_copy=True).resolve(WhitespaceInclusivePositionProvider)
    starts = [0, *accumulate(map(len, source.splitlines(keepends=True)))]
    mutated = []
    for each in made:
        if isinstance(each.contained_by_top_level_function, FunctionDef):
            ends = ranges[each.original_node].start, ranges[each.original_node].end
            start, end = (starts[position.line - 1] + position.column for position in ends)
            mutated.append((file, source[:start] + module.code_for_node(each.mutated_node) + source[end:]))
    return mutated


def of_gate(file: str) -> list[Mutation]:
    """Those of a gated file, of which `mutations.toml` makes some, or all."""
    source, mutated = Path(file).read_text(encoding="utf-8"), [] if GATE[file].get("is_by_hand") else mutations(file)
    for old, new in GATE[file].get("by_hand", []):
        assert source.count(old) == 1, f"{file} has {old!r} {source.count(old)} times; mend mutations.toml"
        mutated.append((file, source.replace(old, new)))
    return mutated


class Trials:
    """A plugin of pytest, which tries mutations in the place of its loop over the tests.

    Args:
        mutations: those of one file follow each other.
    """

    def __init__(self, mutations: list[Mutation]) -> None:
        self.mutations = mutations
        self.survivors = 0
        self.has_failed = False
        self.kills: Counter[str | None] = Counter()  # mutations that a test was the first to see, by its name

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try all mutations, and print and count the survivors."""
        assert session.items, "there are no tests"
        assert not session.testsfailed, "a test cannot be imported"
        self.session = session
        self.functions = functions({str(ROOT / file) for file, _ in self.mutations})
        gc.freeze()  # functions that the collector lists in a fork were then made there
        self.seconds, self.called = in_fork(self.measure)
        for file, mutated in groupby(self.mutations, key=lambda mutation: mutation[0]):
            self.try_all(file, [text for _, text in mutated])
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test has failed."""
        self.has_failed |= report.failed

    def try_all(self, file: str, texts: list[str]) -> None:
        """Try all mutated texts of a file."""
        source, start = Path(file).read_text(encoding="utf-8"), time.perf_counter()
        equivalent = {(old, new) for old, new, _ in GATE.get(file, {}).get("equivalent", [])}
        counts = Counter[str]()
        for text in texts:
            test = in_fork(partial(self.first_failing, file, compile(text, str(ROOT / file), "exec")))
            self.kills[test] += 1
            change = changed_lines(source, text)
            if test is None:
                counts["end the process"] += 1
            elif not test and change in equivalent:
                counts["change nothing"] += 1
            elif not test:
                counts["survived"] += 1
                print("\nno test sees\n- {}\n+ {}".format(*change))
            print("." if test else "!", end="", flush=True)
        seconds = (time.perf_counter() - start) / len(texts)
        outcomes = "".join(f", {count} {outcome}" for outcome, count in counts.items())
        print(f"\n{file}: {len(texts)} mutations{outcomes}; {seconds:.2f} s each", flush=True)
        self.survivors += counts["survived"]

    def measure(self) -> tuple[dict[str, float], dict[str, set[Place]]]:
        """What each test takes without a mutation, in seconds of the processor, and the functions that it calls."""
        files = {function.__code__.co_filename for function in self.functions}
        seconds, called = dict[str, float](), {item.nodeid: set[Place]() for item in self.session.items}
        for item, run in self.runs(self.session.items):
            places, start = called[item.nodeid], time.process_time()

            def note(frame: FrameType, *_: Any, places: set[Place] = places) -> None:
                if frame.f_code.co_filename in files:
                    places.add(place(frame.f_code))

            sys.setprofile(note)
            run()
            sys.setprofile(None)
            assert not self.has_failed, f"{item.nodeid} fails without a mutation"
            seconds[item.nodeid] = time.process_time() - start
        return seconds, called

    def first_failing(self, file: str, mutated: CodeType) -> str:
        """The name of the first test that fails where a file is mutated; empty where none does.

        The tests are those that call what changed; those that saw most mutations come first.
        """
        try:
            changed = replace_functions(self.functions, file, mutated)
        except Exception as error:  # the module cannot be imported
            return repr(error)
        items = [item for item in self.session.items if self.called[item.nodeid] & changed]
        items.sort(key=lambda item: (-self.kills[item.nodeid], self.seconds[item.nodeid]))
        for item, run in self.runs(items):
            signal.setitimer(signal.ITIMER_PROF, LOOP_SECONDS + 5 * self.seconds[item.nodeid])
            run()
            if self.has_failed:
                return item.nodeid
        return ""

    def runs(self, items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, Callable[[], None]]]:
        """Each test, and what runs it in silence."""
        self.session.config.pluginmanager.unregister(name="terminalreporter")
        for item, following in zip_longest(items, items[1:]):
            yield item, partial(item.config.hook.pytest_runtest_protocol, item=item, nextitem=following)


def in_fork(work: Callable[[], Any]) -> Any:
    """What `work` returns in a fork of this process, which stays as it is; None where the fork ends itself or is ended.

    Raises:
        Exception: that `work` raised.
    """
    receiver, sender = Pipe(duplex=False)
    child = os.fork()
    if not child:
        try:
            sender.send(work())
        except Exception as error:
            sender.send(error)
        finally:
            os._exit(0)
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        result = None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if isinstance(result, Exception):
        raise result
    return result


def functions(files: set[str]) -> list[FunctionType]:
    """The functions of some files that the garbage collector lists, methods and decorated ones too."""
    listed = [each for each in gc.get_objects() if type(each) is FunctionType]
    return [function for function in listed if function.__code__.co_filename in files]


def place(code: CodeType) -> Place:
    """Where the code of a function is."""
    return code.co_filename, code.co_qualname, code.co_firstlineno


def replace_functions(old: list[FunctionType], file: str, mutated: CodeType) -> set[Place]:
    """Give the functions of a file the code that they have in its mutated text, whoever holds them; the places of those
    that this changes."""
    names = dict(vars(sys.modules[".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")]))
    exec(mutated, names)
    new = {place(function.__code__): function for function in functions({mutated.co_filename})}
    changed = set()
    for function in old:
        other = new.get(place(function.__code__), function)
        if _parts(function) != _parts(other):
            changed.add(place(function.__code__))
            is_alike = other.__code__.co_freevars == function.__code__.co_freevars
            parts = _parts(other if is_alike else _as(function, other))
            function.__code__, function.__defaults__, function.__kwdefaults__ = parts
    return changed


def _as(function: FunctionType, other: FunctionType) -> FunctionType:
    """A function with the free variables of one, which calls another: a closure cannot be given code with others."""
    free = function.__code__.co_freevars
    cells = dict(zip(other.__code__.co_freevars, other.__closure__ or (), strict=True))
    cells |= dict(zip(free, function.__closure__ or (), strict=True))
    closure = tuple(cells[name] for name in other.__code__.co_freevars)
    called = FunctionType(other.__code__, function.__globals__, other.__name__, other.__defaults__, closure)
    called.__kwdefaults__ = other.__kwdefaults__
    name, names = f"_mutated_{id(called)}", ", ".join(free)
    function.__globals__[name] = called
    text = f"lambda {names}: lambda *args, **keys: ([{names}], {name}(*args, **keys))[1]"
    through: FunctionType = eval(text)(*free)
    return through


def _parts(function: FunctionType) -> tuple[Any, ...]:
    return function.__code__, function.__defaults__, function.__kwdefaults__


def changed_lines(source: str, mutated: str) -> tuple[str, str]:
    """What a mutation takes out and what it puts in, without the space around them.

    >>> changed_lines("def f():\\n    return 0", "def f():\\n    return 1")
    ('return 0', 'return 1')
    """
    lines = list(difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm=""))[2:]
    old, new = ("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return old, new


def share_seen(seen: int, count: int) -> str:
    """The share of a sample that is seen, with a 95 % interval (Wilson 1927)."""
    low, high = binomtest(seen, count).proportion_ci(0.95, "wilson")
    return f"{seen / count:.1%} of {count} mutations are seen (95 % interval {low:.1%} to {high:.1%})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
