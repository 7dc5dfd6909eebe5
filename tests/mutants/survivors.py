"""Mutations that no test saw when they were first made, and breakages of what the store and the sweep promise.

Each is one change of the code. `known.py` makes them one at a time; one of the named tests has to fail.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """What is changed, in which file, from what (there once) to what, and the tests that have to see it."""

    what: str
    file: str
    old: str
    new: str
    tests: str


SURVIVORS = (
    # files and checkpoints
    Mutation(
        "skip the fsync of a file", "lorax_lab/store/files.py", "        sync(scratch)\n", "", "tests/test_files.py"
    ),
    Mutation(
        "skip the fsync of a folder",
        "lorax_lab/store/files.py",
        "        sync(path.parent)\n",
        "",
        "tests/test_files.py",
    ),
    Mutation(
        "write in place",
        "lorax_lab/store/files.py",
        "        write(scratch)\n",
        "        write(path)\n        write(scratch)\n",
        "tests/test_files.py tests/test_record.py",
    ),
    Mutation(
        "load a checkpoint without verifying it",
        "lorax_lab/store/checkpoints.py",
        "if not path.is_file() or _facts(path) != manifest",
        "if False and _facts(path) != manifest",
        "tests/test_resume.py",
    ),
    Mutation(
        "take a manifest without its checksum",
        "lorax_lab/store/checkpoints.py",
        "if expected != _checksum(manifest)",
        "if False",
        "tests/test_resume.py",
    ),
    Mutation(
        "drop the random stream on resume",
        "lorax_lab/store/checkpoints.py",
        '    torch.set_rng_state(tensors["random/cpu"])\n',
        "",
        "tests/test_resume.py",
    ),
    Mutation(
        "drop the optimizer on resume",
        "lorax_lab/store/checkpoints.py",
        '    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})\n',
        "",
        "tests/test_resume.py",
    ),
    Mutation(
        "forget the place in the epoch",
        "lorax_lab/train.py",
        "at.step, at.batch = at.step + 1, at.batch + config.gradient_accumulation",
        "at.step, at.batch = at.step + 1, config.gradient_accumulation",
        "tests/test_train.py",
    ),
    Mutation(
        "save before the validation is noted",
        "lorax_lab/store/checkpoints.py",
        "state = asdict(position) |",
        'state = asdict(position) | {"history": position.history[:-1]} |',
        "tests/test_resume.py",
    ),
    Mutation("keep one checkpoint", "lorax_lab/store/checkpoints.py", "KEPT = 2", "KEPT = 1", "tests/test_resume.py"),
    # the sweep
    Mutation(
        "draw the adapter from no stream of the run",
        "lorax_lab/execute.py",
        'generator(config.seed, "adapter")',
        "__import__('torch').Generator().manual_seed(__import__('time').time_ns() % 2**60)",
        "tests/test_run.py::test_two_processes_give_one_configuration_the_same_bits",
    ),
    Mutation(
        "do not look again once the lease is there",
        "lorax_lab/launch/attempts.py",
        '    if before == "completed" and not run.config.force:\n        return RECORDED\n',
        "",
        "tests/test_attempts.py",
    ),
    Mutation(
        "lease what another has",
        "lorax_lab/launch/leases.py",
        "if holder is not None and _alive(holder, path, lock):",
        "if False:",
        "tests/test_leases.py",
    ),
    Mutation(
        "never take over from the dead",
        "lorax_lab/launch/leases.py",
        "        return _start_of(owner.pid) == owner.started\n",
        "        return True\n",
        "tests/test_leases.py",
    ),
    Mutation(
        "take a record without its checksum",
        "lorax_lab/store/record.py",
        'if content.pop("sha256", None) != _checksum(content) or not written:',
        'if content.pop("sha256", None) is None:',
        "tests/test_record.py",
    ),
    Mutation(
        "train on with parameters that are not finite",
        "lorax_lab/train.py",
        '        raise Diverged(f"parameters',
        '        print(f"parameters',
        "tests/test_train.py",
    ),
    Mutation(
        "wait for a hanging run",
        "lorax_lab/launch/isolation.py",
        "timeout=run.config.time_limit_seconds",
        "timeout=None",
        "tests/test_attempts.py",
    ),
    Mutation(
        "take the end of a process for its success",
        "lorax_lab/launch/isolation.py",
        'if outcome and (outcome != "completed" or record.status_of(run.folder) == "completed"):',
        "if outcome:",
        "tests/test_attempts.py",
    ),
    Mutation(
        "wait for W&B",
        "lorax_lab/store/tracking.py",
        "communicate(timeout=patience)",
        "communicate(timeout=patience + 15)",
        "tests/test_tracking.py::test_whatever_goes_wrong_is_a_warning",
    ),
    Mutation(
        "write the values of secret variables",
        "lorax_lab/store/redact.py",
        "    for secret in _secrets():\n        text = text.replace(secret, HIDDEN)\n",
        "",
        "tests/test_files.py",
    ),
    Mutation(
        "train on a dry run",
        "lorax_lab/launch/entry.py",
        "            console.print(line, soft_wrap=True, markup=False)\n        return 0\n",
        "            console.print(line, soft_wrap=True, markup=False)\n",
        "tests/test_command_line.py::test_a_dry_run_lists_every_run_and_writes_nothing",
    ),
    Mutation(
        "take a file's word before what is typed",
        "lorax_lab/launch/files.py",
        "    return [*kept, *typed]\n",
        "    return [*typed, *of_file]\n",
        "tests/test_command_line.py::test_what_is_typed_counts_before_the_file",
    ),
    Mutation(
        "let settings call something",
        "lorax_lab/config/overrides.py",
        "return match[0] if match else None",
        "return None",
        "lorax_lab/config/overrides.py",
    ),
    # named in the issue
    Mutation(
        "dropout off after the first validation",
        "lorax_lab/train.py",
        "                model.train()\n",
        "",
        "tests/test_train.py",
    ),
    Mutation(
        "leave the model in evaluation after a score",
        "lorax_lab/tasks/split.py",
        "        model.train(was_training)\n",
        "",
        "tests/test_tasks_laws.py::test_the_outputs_are_in_the_order_of_the_examples",
    ),
    Mutation(
        "do not clip the gradients",
        "lorax_lab/train.py",
        "clip_grad_norm_(parameters, config.clip_norm)",
        'clip_grad_norm_(parameters, float("inf"))',
        "tests/test_train.py",
    ),
    Mutation(
        "count padding as tokens",
        "lorax_lab/tasks/text.py",
        'int(inputs["attention_mask"].sum())',
        'int(inputs["attention_mask"].numel())',
        "tests/test_tasks_laws.py::test_weights_examples_and_tokens_add_up_and_so_does_the_loss",
    ),
    Mutation(
        "dropout in evaluation under autocast",
        "lorax_lab/methods/lora_layer.py",
        "F.dropout(x, self.dropout, self.training)",
        "F.dropout(x, self.dropout, True)",
        "tests/test_methods.py::test_dropout_does_not_act_in_evaluation_under_autocast",
    ),
    Mutation(
        "take the difference of a full fine-tune in fp32",
        "lorax_lab/methods/full.py",
        "detach().cpu().double() - weight.double()",
        "detach().cpu() - weight",
        "tests/test_methods.py::test_the_update_of_a_full_fine_tune_is_exact_beyond_fp32",
    ),
    Mutation(
        "take the difference of a saved fine-tune in fp32",
        "lorax_lab/methods/full.py",
        'tensors.get_tensor(f"{name}.weight")).double() - weight.double()',
        'tensors.get_tensor(f"{name}.weight")) - weight',
        "tests/test_methods.py::test_the_update_of_a_full_fine_tune_is_exact_beyond_fp32",
    ),
    Mutation(
        "allow ranks up to the larger side",
        "lorax_lab/methods/lora.py",
        "    highest = min(shapes[smallest])",
        "    highest = max(shapes[smallest])",
        "tests/test_methods.py::test_a_rank_above_the_smallest_matrix_is_refused",
    ),
    Mutation(
        "count a zombie as alive",
        "lorax_lab/launch/leases.py",
        'return "" if fields[0] in "ZX" else fields[19]',
        "return fields[19]",
        "tests/test_leases.py",
    ),
    Mutation("a lease never dies", "lorax_lab/launch/leases.py", "DEAD = 60.0", "DEAD = 6e9", "tests/test_leases.py"),
    Mutation(
        "a lease that went away is alive",
        "lorax_lab/launch/leases.py",
        "st_mtime < DEAD\n    return False",
        "st_mtime < DEAD\n    return True",
        "tests/test_leases.py",
    ),
    Mutation(
        "beat for another's lease",
        "lorax_lab/launch/leases.py",
        "                if _read(self.path) == self.owner:\n                    os.utime",
        "                if True:\n                    os.utime",
        "tests/test_leases.py",
    ),
    Mutation(
        "forget the seconds before a kill",
        "lorax_lab/train.py",
        "at.seconds = before + time.perf_counter() - start",
        "at.seconds = time.perf_counter() - start",
        "tests/test_train.py",
    ),
    Mutation(
        "do without metrics in a record of version 1",
        "lorax_lab/store/record.py",
        '("parameters", "memory", "time", "metrics", "matrices")',
        '("parameters", "memory", "time", "matrices")',
        "tests/test_record.py",
    ),
    Mutation(
        "do without metrics",
        "lorax_lab/store/result.py",
        "    metrics: Mapping[str, float | None]\n    summary: dict[str, Any]\n    matrices: dict[str, Row]\n",
        "    summary: dict[str, Any]\n    matrices: dict[str, Row]\n"
        "    metrics: Mapping[str, float | None] = field(default_factory=dict)\n",
        "tests/test_record.py",
    ),
    Mutation(
        "read older layouts than there are",
        "lorax_lab/store/record.py",
        "if version not in (1, VERSION):",
        "if not isinstance(version, int) or version > VERSION:",
        "tests/test_record.py",
    ),
    Mutation(
        "one direction too many in the best share",
        "lorax_lab/measure/rows.py",
        "energy[:rank].sum()",
        "energy[: rank + 1].sum()",
        "tests/test_functional.py::test_the_best_share_counts_as_many_directions_as_the_rank",
    ),
    Mutation(
        "swap the norms of rounding",
        "lorax_lab/measure/row.py",
        "return rounding(base_norm, norm, storage.eps) if storage",
        "return rounding(norm, base_norm, storage.eps) if storage",
        "tests/test_measure_row.py",
    ),
    Mutation(
        "drop the old record of a forced run at once",
        "lorax_lab/launch/attempts.py",
        '    keep = before == "completed"\n',
        "    keep = False\n",
        "tests/test_attempts.py",
    ),
)
