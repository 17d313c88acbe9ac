"""The command line: `lunette COMMAND`. One-line errors on stderr with exit status 1; 2 for misuse (docs/operations.md).

It imports `target.client` and `target.config`. What serves (`target.server`) and what opens a pool (`target.volumes`) is
imported by the commands that need it, when they run: the others start fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from target.cli.group import Group
from target.config import API_ENVIRONMENT
from target.errors import LunetteError
from target.version import VERSION

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


# Each module of commands, and the commands in it: only the one that is asked for is imported.
MODULES: dict[str, tuple[str, ...]] = {
    "pool": ("pool",), "serve": ("serve",),
    "objects": ("create", "snapshot", "clone", "delete", "hold", "release", "revert", "resize", "rename", "label", "set",
                "connect", "disconnect"),
    "batch": ("batch",), "listing": ("ls", "stats", "sessions", "diff", "scrub"), "hosts": ("host", "target"),
    "schedules": ("schedule",), "nbd": ("nbd",), "repositories": ("repo", "backup", "restore"),
    "streams": ("send", "receive"), "tokens": ("token",), "watching": ("jobs", "events", "watch", "audit"),
    "completion": ("completion",), "manual": ("man",), "gateways": ("gateway",), "agent": ("agent",),
    "peers": ("peer",), "mirrors": ("mirror", "promote", "demote"),
}


class _Commands(Group):
    """The commands of all modules, each imported when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(name for names in MODULES.values() for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for module, names in MODULES.items():
            if cmd_name in names and cmd_name not in self.commands:
                for command in importlib.import_module(f"target.cli.{module}").COMMANDS:
                    self.add_command(command)
        return self.commands.get(cmd_name)


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.option("--api", "api", metavar="SOCKET", help=f"The daemon's API socket. Default: ${API_ENVIRONMENT}, else "
              "./run/api.sock, else /run/lunette/api.sock, the first that exists.")
@click.version_option(VERSION)
@click.pass_context
def cli(ctx: click.Context, api: str | None) -> None:
    """An iSCSI target whose LUNs are volumes, snapshots and clones."""
    ctx.obj = api


def register() -> click.Group:
    """The whole command line, with every command imported."""
    ctx = click.Context(cli)
    for name in cli.list_commands(ctx):
        cli.get_command(ctx, name)
    return cli


@cli.result_callback()
def _finish(value: Any, **_: Any) -> Any:
    """Send a command that its function only described, and show the answer; else pass the exit status on."""
    from target.cli.request import Request

    if isinstance(value, Request):
        return value.perform(click.get_current_context())
    return value


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the `lunette` program."""
    try:
        status = cli.main(args=args, prog_name="lunette", standalone_mode=False)
    except LunetteError as error:
        _fail(str(error))
    except click.UsageError as error:
        context = error.ctx.command_path if error.ctx else "lunette"
        _fail(f"{error.format_message()} (see {context} --help)", 2)
    except click.ClickException as error:
        _fail(error.format_message())
    except click.Abort:
        _fail("interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it flushes
        sys.exit(1)
    except KeyboardInterrupt:
        _fail("interrupted")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int = 1) -> None:
    click.echo("lunette: " + " ".join(message.split()), err=True)
    sys.exit(status)

