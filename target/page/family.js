// The family tree: volumes, their snapshots, clones of these, as SVG. Many snapshots that nothing was cloned from are one node.

import { h, replace, s } from "./dom.js";
import { plural, size } from "./format.js";

const [WIDTH, HEIGHT, GAP_X, GAP_Y] = [190, 44, 40, 12];
const MOST = 8;

/** Roots, each with `children`: by origin. What was deleted and has children is a root of its own. */
export function families(objects) {
  const nodes = new Map(objects.map((row) => [row.id, { row, children: [] }]));
  const roots = [];
  for (const node of nodes.values()) {
    const parent = node.row.origin_id === null ? null : nodes.get(node.row.origin_id);
    (parent ? parent.children : roots).push(node);
  }
  const age = (a, b) => a.row.created_s - b.row.created_s || a.row.id - b.row.id;
  for (const node of nodes.values()) node.children = folded(node.children.sort(age));
  return roots.sort((a, b) => (a.row.name < b.row.name ? -1 : 1));
}

function folded(children) {
  const leaves = children.filter((each) => each.row.kind === "snapshot" && !each.children.length);
  if (leaves.length <= MOST) return children;
  const hidden = new Set(leaves.slice(0, leaves.length - MOST));
  return [{ many: hidden.size, first: leaves[0].row, children: [] }, ...children.filter((each) => !hidden.has(each))];
}

export function familyView(state, [chosen]) {
  const choice = h("select", { id: "root", onchange: () => { wanted = Number(choice.value); draw(); } });
  const place = h("div.tree", { tabindex: "0", role: "region", "aria-label": "Family tree" });
  let wanted = chosen ? Number(chosen) : null;

  function update() {
    const roots = families(state.objects);
    if (wanted !== null && !roots.some((root) => root.row.id === wanted)) wanted = rootOf(wanted)?.row.id ?? null;
    if (wanted === null) wanted = (roots.find((root) => root.children.length) ?? roots[0])?.row.id ?? null;
    replace(choice, roots.map((root) => h("option", { value: root.row.id, selected: root.row.id === wanted }, root.row.name)));
    draw(roots);
  }

  function rootOf(id) {
    const holds = (node) => node.row?.id === id || node.children.some(holds);
    return families(state.objects).find(holds);
  }

  function draw(roots = families(state.objects)) {
    const root = roots.find((each) => each.row.id === wanted);
    if (!root) { replace(place, h("p.empty", {}, "There is nothing yet.")); return; }
    const boxes = [];
    const bottom = layout(root, 0, 0, boxes);
    const wide = (Math.max(...boxes.map((box) => box.depth)) + 1) * (WIDTH + GAP_X);
    replace(place, s("svg", { width: wide + 4, height: bottom + 4, viewBox: `-2 -2 ${wide + 4} ${bottom + 4}`, role: "group", "aria-label": `Family of ${root.row.name}` },
      boxes.filter((box) => box.parent).map(line), boxes.map(node)));
  }

  const element = h("section", { "aria-label": "Family" }, h("h2", {}, "Family"), h("div.bar", {}, h("label", { for: "root" }, "Of"), choice), place);
  return { element, update, close: () => {} };
}

/** Places for a node and all below it, from `y` down; where it ends. */
function layout(node, depth, y, boxes, parent = null) {
  const box = { node, depth, x: depth * (WIDTH + GAP_X), y, parent };
  boxes.push(box);
  let bottom = y;
  node.children.forEach((child, at) => {
    bottom = layout(child, depth + 1, at ? bottom : y, boxes, box);
  });
  return Math.max(bottom, y + HEIGHT + GAP_Y);
}

function line(box) {
  const [x, y] = [box.parent.x + WIDTH, box.parent.y + HEIGHT / 2];
  const middle = x + GAP_X / 2;
  return s("path", { class: "branch", d: `M${x} ${y} H${middle} V${box.y + HEIGHT / 2} H${box.x}` });
}

function node({ node: { row, many, first }, x, y }) {
  if (many) {
    return s("g", { class: "node many", transform: `translate(${x} ${y})` }, s("rect", { width: WIDTH, height: HEIGHT, rx: 6 }),
      s("text", { x: 10, y: 18 }, `${plural(many, "older snapshot")}`), s("text", { class: "small", x: 10, y: 35 }, `from ${cut(first.name)}`));
  }
  return s("a", { href: `#objects/${row.id}` },
    s("g", { class: `node ${row.kind}`, transform: `translate(${x} ${y})` }, s("rect", { width: WIDTH, height: HEIGHT, rx: 6 }),
      s("text", { x: 10, y: 18 }, cut(row.name)),
      s("text", { class: "small", x: 10, y: 35 }, `${row.kind} · ${size(row.exclusive_bytes)} its own${row.lun === null ? "" : ` · LUN ${row.lun}`}`)));
}

const cut = (name) => (name.length > 24 ? `${name.slice(0, 11)}…${name.slice(-12)}` : name);
