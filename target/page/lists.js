// Hosts and sessions, jobs, schedules, events: what is listed and, of jobs, ended.

import { command, remove } from "./api.js";
import { h, replace, say, table } from "./dom.js";
import { moment, size, span } from "./format.js";

const view = (title, draw) => (state) => {
  const place = h("div", {});
  return { element: h("section", { "aria-label": title }, h("h2", {}, title), place), update: () => replace(place, draw(state)), close: () => {} };
};

export const hostsView = view("Hosts", (state) => [
  h("h3", {}, "Hosts"),
  table("Hosts", ["Name", "Initiators", "CHAP", "LUNs"], state.hosts.map((row) => [row.name, row.initiators.join(", "),
    row.mutual_chap ? "mutual" : row.chap ? "yes" : "no", row.luns.map((each) => `${each.lun}: ${each.name ?? "?"}`).join(", ")]),
  "No host is named. Without --open nobody else is let in; lunette host create makes one."),
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

export const schedulesView = view("Schedules", (state) => table("Schedules",
  ["Name", "Selects", "When", "Keeps", "Volumes", "Snapshots", "Next run", "Last run", ""], state.schedules.map((row) => [row.name, row.select,
    `${row.cron} (${row.zone})`, row.keep, String(row.volumes.length), String(row.snapshots),
    row.paused ? "paused" : moment(row.next_run_s), row.last ? row.last.problems.join("; ") || `took ${row.last.taken.length}, deleted ${row.last.deleted.length}` : "–",
    h("button", { type: "button", onclick: () => pause(row) }, `${row.paused ? "Resume" : "Pause"} ${row.name}`)]),
  "No schedule. lunette schedule create makes one."));

async function pause({ name, paused }) {
  try {
    await command(paused ? "schedule_resume" : "schedule_pause", { name });
    say(paused ? `${name} goes on with its next run` : `${name} takes and deletes nothing until it is resumed`);
  } catch (error) { say(error.message, true); }
}

export const eventsView = view("Events", (state) => table("Events", ["Time", "What", "Of", "More"],
  [...state.events].reverse().slice(0, 300).map((row) => [moment(row.at_s), row.kind, row.names.join(", "), words(row)]), "Nothing has happened yet."));

function words({ kind, data }) {
  if (kind === "log") return h("span", { class: data.level }, data.text);
  if (kind === "job") return `${data.kind} ${data.id}: ${data.state}${data.percent === null ? "" : ` ${data.percent} %`}`;
  return data.why ?? (data.by ? `by ${data.by}` : "");
}
