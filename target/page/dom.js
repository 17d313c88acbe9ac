// Elements from data: text is always text, never HTML.

/** An element: its tag (with .classes), its properties and listeners, its children. */
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  return filled(made, properties, children);
}

/** The same in SVG. */
export function s(name, properties = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), properties, children);
}

function filled(made, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value") made.value = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

export function replace(place, ...children) {
  place.replaceChildren(...children.flat(3).filter((each) => each !== null && each !== undefined && each !== false));
}

/** Tell everybody, and who does not see, what happened. */
export function say(text, bad = false) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.className = bad ? "bad" : "";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place.textContent = ""; }, 8000);
}

/** A table of rows under headers; a cell is text or an element. */
export function table(caption, headers, rows, empty) {
  if (!rows.length) return h("p.empty", {}, empty);
  return h("div.wide", { tabindex: "0", role: "region", "aria-label": caption }, h("table", {}, h("caption", {}, caption),
    h("thead", {}, h("tr", {}, headers.map((each) => h("th", { scope: "col" }, each)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, at) => at
      ? h("td", { "data-title": headers[at] }, cell ?? "–") : h("th", { scope: "row" }, cell ?? "–")))))));
}
