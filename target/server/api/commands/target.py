"""Commands on the target as a whole: logins that are sent elsewhere, access states of port groups."""

from __future__ import annotations

from target.errors import LunetteError
from target.models.hosts import SetGroup, SetRedirect
from target.scsi import MEDIUM_STATES, AccessState
from target.server.api import guard
from target.server.api.commands.subject import Subject
from target.server.command import Command, Json
from target.volumes.catalog import Redirect
from target.volumes.luns import EVERYONE

MOVE_SECONDS = 3  # that an initiator has to log out before it is redirected
ACCESS_STATES = {"optimized": AccessState.ACTIVE_OPTIMIZED, "non-optimized": AccessState.ACTIVE_NON_OPTIMIZED,
                 "standby": AccessState.STANDBY, "unavailable": AccessState.UNAVAILABLE,
                 "transitioning": AccessState.TRANSITIONING}
STATE_NAMES = {state: name for name, state in ACCESS_STATES.items()}


class TargetCommands(Subject):
    """What concerns all LUNs."""

    def commands(self) -> list[Command]:
        return [
            Command("redirect", SetRedirect, self.redirect, "admin", answer="TargetRow"),
            Command("group", SetGroup, self.group, "admin", answer="TargetRow"),
        ]

    async def redirect(self, args: SetRedirect) -> Json:
        """Send logins elsewhere, or (without an address) take them here again."""
        host, address = args.host, args.address
        host_id = EVERYONE if host is None else self._catalog.host(host).id
        if address is None:
            await self._catalog.delete_redirect(host_id)
            return self.describe_target()
        redirect = Redirect(host_id, address, args.permanent)
        await self._catalog.save_redirect(redirect)
        if args.move:
            of = self._catalog.host_of
            moved = [each for each in self._served.table.sessions()
                     if self._catalog.redirect_of(of(each.nexus.initiator_name)) == redirect]
            self._served.table.ask_for_logout(MOVE_SECONDS, moved)
        return self.describe_target()

    async def group(self, args: SetGroup) -> Json:
        """Set a target port group's access state for all LUNs, over what initiators set; they are told 2A/06."""
        group, name = args.group, args.state
        if group not in self._served.target.own_groups():
            raise LunetteError("not_found", f"no portal is in group {group}")
        if ACCESS_STATES[name] not in MEDIUM_STATES and not args.force:
            guard.check_luns(guard.cut_off(self._served.target, self._served.table.sessions(), group), self._pool,
                             f"group {group} is their only way to it: --force cuts it")
        if ACCESS_STATES[name] is not AccessState.TRANSITIONING:  # which is for a while only: a restart ends it
            await self._catalog.save_group_state(group, name)
        self._served.target.set_group_state(group, ACCESS_STATES[name])
        return self.describe_target()

    def describe_target(self) -> Json:
        """The target as a whole: its name, where it listens, who is sent elsewhere."""
        return {"name": self._served.access.target_name, "portals": [str(each) for each in self._served.access.portals],
                "groups": [{"group": group, "state": STATE_NAMES[self._served.target.group_states[group]],
                            "portals": [str(each) for each in self._served.access.portals if each.group == group]}
                           for group in self._served.target.own_groups()],
                "redirects": [{"host": self._catalog.host_name(each.host_id), "address": each.address,
                               "permanent": each.permanent} for each in self._catalog.redirects()]}
