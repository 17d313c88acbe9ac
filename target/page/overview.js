// The pool and its health, and what initiators do with it now.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { h, replace } from "./dom.js";
import { count, plural, size, span } from "./format.js";

const LOOK_MS = 1000;

export function overviewView(state) {
  const facts = h("div.cards", {});
  const problems = h("div", { role: "alert" });
  const charts = {
    iops: new Chart("Commands a second", ["reads", "writes"], count, 10),
    bytes: new Chart("Bytes a second", ["read", "written"], (value) => size(Math.round(value)), 4096),
    latency: new Chart("Mean latency", ["reads", "writes"], (us) => (us >= 1000 ? `${(us / 1000).toFixed(1)} ms` : `${Math.round(us)} µs`), 100),
  };
  let before = null;
  const timer = setInterval(look, LOOK_MS);

  async function look() {
    if (document.hidden) { before = null; return; }
    try {
      const stats = await get("v1/stats");
      const now = { at: performance.now(), ...sums(stats) };
      if (before) {
        const seconds = (now.at - before.at) / 1000;
        const rate = (key) => Math.max(0, now[key] - before[key]) / seconds;
        charts.iops.add([rate("reads"), rate("writes")]);
        charts.bytes.add([rate("readBytes"), rate("writtenBytes")]);
        charts.latency.add(["read", "write"].map((each) => {
          const commands = now[each].commands - before[each].commands;
          return commands > 0 ? (now[each].sum_us - before[each].sum_us) / commands : 0;
        }));
      }
      before = now;
    } catch { before = null; }
  }

  function update() {
    const pool = state.pool;
    replace(problems, state.problems().map((each) => h("p.problem", {}, each)));
    if (!pool) { replace(facts, card("Objects", String(state.objects.length), "that this token may see")); return; }
    const used = pool.used_bytes / pool.size_bytes;
    const meter = h("meter", { min: 0, max: 1, low: pool.soft_percent / 100, high: pool.hard_percent / 100, optimum: 0, "aria-label": "Pool in use" });
    meter.value = used;
    replace(facts,
      card("Space", `${size(pool.used_bytes)} of ${size(pool.size_bytes)}`, `${size(pool.available_bytes)} may still be written`, meter),
      card("Objects", String(pool.objects), `${size(pool.provisioned_bytes)} promised`),
      card("Sessions", String(state.sessions.length), plural(state.hosts.length, "host")),
      card("Jobs", String(state.jobs.filter((job) => job.state === "running").length), "running"),
      card("Target", pool.target, pool.portals.join(", ")),
      card("Since", span(Date.now() / 1000 - state.startedSeconds), `version ${state.version}`));
  }

  look();
  const element = h("section", { "aria-label": "Overview" }, h("h2", {}, "Overview"), problems, facts,
    h("div.charts", {}, Object.values(charts).map((each) => each.element)));
  return { element, update, close: () => { clearInterval(timer); Object.values(charts).forEach((each) => each.close()); } };
}

function card(title, value, more, extra = null) {
  return h("section.card", {}, h("h3", {}, title), h("p.value", {}, value), extra, h("p.more", {}, more));
}

function sums(stats) {
  const total = (key) => stats.luns.reduce((sum, row) => sum + row[key], 0);
  const none = { commands: 0, sum_us: 0 };
  return { reads: total("fast_reads"), writes: total("fast_writes"), readBytes: total("read_bytes"), writtenBytes: total("write_bytes"),
    read: stats.latency?.read ?? none, write: stats.latency?.write ?? none };
}
