"""The command that serves a pool: its options are the daemon's configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from target.cli.request import SIZE
from target.config import (
    LEASE_SECONDS,
    ApiListener,
    Portal,
    ServeConfig,
    find_api_socket,
    parse_advertised,
    parse_portal,
)
from target.errors import LunetteError


def _configured(ctx: click.Context, _: click.Parameter, file: str | None) -> str | None:
    """Take what the file says where the command line says nothing. Its keys are the long options without their dashes."""
    if file is not None:
        ctx.default_map = {**(ctx.default_map or {}), **read_config(ctx.command, file)}
    return file


def read_config(command: click.Command, file: str) -> dict[str, Any]:
    """A configuration file's values by the names of the command's parameters. click.BadParameter in one line."""
    try:
        document = tomllib.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{file} cannot be read: {error}") from None
    known = {flag.removeprefix("--"): each for each in command.params for flag in each.opts if each.name != "config"}
    values: dict[str, Any] = {}
    for key, value in document.items():
        parameter = known.get(key)
        if parameter is None:
            raise click.BadParameter(f"{file}: there is no option {key!r}")
        if isinstance(value, bool) != bool(getattr(parameter, "is_flag", False)):
            raise click.BadParameter(f"{file}: {key} is {'no switch' if isinstance(value, bool) else 'a switch: true or false'}")
        several = bool(getattr(parameter, "multiple", False))
        if isinstance(value, list | dict) and not (several and isinstance(value, list)):
            raise click.BadParameter(f"{file}: {key} is one value")
        values[str(parameter.name)] = [value] if several and not isinstance(value, list) else value
    return values


class _ServeCommand(click.Command):
    """Remembers what it was called with, so that it can be read again."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["words"] = list(args)
        return super().parse_args(ctx, args)


@click.command(cls=_ServeCommand)
@click.argument("path", type=click.Path(readable=False))
@click.option("--config", type=click.Path(exists=True, dir_okay=False), is_eager=True, callback=_configured,
              help="A file in TOML that says what these options say (listen = [\"127.0.0.1:3260\"], cache = \"1G\", path = ...). "
              "An option given here counts more. SIGHUP reads it again.")
@click.option("--listen", "portals", multiple=True, metavar="ADDR:PORT[,GROUP]",
              help="Where initiators connect; more than once for several. GROUP is the portal group. Default 127.0.0.1:3260.")
@click.option("--advertise", "advertised", multiple=True, metavar="ADDR|NETWORK",
              help="What discovery tells of wildcard portals. Default: the machine's addresses, but for inner bridges.")
@click.option("--api", "api", metavar="SOCKET", help="Where the API listens.")
@click.option("--api-listen", metavar="ADDR:PORT", help="Where the API listens on TCP, by TLS, for who has a token "
              "(lunette token create) or a client's certificate. Default: nowhere.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="The certificate of --api-listen, PEM.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="The key to it, PEM.")
@click.option("--tls-client-ca", type=click.Path(exists=True, dir_okay=False),
              help="Who has a certificate of this CA needs no token: its OU is the scope (read, operate, admin).")
@click.option("--peer", "peer", metavar="ADDR:PORT", help="Where peers (lunette peer add) connect, by TLS. Default: nowhere.")
@click.option("--open", "open_access", is_flag=True, help="Let every initiator in; loopback only.")
@click.option("--force-open", is_flag=True, help="Let every initiator in on any address. Anyone who reaches it owns the data.")
@click.option("--reactors", type=click.IntRange(1, 64), default=1, show_default=True, help="Data-plane threads.")
@click.option("--poll-us", type=click.IntRange(0, 10000), default=50, show_default=True,
              help="Spin at most so long before sleeping, while commands come one by one. Never for a pool on Ceph.")
@click.option("--cache", "cache_bytes", type=SIZE, default=256 << 20, help="Memory for map and counts. Default 256M.")
@click.option("--max-sessions", type=click.IntRange(1, 4096), default=4096, show_default=True, help="Sessions in all.")
@click.option("--max-sessions-per-initiator", type=click.IntRange(1, 4096), default=1024, show_default=True,
              help="Sessions of one initiator name; QEMU opens one a disk.")
@click.option("--direct", is_flag=True, help="Bypass the page cache (O_DIRECT).")
@click.option("--defrag/--no-defrag", "defrag", default=True, show_default=True,
              help="Put in order what snapshots have scattered, without anyone asking.")
@click.option("--takeover", is_flag=True, help="Its last owner cannot be seen from here, and is gone for certain; one of a pool "
              "on Ceph is fenced, whether it lives or not.")
@click.option("--standby", is_flag=True, help="Serve nothing until told: SIGUSR1, `gateway takeover`, or the decider.")
@click.option("--decider", default="", metavar="COMMAND",
              help="With --standby: asked when the owner's lease has ended; status 0 has the pool taken over.")
@click.option("--same-identity", is_flag=True, help="Serve it though this machine serves a pool with the same identity.")
@click.option("--lease", "lease_seconds", type=click.FloatRange(2, 300), default=LEASE_SECONDS, show_default=True,
              metavar="SECONDS", help="How long the owner may be silent, where another machine may reach the pool.")
@click.option("--log-json", is_flag=True, help="Log a JSON object a line.")
@click.option("--verbose", "-v", is_flag=True, help="Log connections, too.")
@click.pass_context
def serve(ctx: click.Context, /, config: str | None, **_: Any) -> int:
    """Serve a pool in the foreground. Ready when the portals are printed; SIGTERM or Ctrl-C stops it cleanly."""
    root_api, words = ctx.find_root().obj, list(ctx.meta["words"])

    def read_again() -> ServeConfig:
        try:
            with ctx.command.make_context(ctx.info_name, list(words), parent=ctx.parent) as again:
                return configuration(again.params, root_api)
        except click.ClickException as error:
            raise LunetteError("invalid", error.format_message()) from None

    chosen = configuration(ctx.params, root_api)
    from target.volumes.owner import begin

    # It waits more than it works: the daemon's modules are loaded beside it.
    opening = None if chosen.standby else begin(chosen)
    from target.server.daemon import serve as run

    return run(chosen, opening=opening, read_again=read_again if config else None)


def configuration(given: Mapping[str, Any], root_api: str | None) -> ServeConfig:
    """The values of the parameters as the daemon's configuration. click.BadParameter."""
    value = dict(given)
    try:
        portals = tuple(parse_portal(each) for each in value.pop("portals")) or (Portal("127.0.0.1"),)
        networks = tuple(parse_advertised(each) for each in value.pop("advertised"))
        peer = value.pop("peer")
        peer_portal = None if peer is None else parse_portal(peer)
        listener = _listener(*(value.pop(name) for name in ("api_listen", "tls_cert", "tls_key", "tls_client_ca")))
    except LunetteError as error:
        raise click.BadParameter(str(error)) from None
    value.pop("config")
    return ServeConfig(
        pool_path=Path(value.pop("path")), portals=portals, advertise=networks, api_listener=listener, peer_portal=peer_portal,
        api_path=Path(find_api_socket(value.pop("api") or root_api, serving=True)),
        open_access=value.pop("open_access") or value["force_open"], **value)


def _listener(listen: str | None, certificate: str | None, key: str | None, client_ca: str | None) -> ApiListener | None:
    """Where the API listens on TCP: never without TLS."""
    if listen is None:
        if certificate or key or client_ca:
            raise LunetteError("invalid", "--tls-cert, --tls-key and --tls-client-ca are for --api-listen, which is not given")
        return None
    portal = parse_portal(listen)
    if certificate is None or key is None:
        raise LunetteError("invalid", "--api-listen needs --tls-cert and --tls-key: the API is never served on TCP without TLS")
    return ApiListener(portal, Path(certificate), Path(key), Path(client_ca) if client_ca else None)


COMMANDS: list[click.Command] = [serve]
