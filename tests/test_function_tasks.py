"""utils.function_tasks: the solutions pass the hidden tests, the wrong ones do not."""

import inspect

import pytest

from utils.function_tasks import tasks


def passed(code: str, tests: tuple[str, ...]) -> list[bool]:
    namespace = {}
    exec(code, namespace)
    results = []
    for test in tests:
        try:
            results.append(bool(eval(test, namespace)))
        except Exception:  # a wrong function may fail in any way
            results.append(False)
    return results


@pytest.mark.parametrize("task", tasks(), ids=lambda task: task.name)
def test_hidden_tests_tell_right_from_wrong(task):
    assert all(passed(task.solution, task.tests))
    results = passed(task.wrong, task.tests)
    assert not all(results)
    assert all(task.name in test for test in task.tests)
    for code in (task.solution, task.wrong):
        namespace = {}
        exec(code, namespace)
        assert list(inspect.signature(namespace[task.name]).parameters) == task.arguments.split(
            ", "
        )


def test_names_are_distinct():
    names = [task.name for task in tasks()]
    assert len(names) == len(set(names)) == 10
