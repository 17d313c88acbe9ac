"""Routes that change: commands, batches, jobs, work on the whole pool."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from target.errors import LunetteError
from target.models.pool import DefragWork, Work
from target.models.queries import BatchQuery, ExportQuery, JobQuery, Page
from target.server.api.parts import Parts
from target.server.api.routes import Call, Route, paged
from target.server.background.jobs import Job
from target.server.background.pool_work import PoolWork
from target.server.command import Command, Json, Scope


class Running:
    """Handlers of what changes something, each with its line in the audit trail."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        return [
            *(self._command(each) for each in self._parts.management.table.table.values()),
            Route("POST", "/v1/batch", "batch", "Commands, one a line, with an answer a line.", self._batch, scope="operate",
                  query=BatchQuery, lines=True, media=("application/x-ndjson",)),
            Route("POST", "/v1/export", "export", "Read a snapshot through a channel (docs/export.md).", self._export,
                  scope="operate", query=ExportQuery, lines=True, media=("application/octet-stream",)),
            Route("GET", "/v1/jobs", "jobs", "Long work: what runs, and the last that ended.", self._jobs, "list[JobRow]",
                  query=Page),
            Route("POST", "/v1/jobs", "job_report", "Tell of work that a command does outside the daemon: it is a job.",
                  self._report, scope="operate", query=JobQuery, lines=True, media=("application/x-ndjson",)),
            Route("GET", "/v1/jobs/{id}", "job", "One job.", self._job, "JobRow"),
            Route("DELETE", "/v1/jobs/{id}", "job_cancel", "End a job.", self._cancel, "JobRow", scope="operate"),
            *self._work("/v1/scrub", self._parts.scrub), *self._work("/v1/trim", self._parts.trim),
            *self._work("/v1/defrag", self._parts.defrag, DefragWork),
        ]

    def _command(self, command: Command) -> Route:
        async def handle(call: Call) -> Any:
            try:
                return await self._parts.management.table.perform(command, call.body)
            except LunetteError as error:
                if error.code == "invalid":     # the model takes it, and it cannot be done: 400 is for what no model takes
                    error.status = 409
                raise

        said = (command.model.__doc__ or "").split("\n\n")[0]
        return Route("POST", f"/v1/commands/{command.name}", command.name, " ".join(said.split()), handle, command.answer,
                     scope=command.scope, whole=command.scope == "admin", body=command.model)

    async def _batch(self, call: Call) -> Any:
        from target.server.api.pieces import send_batch

        return await send_batch(call.request, self._parts.management.table, keep_going=call.query.keep_going == "1")

    async def _export(self, call: Call) -> Any:
        from target.server.api.pieces import send_export

        query: ExportQuery = call.query
        call.identity.check_names([query.name, *([query.since] if query.since else [])])
        with self._parts.exports.open(query.name, query.since, query.tag) as channel:
            return await send_export(call.request, channel, self._parts.prove)

    async def _report(self, call: Call) -> Any:
        from target.server.api.pieces import send_job

        query: JobQuery = call.query
        if query.name is None:
            call.identity.check_whole()
        else:
            call.identity.check_names([query.name])
        return await send_job(call.request, self._parts.transfers, query)

    async def _jobs(self, call: Call) -> Any:
        seen = sorted((job for job in self._parts.served.jobs.all() if call.identity.sees_all(job.names)), key=lambda job: job.id)
        return paged(call, [job.as_json() for job in seen], lambda row: f"{row['id']:016}")

    async def _job(self, call: Call) -> Json:
        return self._found(call).as_json()

    async def _cancel(self, call: Call) -> Json:
        job = self._found(call)
        with self._parts.audited(call.identity, "job_cancel", {"id": job.id, "kind": job.kind}):
            job.cancel()
        return job.as_json()

    def _found(self, call: Call) -> Job:
        text = call.path["id"]
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise LunetteError("invalid", f"{text[:40]!r} is not the number of a job")
        job = self._parts.served.jobs.find(int(text))
        if not call.identity.sees_all(job.names):
            raise LunetteError("not_found", f"there is no job {job.id}")
        return job

    def _work(self, path: str, worker: PoolWork, body: type[Work] = Work) -> list[Route]:
        """Work on the whole pool in the background: POST starts it, GET tells how it stands, DELETE stops it."""
        async def status(call: Call) -> Json:
            return worker.status()

        async def start(call: Call) -> Json:
            wanted = {field.name: getattr(call.body, field.name) for field in fields(call.body)}
            with self._parts.audited(call.identity, worker.name, wanted):
                worker.start(**wanted)
            return worker.status()

        async def stop(call: Call) -> Json:
            with self._parts.audited(call.identity, f"{worker.name}_stop", {}):
                await worker.stop()
            return worker.status()

        changes: Scope = "operate"
        return [
            Route("GET", path, worker.name, f"How the {worker.name} stands.", status, "WorkState", whole=True),
            Route("POST", path, f"{worker.name}_start", f"Start a {worker.name}.", start, "WorkState", changes, True, body=body),
            Route("DELETE", path, f"{worker.name}_stop", f"Stop the {worker.name}.", stop, "WorkState", changes, True),
        ]
