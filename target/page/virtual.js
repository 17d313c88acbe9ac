// A grid of any number of rows, of which only those in sight are there. Arrows, Home, End and Page keys move, Enter opens.

import { h, replace } from "./dom.js";

const ROW = 40;
const BEYOND = 6;

export class VirtualGrid {
  /** `columns`: {title, cell(row), class}. `open(row)` when one is chosen; `key(row)` is what a row keeps when others come. */
  constructor(label, columns, key, open) {
    Object.assign(this, { columns, key, open, rows: [], at: 0 });
    this.space = h("div.space", { role: "presentation" });
    this.body = h("div.rows", { role: "rowgroup" }, this.space);
    this.head = h("div.row.head", { role: "row", "aria-rowindex": 1 },
      columns.map((each) => h(`div.cell.${each.class}`, { role: "columnheader" }, each.title)));
    this.element = h("div.grid", { role: "grid", "aria-label": label, tabindex: "0", onkeydown: (event) => this.press(event),
      onscroll: () => this.draw() }, h("div", { role: "rowgroup" }, this.head), this.body);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
  }

  set(rows) {
    const chosen = this.rows[this.at] && this.key(this.rows[this.at]);
    this.rows = rows;
    const found = rows.findIndex((row) => this.key(row) === chosen);
    this.at = Math.max(0, found >= 0 ? found : Math.min(this.at, rows.length - 1));
    this.element.setAttribute("aria-rowcount", rows.length + 1);
    this.space.style.height = `${rows.length * ROW}px`;
    replace(this.body, this.space);     // else the old rows keep the old place scrolled to
    this.draw();
  }

  draw() {
    const top = Math.max(0, this.element.scrollTop - ROW);
    const first = Math.max(0, Math.floor(top / ROW) - BEYOND);
    const last = Math.min(this.rows.length, Math.ceil((top + this.element.clientHeight) / ROW) + BEYOND);
    const shown = [];
    for (let index = first; index < last; index += 1) shown.push(this.row(index));
    replace(this.body, this.space, shown);
    const active = first <= this.at && this.at < last;
    if (active) this.element.setAttribute("aria-activedescendant", `row${this.at}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  row(index) {
    const row = this.rows[index];
    const made = h("div.row", { role: "row", id: `row${index}`, "aria-rowindex": index + 2, "aria-selected": String(index === this.at),
      onclick: () => { this.go(index); this.open(row); } },
    this.columns.map((each) => h(`div.cell.${each.class}`, { role: "gridcell" }, each.cell(row) ?? "–")));
    made.style.top = `${index * ROW}px`;
    return made;
  }

  press(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.rows.length, End: this.rows.length };
    if (event.key in steps) this.go(Math.max(0, Math.min(this.rows.length - 1, this.at + steps[event.key])));
    else if (event.key === "Enter" && this.rows[this.at]) this.open(this.rows[this.at]);
    else return;
    event.preventDefault();
  }

  go(index) {
    this.at = index;
    const top = index * ROW;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + 2 * ROW > this.element.scrollTop + this.element.clientHeight) {
      this.element.scrollTop = top + 2 * ROW - this.element.clientHeight;
    }
    this.draw();
  }

  close() { this.observer.disconnect(); }
}
