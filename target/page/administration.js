// What an administrator makes and takes away: hosts, tokens, schedules; and what comes of it, said before.

import { command } from "./api.js";
import { ask, reveal } from "./dialog.js";
import { plural } from "./format.js";

const NAME = "Letters, digits and . _ : + - only.";
const SPANS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };

const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== "" && value !== false));
const words = (text) => text.split(/[\s,]+/).filter(Boolean);

/** 30d, 12h, 90m as seconds, or an error that the dialog shows. */
function seconds(text) {
  const match = /^(\d{1,6})([smhdw])$/.exec(text);
  if (!match) throw new Error(`${text} is not a time: a number with s, m, h, d or w`);
  return Number(match[1]) * SPANS[match[2]];
}

const secretFields = [
  { name: "secret", label: "CHAP secret", kind: "password", hint: "12 to 255 characters. Empty: none is asked for." },
  { name: "mutual_secret", label: "Secret that the target proves", kind: "password", hint: "Only beside the other one, and not the same." }];

export function createHost() {
  ask({
    title: "Create a host", action: "Create",
    consequences: ["Its initiators may log in. They see what is connected to it, and nothing else.",
      "Secrets are kept in the pool and never shown again."],
    fields: [{ name: "name", label: "Name", required: true, hint: NAME },
      { name: "initiators", label: "Initiators", hint: "iqn.…, eui.… or naa.…, with spaces between. Each belongs to one host." }, ...secretFields],
    act: async ({ initiators, ...values }) => {
      await command("host_create", given({ ...values, initiators: words(initiators) }));
      return `Host ${values.name} is created`;
    },
  });
}

export function changeHost(row, { sessions }) {
  const open = sessions.filter((each) => each.host === row.name);
  ask({
    title: `Change host ${row.name}`, action: "Change", forced: true,
    consequences: [...(open.length ? [`It is logged in: ${plural(open.length, "session")}. Those of initiators that are taken away end.`] : []),
      "A new secret is asked for at the next login. Empty fields change nothing."],
    fields: [{ name: "initiators", label: "Initiators", value: row.initiators.join(" "), hint: "All of them, with spaces between." }, ...secretFields],
    act: async ({ initiators, ...values }) => {
      const wanted = words(initiators);
      await command("host_change", given({ name: row.name, ...values, add: wanted.filter((each) => !row.initiators.includes(each)),
        remove: row.initiators.filter((each) => !wanted.includes(each)) }));
    },
  });
}

export function deleteHost(row, { sessions }) {
  const open = sessions.filter((each) => each.host === row.name);
  ask({
    title: `Delete host ${row.name}`, action: "Delete", danger: true, forced: true, typed: row.name,
    consequences: [`Its initiators may not log in any more: ${row.initiators.join(", ") || "none"}.`,
      ...(row.luns.length ? [`LUNs of it that go: ${row.luns.map((each) => `${each.lun}: ${each.name ?? "?"}`).join(", ")}. The objects stay.`] : []),
      ...(open.length ? [`Sessions of it that end: ${open.length}. What they have not written yet is lost.`] : []),
      "Its secrets are forgotten."],
    act: async ({ force }) => { await command("host_delete", given({ name: row.name, force: force ?? false })); },
  });
}

export function createToken() {
  ask({
    title: "Create a token", action: "Create",
    consequences: ["Who has it may do from afar what its scope says. It is shown once, and kept as a hash.",
      "read looks; operate also changes objects and connections; admin does everything."],
    fields: [{ name: "name", label: "Name", required: true, hint: NAME }, { name: "scope", label: "Scope", options: ["read", "operate", "admin"] },
      { name: "prefix", label: "Only objects whose names begin with", hint: "Empty: all." },
      { name: "expires", label: "Good for", value: "30d", hint: "30d, 12h, 90m … Empty: for ever." }],
    act: async ({ expires, ...values }) => {
      const made = await command("token_create", given({ ...values, expires_seconds: expires === "" ? "" : seconds(expires) }));
      reveal({ title: `The token ${values.name}`, text: made.token, note: "This is the only time that it is shown." });
      return `Token ${values.name} is created`;
    },
  });
}

export function deleteToken(row) {
  ask({
    title: `Delete token ${row.name}`, action: "Delete", danger: true,
    consequences: ["Who uses it is refused at once, and streams that it opened end.", "It cannot be had again: another one has to be made."],
    act: async () => { await command("token_delete", { name: row.name }); },
  });
}

export function createSchedule() {
  ask({
    title: "Create a schedule", action: "Create",
    consequences: ["It takes snapshots by the clock, and deletes those that it took and that are past keeping.",
      "It never deletes what is held, open, connected or somebody else's."],
    fields: [{ name: "name", label: "Name", required: true, hint: NAME },
      { name: "select", label: "Volumes", value: "*", required: true, hint: "Names or globs (web*), labels (tier=gold), !TERM leaves out; commas between." },
      { name: "cron", label: "When", value: "0 * * * *", required: true, hint: "As in cron: minute, hour, day of month, month, day of week." },
      { name: "zone", label: "By the clock of", value: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC", required: true },
      { name: "keep", label: "Keep", value: "hourly=24,daily=14", required: true, hint: "last, hourly, daily, weekly, monthly, yearly." },
      { name: "group", label: "All volumes at one instant", kind: "checkbox" }],
    act: async (values) => {
      const made = await command("schedule_create", given(values));
      return `${values.name} is created: ${plural(made.volumes.length, "volume")}`;
    },
  });
}

export function deleteSchedule(row) {
  ask({
    title: `Delete schedule ${row.name}`, action: "Delete", danger: true, typed: row.name,
    consequences: ["It takes no snapshot any more.",
      row.snapshots ? `Snapshots that it took, that stay and that nobody deletes by himself any more: ${row.snapshots}.` : "It has taken no snapshot that is still there."],
    act: async () => { await command("schedule_delete", { name: row.name }); },
  });
}
