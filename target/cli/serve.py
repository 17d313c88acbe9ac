"""The command that serves a pool: its options are the daemon's configuration."""

from __future__ import annotations

from pathlib import Path

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


@click.command()
@click.argument("path", type=click.Path())
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
@click.option("--open", "open_access", is_flag=True, help="Let every initiator in; loopback only.")
@click.option("--force-open", is_flag=True, help="Let every initiator in on any address. Anyone who reaches it owns the data.")
@click.option("--reactors", type=click.IntRange(1, 64), default=1, show_default=True, help="Data-plane threads.")
@click.option("--poll-us", type=click.IntRange(0, 10000), default=50, show_default=True,
              help="Spin at most so long before sleeping, while commands come one by one.")
@click.option("--cache", "cache_bytes", type=SIZE, default=256 << 20, help="Memory for map and counts. Default 256M.")
@click.option("--max-sessions", type=click.IntRange(1, 4096), default=4096, show_default=True, help="Sessions in all.")
@click.option("--max-sessions-per-initiator", type=click.IntRange(1, 4096), default=1024, show_default=True,
              help="Sessions of one initiator name; QEMU opens one a disk.")
@click.option("--direct", is_flag=True, help="Bypass the page cache (O_DIRECT).")
@click.option("--takeover", is_flag=True, help="Its last owner cannot be seen from here, and is gone for certain.")
@click.option("--same-identity", is_flag=True, help="Serve it though this machine serves a pool with the same identity.")
@click.option("--lease", "lease_seconds", type=click.FloatRange(2, 300), default=LEASE_SECONDS, show_default=True,
              metavar="SECONDS", help="How long the owner may be silent, where another machine may reach the pool.")
@click.option("--verbose", "-v", is_flag=True, help="Log connections, too.")
@click.pass_context
def serve(ctx: click.Context, path: str, portals: tuple[str, ...], advertised: tuple[str, ...], api: str | None,
          api_listen: str | None, tls_cert: str | None, tls_key: str | None, tls_client_ca: str | None,
          open_access: bool, force_open: bool, reactors: int, poll_us: int, cache_bytes: int, max_sessions: int,
          max_sessions_per_initiator: int, direct: bool, takeover: bool, same_identity: bool,
          lease_seconds: float, verbose: bool) -> int:
    """Serve a pool in the foreground. Ready when the portals are printed; SIGTERM or Ctrl-C stops it cleanly."""
    try:
        chosen = tuple(parse_portal(each) for each in portals) or (Portal("127.0.0.1"),)
        networks = tuple(parse_advertised(each) for each in advertised)
        listener = _listener(api_listen, tls_cert, tls_key, tls_client_ca)
    except LunetteError as error:
        raise click.BadParameter(str(error)) from None
    from target.volumes.owner import begin

    config = ServeConfig(
        pool_path=Path(path), portals=chosen, advertise=networks,
        api_path=Path(find_api_socket(api or ctx.find_root().obj, serving=True)), api_listener=listener,
        open_access=open_access or force_open, force_open=force_open, reactors=reactors, poll_us=poll_us,
        cache_bytes=cache_bytes, max_sessions=max_sessions, max_sessions_per_initiator=max_sessions_per_initiator, direct=direct,
        takeover=takeover, same_identity=same_identity, lease_seconds=lease_seconds, verbose=verbose)
    opening = begin(config)             # it waits more than it works: the daemon's modules are loaded beside it
    from target.server.daemon import serve as run

    return run(config, opening=opening)


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
