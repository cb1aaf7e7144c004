"""Commands whose options depend on what they are asked to work on: a method's and its task's beside the shared ones.

`unmask train plain` has the options of every training, of the task "forgery_detection" and of the method `plain`; an
option of another task is unknown to it. The command is put together from the dataclasses of the task and from the
method's own arguments when the first argument is known.
"""

import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from types import UnionType
from typing import Annotated, Any, Literal

import typer


@dataclass(frozen=True)
class Added:
    """One option that is added to a command.

    Attributes:
        group: whose it is: the key under which its value is handed over.
        name: of the field or argument that it sets.
        kind: its type; for one that may be repeated, that of each value.
        text: its line of help.
        default: shown in the help, None for nothing to show; a value that equals it is not handed over.
        repeated: whether it may be given several times.
        low, high: limits of a number.
        metavar: what stands for the value in the help.
        panel: heading in the help.
        flag: the option's name without its dashes; that of `name` if None.
    """

    group: str
    name: str
    kind: Any
    text: str
    default: Any
    panel: str
    repeated: bool = False
    low: float | None = None
    high: float | None = None
    metavar: str | None = None
    flag: str | None = None

    def parameter(self) -> inspect.Parameter:
        """The option as Typer reads it from a signature."""
        option = f"--{self.flag or self.name.replace('_', '-')}"
        if self.kind is bool:
            option = f"{option}/--no-{self.name.replace('_', '-')}"
        whole = self.kind is int
        kind: Any = list[self.kind] if self.repeated else self.kind  # type: ignore[name-defined]
        annotation = Annotated[
            kind | None,
            typer.Option(
                option,
                help=self.text,
                show_default=self.default is not None,
                metavar=self.metavar,
                min=int(self.low) if whole and self.low is not None else self.low,
                max=int(self.high) if whole and self.high is not None else self.high,
                rich_help_panel=self.panel,
            ),
        ]
        return inspect.Parameter(
            self._parameter, inspect.Parameter.KEYWORD_ONLY, default=self.default, annotation=annotation
        )

    @property
    def _parameter(self) -> str:
        return f"{self.group}_{self.name}"


def added_by(kind: type, group: str, panel: str) -> list[Added]:
    """The options of a dataclass: its fields that have a line of help, see `unmask.lab.config.option`."""
    hints = typing.get_type_hints(kind)
    options = []
    for field in fields(kind):
        if "help" not in field.metadata:
            continue
        hint, repeated = hints[field.name], False
        if typing.get_origin(hint) is tuple:
            hint, repeated = typing.get_args(hint)[0], True
        elif typing.get_origin(hint) in (UnionType, typing.Union):
            hint = next(one for one in typing.get_args(hint) if one is not type(None))
        data = field.metadata
        default = None if repeated or not data["shown"] else field.default
        options.append(
            Added(
                *(group, field.name, hint, data["help"], default, panel, repeated),
                *(data["low"], data["high"], data["metavar"], data["flag"]),
            )
        )
    return options


def build_command(function: Callable[..., None], added: Sequence[Added], epilog: str | None = None) -> typer.Typer:
    """An application of one command: a function's own options, and others beside them.

    Args:
        function: its keyword argument `chosen` gets, by group, the values of the added options that were given.
        added: one of a name that the function or one before it has already is left out.
        epilog: below the help.
    """
    signature = inspect.signature(function, eval_str=True)
    own = [one for one in signature.parameters.values() if one.name != "chosen"]
    taken = {one.name for one in own}
    new = list({one.name: one for one in reversed(added) if one.name not in taken}.values())[::-1]

    def call(**values: Any) -> None:
        chosen: dict[str, dict[str, Any]] = {one.group: {} for one in added}
        for one in new:
            value = values.pop(f"{one.group}_{one.name}")
            if value not in (None, [], one.default):
                chosen[one.group][one.name] = tuple(value) if one.repeated else value
        function(**values, chosen=chosen)

    parameters = [*own, *(one.parameter() for one in new)]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    call.__doc__ = function.__doc__
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(epilog=epilog)(call)
    return app


def arguments_in(words: Sequence[str], function: Callable[..., None]) -> list[str]:
    """The words of a command line that may be arguments: no options, nor the values of the function's own.

    A value of an option that is not the function's own may be among them.
    """
    valued = set()
    for one in inspect.signature(function, eval_str=True).parameters.values():
        for mark in getattr(one.annotation, "__metadata__", ()):
            if isinstance(mark, typer.models.OptionInfo):
                named = [text for text in mark.param_decls or () if text.startswith("-")]
                valued |= set(named or [f"--{one.name.replace('_', '-')}"])
    arguments: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*arguments, *rest]
        if word in valued:
            next(rest, None)
        elif not word.startswith("-") or word == "-":
            arguments.append(word)
    return arguments


def choice_of(values: Sequence[str]) -> Any:
    """A type that takes one of some texts."""
    return Literal[tuple(values)]
