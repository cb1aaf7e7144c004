"""A group of commands that says once, and in one way, which command was probably meant."""

from difflib import get_close_matches
from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:  # newer Typers bring a click of their own
    import click


class Group(TyperGroup):
    """What the command line's groups have in common."""

    def resolve_command(
        self, ctx: "click.Context", args: list[str]
    ) -> "tuple[str | None, click.Command | None, list[str]]":
        """The command that the first word names.

        Raises:
            UsageError: there is none; names those that look like it. Typer and click, from some versions on, both
                do so, one behind the other.
        """
        name = args[0]
        known = ctx.resilient_parsing or name in self.commands or name.startswith("-")
        if not known:
            close = ", ".join(repr(one) for one in get_close_matches(name, self.commands))
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {close}?" if close else ""))
        return super().resolve_command(ctx, args)
