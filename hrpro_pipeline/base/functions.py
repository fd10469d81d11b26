"""Functions whose parameters are a record's."""

import inspect
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result", covariant=True)
Value = TypeVar("Value")


class Job(Protocol[Result]):
    """A record of what is to be done, which does it."""

    def run(self) -> Result:
        """Do it."""


def function_of(job: Callable[Parameters, Job[Value]], name: str) -> Callable[Parameters, Value]:
    """A function that takes what a record takes, and runs it: for commands of more parameters than one can read.

    It has the record's signature and documentation.
    """

    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Value:
        return job(*arguments, **options).run()

    call.__name__ = call.__qualname__ = name
    call.__module__, call.__doc__ = job.__module__, job.__doc__
    returned = inspect.signature(job.run).return_annotation  # type: ignore[attr-defined]  # of a class
    call.__signature__ = inspect.signature(job).replace(return_annotation=returned)  # type: ignore[attr-defined]
    call.__annotations__ = {"return": returned}  # for typing.get_type_hints, which Sphinx asks as well
    return call
