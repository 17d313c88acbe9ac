// The page: who is there, which part is shown, what is known, and the stream of events that says when to look again.

import { all, follow, get, token } from "./api.js";
import { h, replace, say } from "./dom.js";
import { familyView } from "./family.js";
import { eventsView, hostsView, jobsView, mirrorsView, schedulesView, tokensView } from "./lists.js";
import { objectsView } from "./objects.js";
import { overviewView } from "./overview.js";

const PARTS = { overview: ["Overview", overviewView], objects: ["Objects", objectsView], family: ["Family", familyView],
  hosts: ["Hosts", hostsView], jobs: ["Jobs", jobsView], schedules: ["Schedules", schedulesView], mirrors: ["Mirrors", mirrorsView],
  tokens: ["Tokens", tokensView], events: ["Events", eventsView] };
const SETTLE_MS = 400;
const LOOK_MS = 10000;
const KEPT_EVENTS = 500;

const state = {
  objects: [], pool: null, hosts: [], sessions: [], jobs: [], schedules: [], mirrors: [], peers: [], tokens: null, events: [], version: "", startedSeconds: 0,
  problems() {
    const pool = this.pool;
    if (!pool) return [];
    const found = [...pool.damage];
    if (pool.failure) found.push(`The pool is read-only: ${pool.failure}`);
    else if (pool.read_only) found.push("The pool is read-only.");
    if (pool.space !== "ok") found.push(`The pool is filling up (${pool.space} threshold).`);
    return found;
  },
};
const main = document.getElementById("view");
let shown = null;
let streaming = null;
let pending = null;

/** What may be seen with this token; what it may not is left empty. */
async function load() {
  const allowed = (promise, otherwise) => promise.catch((error) => {
    if (error.status === 403) return otherwise;
    throw error;
  });
  const version = await get("v1/version");     // alone: who may not ask hears it once
  const [objects, pool, hosts, sessions, jobs, schedules, mirrors, peers, tokens, stats] = await Promise.all([
    all("v1/objects"), allowed(get("v1/pool"), null), allowed(all("v1/hosts"), []), allowed(all("v1/sessions"), []), all("v1/jobs"),
    allowed(all("v1/schedules"), []), allowed(all("v1/mirrors"), []), allowed(all("v1/peers"), []), allowed(all("v1/tokens"), null),
    get("v1/stats")]);
  Object.assign(state, { objects, pool, hosts, sessions, jobs, schedules, mirrors, peers, tokens, version: version.version, startedSeconds: Date.now() / 1000 - stats.uptime_s });
}

async function refresh() {
  clearTimeout(pending);
  pending = null;
  try {
    await load();
    draw();
  } catch (error) {
    if (error.status === 401) signIn("The token is not valid, or no longer.");
    else health(error.message, true);
  }
}

/** Look again soon: once for many events. */
function soon(milliseconds = SETTLE_MS) {
  pending ??= setTimeout(refresh, milliseconds);
}

function draw() {
  document.getElementById("pool").textContent = state.pool ? state.pool.name : "";
  document.title = state.pool ? `${state.pool.name} – Lunette` : "Lunette";
  const problems = state.problems();
  health(problems[0] ?? "All is well", problems.length > 0);
  shown?.update();
}

function health(text, bad) {
  const place = document.getElementById("health");
  place.textContent = text;
  place.className = bad ? "bad" : "good";
}

function route() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const part = name in PARTS ? name : "overview";
  shown?.close();
  shown = PARTS[part][1](state, rest);
  replace(document.getElementById("parts"), Object.entries(PARTS).map(([key, [title]]) => h("li", {},
    h("a", { href: `#${key}`, "aria-current": key === part ? "page" : null }, title))));
  replace(main, shown.element);
  shown.update();
  if (rest.length && part === "objects") shown.open?.(Number(rest[0]));
}

function heard(event) {
  state.events.push(event);
  if (state.events.length > KEPT_EVENTS) state.events.splice(0, state.events.length - KEPT_EVENTS);
  if (location.hash === "#events") shown.update();
  if (event.kind !== "log" || event.data.source === "lunette.sessions") soon();
}

function signIn(why) {
  streaming?.abort();
  shown?.close();
  shown = null;
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  replace(document.getElementById("parts"));
  replace(main, h("form.sign-in", { onsubmit: (event) => {
    event.preventDefault();
    token.set(input.value.trim());
    begin();
  } }, h("h2", {}, "Sign in"), h("p", {}, why ?? "lunette token create NAME --scope operate makes a token."),
  h("p", {}, h("label", { for: "token" }, "Token"), input), h("div.buttons", {}, h("button.primary", { type: "submit" }, "Sign in"))));
  health("Not signed in", true);
  input.focus();
}

async function begin() {
  try {
    await load();
  } catch (error) {
    if (error.status === 401) {
      const why = token.get() ? error.message : null;
      token.clear();
      signIn(why);
    } else {
      health(error.message, true);
      setTimeout(begin, 3000);
    }
    return;
  }
  document.getElementById("leave").hidden = !token.get();
  state.events = await get("v1/events?limit=500").catch(() => []);
  streaming = new AbortController();
  follow(heard, streaming.signal);
  route();
  draw();
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("lunette-theme", root.dataset.theme);
  say(`${root.dataset.theme === "dark" ? "Dark" : "Light"} theme`);
  shown?.update();
}

document.documentElement.dataset.theme = localStorage.getItem("lunette-theme") ?? "";
document.getElementById("theme").addEventListener("click", theme);
document.getElementById("leave").addEventListener("click", () => { token.clear(); location.reload(); });
addEventListener("hashchange", () => { if (shown) route(); });
setInterval(() => { if (shown && !document.hidden) soon(0); }, LOOK_MS);
begin();
