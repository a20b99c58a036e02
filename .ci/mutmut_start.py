"""Runs mutmut the way `.ci/mutation` needs it: `python .ci/mutmut_start.py run NAME...` in its copy of the checkout.

What differs from the command `mutmut`:

- What takes long to import is imported once, before mutmut forks.
- The tests that take least time run first, so that a fault dies early.
- The control, the tests without a fault, runs where the faults run: in a fork of the process that has imported the
  tests. A test that cannot work there would otherwise "kill" every fault that it reaches.
- That process imports the tests and collects none: pytest escapes odd names of parametrised tests once more at every
  collection, and no second one would find them.
"""

import math
from collections import Counter
from collections.abc import Iterable

# Nothing of facesr, and nothing that starts a thread.
import cv2
import pytest
import torch
import torchvision
from mutmut.__main__ import cli
from mutmut.configuration import config
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.utils.file_utils import change_cwd
from mutmut.workers.isolation import ForkServerRunner

IMPORTED_FOR_ALL = (cv2, pytest, torch, torchvision)
QUICK_SECONDS = 0.5

plain_arguments = PytestRunner._pytest_args_regular_run
plain_control = ForkServerRunner.run_clean_tests
plain_startup = ForkServerRunner.startup


def quick_first(runner: PytestRunner, tests: Iterable[str]) -> list[str]:
    """Returns pytest's arguments: the quick tests, then the others, each file's tests together for its fixtures."""
    seconds = state().duration_by_test
    of_file: Counter[str] = Counter()
    for test in seconds:
        of_file[test.partition("::")[0]] += seconds[test]

    def place(test: str) -> tuple[bool, float, str, float, str]:
        file = test.partition("::")[0]
        return seconds.get(test, 0.0) >= QUICK_SECONDS, of_file[file], file, seconds.get(test, 0.0), test

    return plain_arguments(runner, sorted(tests, key=place))


class Importing:
    """A plugin of pytest that imports the modules of tests and finds no test in them."""

    def pytest_pycollect_makeitem(self) -> list[pytest.Item]:
        """Returns what is collected of an object."""
        return []


def import_tests(runner: PytestRunner) -> None:
    """Imports the chosen files of tests, and what they import."""
    chosen = [argument.partition("::")[0] for argument in config().pytest_add_cli_args_test_selection]
    files = sorted({argument for argument in chosen if not argument.startswith("-")})
    with change_cwd("mutants"):
        runner.execute_pytest(["--collect-only", "-qqq", *files], plugins=[Importing()])


def start_once(runner: ForkServerRunner) -> None:
    """Starts the process that forks for every fault, unless the control has."""
    if runner.forkserver_pid is None:
        plain_startup(runner)


def control(runner: ForkServerRunner, tests: Iterable[str]) -> int:
    """Returns pytest's exit code of the tests without a fault, tried as a fault is, under the same time limit."""
    seconds = state().duration_by_test
    chosen = sorted(tests) or sorted(seconds)
    estimate = sum(seconds[test] for test in chosen)
    limit = math.ceil((estimate + config().timeout_constant) * config().timeout_multiplier * 2)  # as mutmut's
    start_once(runner)
    runner.submit("", chosen, limit, estimate)
    code = int(runner.wait_for_result().exit_code)
    if code and not plain_control(runner, chosen):  # which prints the failure, if it fails here too
        print(f"The tests pass in a process of their own, but not where faults are tried (exit code {code}).")
    return code


PytestRunner._pytest_args_regular_run = quick_first
PytestRunner.warm_up = import_tests
ForkServerRunner.startup = start_once
ForkServerRunner.run_clean_tests = control

if __name__ == "__main__":
    cli()
