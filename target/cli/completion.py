"""What a shell can complete: names of objects, hosts, tokens and the like, asked of the daemon; what teaches it to a shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from target.client import Client
from target.config import find_api_socket
from target.errors import LunetteError

SHELLS = ("bash", "zsh", "fish")
# Click's own takes the words as bash breaks them, and bash breaks at @ and colons, which stand in names: so the line is split
# here, and of what is found only that is told which follows the last break.
BASH = r"""_lunette_completion() {
    local line=${COMP_LINE:0:COMP_POINT} words word broken type value
    IFS=$' \t\n' read -r -a words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[-1]}
    broken=${word%"${word##*[@:=]}"}
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$broken"}") ;;
        esac
    done < <(IFS=$'\n'; COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) _LUNETTE_COMPLETE=bash_complete "$1")
}
complete -o nosort -F _lunette_completion lunette"""


def _names(ctx: click.Context, path: str, incomplete: str) -> list[CompletionItem]:
    """Names in a listing that begin so; none without a daemon: a shell has no use for an error."""
    try:
        rows: list[dict[str, Any]] = Client(find_api_socket(ctx.find_root().params.get("api"))).get(path)
    except LunetteError:
        return []
    return [CompletionItem(row["name"], help=row.get("kind")) for row in rows if row["name"].startswith(incomplete)]


def objects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _names(ctx, "/v1/objects", incomplete)


def listed(path: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Completes names of the listing at a path."""
    return lambda ctx, param, incomplete: _names(ctx, path, incomplete)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options and names: eval "$(lunette completion bash)"."""
    if shell == "bash":
        click.echo(BASH)
        return
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "lunette", "_LUNETTE_COMPLETE").source())


COMMANDS: list[click.Command] = [completion]
