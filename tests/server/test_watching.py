"""What the command line shows of jobs, events and the audit trail; sorting, globs, completion, manual pages, --config."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest

from target.cli import MODULES
from target.cli.completion import BASH
from target.cli.serve import configuration, serve
from target.server.background.jobs import Job
from tests.server.conftest import Control


async def test_jobs_are_listed_with_progress_and_cancelled(control: Control) -> None:
    begun = asyncio.Event()

    async def work(job: Job) -> None:
        job.advance(1 << 20)
        begun.set()
        await asyncio.Event().wait()

    job = control.daemon.jobs.start("send", work, ["v@s"], total=4 << 20)
    await begun.wait()
    row = json.loads(await control.ok("jobs", "--json"))[0]
    assert {key: row[key] for key in ("id", "kind", "names", "state", "percent", "left", "unit")} == {
        "id": job.id, "kind": "send", "names": ["v@s"], "state": "running", "percent": 25.0, "left": 3 << 20, "unit": "bytes"}
    assert "25.0 %" in await control.ok("jobs")
    await control.ok("jobs", "cancel", str(job.id))
    await job.over.wait()
    assert json.loads(await control.ok("jobs", "--json")) == []
    assert json.loads(await control.ok("jobs", "--all", "--json"))[-1]["state"] == "cancelled"
    assert await control.cli("jobs", "cancel", str(job.id)) == (1, "", f"lunette: job {job.id} (send) is cancelled already\n")
    assert await control.cli("jobs", "cancel", "99") == (1, "", "lunette: there is no job 99\n")


async def test_scrub_is_a_job(control: Control) -> None:
    await control.ok("create", "v", "--size", "16M")
    await control.daemon.pool.call("write", object_id=1, offset_bytes=0, data=b"x" * 8192)
    await control.ok("scrub")
    row = json.loads(await control.ok("jobs", "--all", "--json"))[-1]
    assert (row["kind"], row["state"], row["done"], row["percent"]) == ("scrub", "done", 8192, 100.0)


async def test_events_and_the_audit_trail_tell_who_did_what(control: Control) -> None:
    await control.ok("create", "v", "--size", "1M")
    assert (await control.cli("delete", "w"))[0] == 1
    events = [json.loads(line) for line in (await control.ok("events", "--json")).splitlines()]
    assert [(each["kind"], each["names"]) for each in events if each["kind"] != "log"] == [("create", ["v"])]
    who = events[0]["data"]["by"]
    assert who.startswith("unix:")
    rows = json.loads(await control.ok("audit", "--json"))
    assert [(row["identity"], row["command"], row["result"]) for row in rows] == [
        (who, "create", "ok"), (who, "delete", "not_found")]
    assert (await control.ok("events", "--after", events[-1]["id"], "--json")) == ""


async def test_secrets_are_in_no_trail(closed_control: Control, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("correct-horse-battery\n")
    await closed_control.ok("host", "create", "h", "iqn.2026-01.test:h", "--secret-file", str(tmp_path / "secret"))
    told = await closed_control.ok("audit", "--json") + await closed_control.ok("events", "--json")
    assert "correct-horse" not in told
    assert '"secret": "***"' in told


async def test_events_are_followed_and_what_is_too_old_is_said_to_be_lost(control: Control) -> None:
    events = control.daemon.api.parts.events
    first = events._life
    for number in range(3000):
        events.publish("noise", [f"v{number}"])
    rows = await asyncio.to_thread(control.client.get, "/v1/events", after=f"{first}-5")
    assert (rows[0]["kind"], len(rows)) == ("lost", 2049)
    rows = await asyncio.to_thread(control.client.get, "/v1/events", after="00000000-7")
    assert rows[0]["kind"] == "lost"                    # another daemon's
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "target", "--api", str(control.socket), "events", "-f", "--json", "--after", f"{first}-2999",
        stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert json.loads(await process.stdout.readline())["names"] == ["v2999"]
    events.publish("more", ["w"])
    assert json.loads(await process.stdout.readline())["kind"] == "more"
    process.kill()
    await process.wait()


async def test_ls_sorts_and_takes_globs(control: Control) -> None:
    await control.ok("batch", stdin="create web1 --size 3M\ncreate web2 --size 1M\ncreate db --size 2M\n")

    async def names(*args: str) -> list[str]:
        return [row["name"] for row in json.loads(await control.ok("ls", "--json", *args))]

    assert await names() == ["db", "web1", "web2"]
    assert await names("--sort", "size") == ["web1", "db", "web2"]
    assert await names("--sort", "size", "-r") == ["web2", "db", "web1"]
    assert await names("web*") == ["web1", "web2"]
    assert await names("*1", "db") == ["db", "web1"]
    assert await names("x*") == []
    assert (await control.cli("ls", "web*", "absent"))[2] == "lunette: there is no 'absent'\n"


async def test_a_listing_comes_in_pages(control: Control) -> None:
    await control.ok("batch", stdin="".join(f"create v{number:02} --size 1M\n" for number in range(25)))
    import aiohttp

    found: list[str] = []
    path: str | None = "/v1/objects?limit=10"
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(control.socket))) as session:
        while path is not None:
            async with session.get(f"http://lunette{path}") as response:
                rows = await response.json()
                assert len(rows) <= 10
                found += [row["name"] for row in rows]
                link = response.headers.get("Link")
            path = None if link is None else link[1:link.index(">")]
    assert found == [f"v{number:02}" for number in range(25)]


async def test_a_shell_completes_names_of_objects(control: Control) -> None:
    await control.ok("batch", stdin="create web1 --size 3M\ncreate db --size 2M\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from target.cli import main; main()", stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "_LUNETTE_COMPLETE": "bash_complete", "COMP_WORDS": "lunette delete w", "COMP_CWORD": "2",
             "LUNETTE_API": str(control.socket)})
    out, _ = await process.communicate()
    assert out.decode().split() == ["plain,web1"]
    assert "_lunette_completion" in await control.ok("completion", "bash")


@pytest.mark.parametrize(("line", "names", "offered"), [
    ("lunette clone other@", ["other@a", "other@b"], ["a", "b"]),
    ("lunette delete ot", ["other", "other@a"], ["other", "other@a"]),
    ("lunette snapshot v@s iqn:w", ["iqn:web"], ["web"]), ("lunette delete ", ["v"], ["v"])])
def test_bash_completes_names_that_it_breaks(tmp_path: Path, line: str, names: list[str], offered: list[str]) -> None:
    """Of a name bash wants only what follows the last character that it breaks words at."""
    program, told = tmp_path / "program", tmp_path / "told"
    program.write_text("#!/bin/sh\nprintf '%s|' \"$COMP_WORDS\" $COMP_CWORD > " + str(told)
                       + "".join(f"\necho plain,{name}" for name in names))
    program.chmod(0o755)
    script = f"""{BASH}
COMP_LINE={line!r}"trailing" COMP_POINT={len(line)}
_lunette_completion {program}
printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (offered, "")
    words = line.split(" ")
    assert told.read_text() == "\n".join(words) + f"|{len(words) - 1}|"


@pytest.mark.parametrize(("columns", "headers"), [(30, ["NAME", "URL"]), (80, ["NAME", "URL", "HELD", "BY"])])
def test_a_row_is_a_line_on_a_terminal_that_is_narrow(columns: int, headers: list[str], monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    from target.cli.terminal import show_table

    monkeypatch.setenv("COLUMNS", str(columns))
    show_table([["web", "iscsi://192.0.2.1:3260/iqn.x:p/0", None], ["db", None, ""]], ["NAME", "URL", "HELD BY"], frozenset())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [len(lines), lines[0], lines[1][:2]] == [3, headers, ["web", "iscsi://192.0.2.1:3260/iqn.x:p/0"]]


async def test_a_terminal_gets_colour_and_a_pipe_does_not(control: Control) -> None:
    await control.ok("create", "v", "--size", "1M")
    assert "\x1b" not in await control.ok("ls")
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "target", "--api", str(control.socket), "ls", stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"})
    os.close(slave)
    assert await process.wait() == 0
    assert b"\x1b[" in os.read(master, 65536)
    os.close(master)


def test_every_command_has_a_page_that_man_can_read(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "target", "man", str(tmp_path)], check=True, capture_output=True, text=True)
    pages = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert done.stdout == f"{len(pages)} pages in {tmp_path}\n"
    assert {"lunette.1", "lunette-create.1", "lunette-schedule-create.1", "lunette-serve.1"} <= set(pages)
    assert "\\-\\-size" in pages["lunette-create.1"]
    assert all(page.startswith('.TH "LUNETTE') for page in pages.values())


def test_help_says_what_each_command_does_in_whole_sentences() -> None:
    for words in ([], ["pool"], ["host"], ["jobs"]):
        done = subprocess.run([sys.executable, "-m", "target", *words, "--help"], check=True, capture_output=True, text=True,
                              env={**os.environ, "COLUMNS": "60"})
        listed = done.stdout.partition("Commands:")[2]
        assert listed
        assert "..." not in listed


def test_each_command_is_where_the_command_line_looks_for_it() -> None:
    for module, names in MODULES.items():
        assert tuple(each.name for each in importlib.import_module(f"target.cli.{module}").COMMANDS) == names


def test_a_listing_imports_no_model_and_no_library_for_terminals() -> None:
    code = ("import sys; from target.cli import cli; import click; cli.get_command(click.Context(cli), 'ls'); "
            "print({'msgspec', 'rich', 'aiohttp', 'target.cli.objects', 'target.server'} & set(sys.modules))")
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def parsed(*words: str) -> click.Context:
    return serve.make_context("serve", list(words))


def test_a_configuration_file_says_what_options_say(tmp_path: Path) -> None:
    file = tmp_path / "lunette.toml"
    file.write_text('path = "/srv/p"\nlisten = ["127.0.0.1:3261", "127.0.0.1:3262"]\nopen = true\ncache = "1G"\nreactors = 2\n'
                    'lease = 20.0\nadvertise = "10.0.0.0/24"\napi = "/run/x.sock"\n')
    by_file = configuration(parsed("--config", str(file)).params, None)
    words = ("/srv/p --listen 127.0.0.1:3261 --listen 127.0.0.1:3262 --open --cache 1G --reactors 2 --lease 20 "
             "--advertise 10.0.0.0/24 --api /run/x.sock")
    by_flags = configuration(parsed(*words.split()).params, None)
    assert by_file == by_flags
    assert configuration(parsed("--config", str(file), "--reactors", "3").params, None).reactors == 3


@pytest.mark.parametrize(("text", "message"), [
    ("reactor = 2", "there is no option 'reactor'"), ("config = 'x'", "there is no option 'config'"),
    ("open = 'yes'", "a switch"),
    ("cache = true", "no switch"), ("cache = ['1G']", "one value"), ("reactors = 'many'", "not a valid integer"),
    ("[listen]", "one value"), ("path = ", "cannot be read"),
])
def test_a_configuration_file_that_is_wrong_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(click.UsageError, match=message):
        parsed("/srv/p", "--config", str(tmp_path / "c.toml"))
