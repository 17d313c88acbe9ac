// Objects: all of them in a grid that is searched and sorted, and one with its facts and what can be done with it.

import { ACTIONS, create } from "./actions.js";
import { h, replace } from "./dom.js";
import { moment, plural, size } from "./format.js";
import { VirtualGrid } from "./virtual.js";

const SORTS = {
  Name: (a, b) => (a.name < b.name ? -1 : 1), "Size": (a, b) => b.size_bytes - a.size_bytes,
  "Mapped": (a, b) => b.mapped_bytes - a.mapped_bytes, "Exclusive": (a, b) => (b.exclusive_bytes ?? -1) - (a.exclusive_bytes ?? -1),
  "Newest first": (a, b) => b.created_s - a.created_s,
};

export function objectsView(state) {
  const filter = h("input", { type: "search", id: "filter", placeholder: "Part of a name", oninput: () => show() });
  const sort = h("select", { id: "sort", onchange: () => show() }, Object.keys(SORTS).map((each) => h("option", {}, each)));
  const number = h("p.number", { role: "status" });
  const details = h("section.details", { "aria-label": "Details", hidden: true });
  const grid = new VirtualGrid("Volumes, snapshots and clones", [
    { title: "Name", class: "name", cell: (row) => row.name }, { title: "Kind", class: "kind", cell: (row) => row.kind },
    { title: "Size", class: "figure", cell: (row) => size(row.size_bytes) },
    { title: "Mapped", class: "figure.mapped", cell: (row) => size(row.mapped_bytes) },
    { title: "LUN", class: "figure small", cell: (row) => row.lun?.toString() },
    { title: "State", class: "state", cell: (row) => marks(row) },
  ], (row) => row.id, (row) => choose(row.id));
  let chosen = null;

  function show() {
    const wanted = filter.value.toLowerCase();
    const rows = state.objects.filter((row) => row.name.toLowerCase().includes(wanted)).sort(SORTS[sort.value]);
    replace(number, rows.length === state.objects.length ? plural(rows.length, "object") : `${rows.length} of ${plural(state.objects.length, "object")}`);
    grid.set(rows);
    if (chosen !== null) choose(chosen, false);
  }

  function choose(id, focus = true) {
    chosen = id;
    const row = state.objects.find((each) => each.id === id);
    details.hidden = !row;
    if (!row) return;
    const kept = details.contains(document.activeElement) ? document.activeElement.textContent : null;
    replace(details, h("h3", { tabindex: "-1" }, row.name), facts(row),
      h("div.buttons", {}, Object.values(ACTIONS).filter((each) => each.when(row)).map((each) => h(
        each.danger ? "button.danger" : "button", { type: "button", onclick: () => each.run(row, state) },
        each.title)), h("a.button", { href: `#family/${row.id}` }, "Family"),
      h("button", { type: "button", onclick: () => { details.hidden = true; chosen = null; grid.element.focus(); } }, "Close")));
    if (focus) details.querySelector("h3").focus();
    else if (kept) [...details.querySelectorAll("button")].find((each) => each.textContent === kept)?.focus();
  }

  const element = h("section", { "aria-label": "Objects" }, h("h2", {}, "Objects"), h("div.bar", {},
    h("label", { for: "filter" }, "Search"), filter, h("label", { for: "sort" }, "Sort by"), sort,
    h("button.primary", { type: "button", onclick: create }, "Create a volume"), number), h("div.split", {}, grid.element, details));
  return { element, update: show, open: choose, close: () => grid.close() };
}

function marks(row) {
  const found = [];
  if (row.in_use) found.push("open");
  if (row.holds.length) found.push("held");
  if (row.orphan) found.push("orphan");
  if (row.damaged_pages) found.push("damaged");
  return found.join(", ") || "–";
}

function facts(row) {
  const lines = {
    Kind: row.kind, Size: size(row.size_bytes), Mapped: size(row.mapped_bytes), "Freed if deleted": size(row.exclusive_bytes),
    Origin: row.origin ? row.origin + (row.origin_deleted ? " (deleted)" : "") : null, Created: moment(row.created_s),
    Connected: row.connections.map((each) => `${each.host}: LUN ${each.lun}`).join(", ") || null, Address: row.url,
    "Held by": row.holds.join(", ") || null, Labels: Object.entries(row.labels).map(([key, value]) => `${key}=${value}`).join(", ") || null,
    Quota: row.quota_bytes ? size(row.quota_bytes) : null, "In use": row.in_use ? "yes, see Hosts" : "no",
    Damage: row.damaged_pages ? `${plural(row.damaged_pages, "page")} of its map` : null, Serial: row.serial,
  };
  return h("dl", {}, Object.entries(lines).filter(([, value]) => value !== null)
    .map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value))));
}
