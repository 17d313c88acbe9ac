"""Commands on the repositories that a pool knows: where each is. What is in them no daemon reads (target/repository)."""

from __future__ import annotations

from target.errors import LunetteError
from target.models.repositories import RepositoryAdd, RepositoryRemove
from target.server.api.commands.subject import Subject
from target.server.api.served import Served
from target.server.command import Command, Json
from target.volumes.lineage import Lineage
from target.volumes.repositories import KnownRepositories, KnownRepository


class RepositoryCommands(Subject):
    """They are kept with the pool."""

    def __init__(self, served: Served, lineage: Lineage) -> None:
        super().__init__(served, lineage)
        self._known = KnownRepositories(served.pool)

    def commands(self) -> list[Command]:
        return [Command("repo_add", RepositoryAdd, self.add, "admin", answer="RepositoryRow"),
                Command("repo_rm", RepositoryRemove, self.remove, "admin", answer="None")]

    async def add(self, args: RepositoryAdd) -> Json:
        if args.name in self._known.all():
            raise LunetteError("exists", f"there is a repository {args.name} already")
        known = KnownRepository(args.name, args.url, args.key_file)
        await self._known.save(known)
        return known.as_json()

    async def remove(self, args: RepositoryRemove) -> None:
        if args.name not in self._known.all():
            raise LunetteError("not_found", f"there is no repository {args.name}")
        await self._known.forget(args.name)

    def rows(self) -> list[Json]:
        return [each.as_json() for _, each in sorted(self._known.all().items())]
