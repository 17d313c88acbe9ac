"""The table of management commands: those of all subjects by name, checked and run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from target.errors import LunetteError
from target.models.checking import check
from target.models.forms import Arguments
from target.models.hints import named_objects
from target.server.caller import CALLER, Identity
from target.server.command import Command


@dataclass(frozen=True, slots=True)
class Outcome:
    """A command that was run, by whom, and what came of it."""

    caller: Identity
    command: Command
    args: Any
    error: Exception | None
    seconds: float


class Commands:
    """The management commands of one daemon. Arguments and results are JSON values; failures are LunetteError."""

    def __init__(self, known: Callable[[str], bool]) -> None:
        """`known` says whether there is an object of a name."""
        self._known = known
        self.table: dict[str, Command] = {}
        self.told: list[Callable[[Outcome], None]] = []
        self.forgetting: list[Callable[[int], Awaitable[None]]] = []

    def add(self, *commands: Command) -> None:
        """Commands of a subject."""
        self.table.update({each.name: each for each in commands})

    def when_deleted(self, forget_object: Callable[[int], Awaitable[None]]) -> None:
        """`forget_object` is called with the id of each object that was deleted."""
        self.forgetting.append(forget_object)

    def find(self, name: str) -> Command:
        """LunetteError invalid."""
        command = self.table.get(name)
        if command is None:
            raise LunetteError("invalid", f"there is no command {name!r}")
        return command

    def parse(self, name: str, document: Any) -> tuple[Command, Any]:
        """A command and its arguments, checked. LunetteError invalid."""
        command = self.find(name)
        return command, check(command.model, document)

    async def run(self, name: str, args: Arguments | Mapping[str, Any]) -> Any:
        """Run one command by its name. Arguments of its model are taken as they are, a JSON object is checked."""
        if isinstance(args, Arguments):
            return await self.perform(self.find(name), args)
        return await self.perform(*self.parse(name, args))

    async def perform(self, command: Command, args: Any) -> Any:
        """Run a command with arguments of its model, if its caller may; whatever comes of it, `told` hears it."""
        caller, began_s = CALLER.get(), time.monotonic()
        allowed = False
        try:
            self._check(caller, command, args)
            allowed = True
            result = await command.run(args)
        except Exception as error:
            self._tell(caller, command, args, error, began_s)
            if allowed and isinstance(error, LunetteError):     # what was refused before holds only what its sender said
                raise caller.veiled(error, self._known) from None
            raise
        self._tell(caller, command, args, None, began_s)
        return result

    @staticmethod
    def _check(caller: Identity, command: Command, args: Any) -> None:
        """LunetteError forbidden; which of the names there are it does not say."""
        caller.check_scope(command.scope)
        if command.scope == "admin":
            caller.check_whole()
        else:
            caller.check_names(named_objects(args))

    def _tell(self, caller: Identity, command: Command, args: Any, error: Exception | None, began_s: float) -> None:
        for each in self.told:
            each(Outcome(caller, command, args, error, time.monotonic() - began_s))
