// Hosts and sessions, jobs, schedules, mirrors and peers, tokens, events: what is listed, and the buttons beside it.

import { changeHost, createHost, createSchedule, createToken, deleteHost, deleteSchedule, deleteToken } from "./administration.js";
import { command, remove } from "./api.js";
import { h, replace, say, table } from "./dom.js";
import { moment, size, span } from "./format.js";

/** A button of a row: what it does, said for who does not see the row. */
const button = (title, name, run, danger = false) => h(danger ? "button.danger" : "button",
  { type: "button", "aria-label": `${title} ${name}`, onclick: run }, title);
const buttons = (...each) => h("span.buttons", {}, each);
const making = (title, run) => h("div.bar", {}, h("button.primary", { type: "button", onclick: run }, title));

const view = (title, draw) => (state) => {
  const place = h("div", {});
  return { element: h("section", { "aria-label": title }, h("h2", {}, title), place), update: () => replace(place, draw(state)), close: () => {} };
};

export const hostsView = view("Hosts", (state) => [
  making("Create a host", createHost),
  table("Hosts", ["Name", "Initiators", "CHAP", "LUNs", ""], state.hosts.map((row) => [row.name, row.initiators.join(", ") || null,
    row.mutual_chap ? "mutual" : row.chap ? "yes" : "no", row.luns.map((each) => `${each.lun}: ${each.name ?? "?"}`).join(", ") || null,
    buttons(button("Change", row.name, () => changeHost(row, state)), button("Delete", row.name, () => deleteHost(row, state), true))]),
  "No host is named. Without --open nobody else is let in."),
  h("h3", {}, "Sessions"),
  table("Sessions", ["Initiator", "From", "Host", "LUNs", "Open", "Since"], state.sessions.map((row) => [row.initiator, row.peer, row.host,
    String(row.luns), row.in_use.join(", ") || "none", moment(row.started_s)]), "Nobody is logged in."),
]);

export const jobsView = view("Jobs", (state) => table("Jobs", ["Job", "Of", "State", "Progress", "Rate", "Left", "By", ""],
  [...state.jobs].reverse().map((row) => [`${row.kind} ${row.id}`, row.names.join(", ") || "the pool", row.message ? `${row.state}: ${row.message}` : row.state,
    progress(row), row.state === "running" ? `${amount(row, row.rate_per_second)}/s` : `took ${span(row.seconds)}`,
    row.left_seconds === null ? "–" : span(row.left_seconds), row.by,
    row.cancellable ? h("button", { type: "button", "aria-label": `Cancel ${row.kind} ${row.id}`, onclick: async () => {
      try { await remove(`v1/jobs/${row.id}`); say(`${row.kind} ${row.id} is cancelled`); } catch (error) { say(error.message, true); }
    } }, "Cancel") : "–"]), "Nothing long is going on."));

function amount(row, value) {
  return row.unit === "bytes" ? size(Math.round(value)) : String(Math.round(value));
}

function progress(row) {
  if (row.percent === null) return amount(row, row.done);
  const bar = h("progress", { max: 100, "aria-label": `${row.kind} ${row.id}` });
  bar.value = row.percent;
  return h("span", {}, bar, ` ${row.percent.toFixed(0)} %`);
}

export const schedulesView = view("Schedules", (state) => [making("Create a schedule", createSchedule), table("Schedules",
  ["Name", "Selects", "When", "Keeps", "Volumes", "Snapshots", "Next run", "Last run", ""], state.schedules.map((row) => [row.name, row.select,
    `${row.cron} (${row.zone})`, row.keep, String(row.volumes.length), String(row.snapshots),
    row.paused ? "paused" : moment(row.next_run_s), row.last ? row.last.problems.join("; ") || `took ${row.last.taken.length}, deleted ${row.last.deleted.length}` : "–",
    buttons(button(row.paused ? "Resume" : "Pause", row.name, () => pause(row)), button("Delete", row.name, () => deleteSchedule(row), true))]),
  "No schedule: nothing is snapshotted by itself.")]);

async function pause({ name, paused }) {
  try {
    await command(paused ? "schedule_resume" : "schedule_pause", { name });
    say(paused ? `${name} goes on with its next run` : `${name} takes and deletes nothing until it is resumed`);
  } catch (error) { say(error.message, true); }
}

export const mirrorsView = view("Mirrors", (state) => [
  table("Mirrors", ["Volume", "Peer", "Role", "State", "Behind", "At most", "Last round", ""], state.mirrors.map((row) => [row.name, row.peer, row.role,
    h("span", { class: row.late || ["failed", "diverged"].includes(row.state) ? "bad" : null }, row.late ? `${row.state}, late` : row.state),
    row.lag_s === null ? "all of it" : span(row.lag_s), row.role === "primary" ? `${span(row.rpo_s)} a round` : null, moment(row.last_success_s),
    row.role === "primary" ? button(row.paused ? "Resume" : "Pause", row.name, () => pauseMirror(row)) : null]),
  "Nothing is mirrored. lunette mirror add does it."),
  h("h3", {}, "Peers"),
  table("Peers", ["Name", "Address", "May send here", "May be sent", "Certificate"], state.peers.map((row) => [row.name, row.address,
    row.send.join(", ") || "nothing", row.receive.join(", ") || "nothing", row.fingerprint]), "No other daemon is known."),
]);

async function pauseMirror({ name, paused }) {
  try {
    await command(paused ? "mirror_resume" : "mirror_pause", { names: [name] });
    say(paused ? `${name} goes on with rounds` : `${name} begins no round until it is resumed: its replica falls behind`);
  } catch (error) { say(error.message, true); }
}

export const tokensView = view("Tokens", (state) => state.tokens === null ? h("p.empty", {}, "This token may not see tokens: that needs the scope admin.") : [
  making("Create a token", createToken),
  table("Tokens", ["Name", "Scope", "Names that begin with", "Made", "Good until", ""], state.tokens.map((row) => [row.name, row.scope, row.prefix || "any",
    moment(row.created_s), row.expired ? h("span.bad", {}, "expired") : row.expires_s === null ? "for ever" : moment(row.expires_s),
    button("Delete", row.name, () => deleteToken(row), true)]), "No token: nobody comes in from afar but by a client's certificate."),
]);

export const eventsView = view("Events", (state) => table("Events", ["Time", "What", "Of", "More"],
  [...state.events].reverse().slice(0, 300).map((row) => [moment(row.at_s), row.kind, row.names.join(", "), words(row)]), "Nothing has happened yet."));

function words({ kind, data }) {
  if (kind === "log") return h("span", { class: data.level }, data.text);
  if (kind === "job") return `${data.kind} ${data.id}: ${data.state}${data.percent === null ? "" : ` ${data.percent} %`}`;
  return data.why ?? (data.by ? `by ${data.by}` : "");
}
