// Dialogs: a form, what it will do said before it is done, and what the daemon says to it. What destroys wants the name typed.

import { h, replace, say } from "./dom.js";

/**
 * Ask and do. `fields`: {name, label, value, kind, options, hint}; `consequences`: lines; `typed`: a name that must be typed first;
 * `act(values)` does it and may be refused: with in_use, needs_force or busy force is offered (`forced` says that it may be).
 */
export function ask({ title, fields = [], consequences = [], typed = null, action = "Do it", danger = false, forced = false, act }) {
  const before = document.activeElement;
  const inputs = new Map();
  const refusal = h("div.refusal", { role: "alert" });
  const force = h("input", { type: "checkbox", id: "force" });
  const forcing = h("p.force", { hidden: true }, force, h("label", { for: "force" }, " Do it all the same (force)"));
  const go = h(danger ? "button.danger" : "button.primary", { type: "submit" }, action);
  const name = h("input", { id: "typed", autocomplete: "off", spellcheck: "false", oninput: () => check() });
  const check = () => { go.disabled = typed !== null && name.value !== typed; };
  const form = h("form", { method: "dialog", onsubmit: async (event) => {
    event.preventDefault();
    if (go.disabled) return;
    go.disabled = true;
    replace(refusal);
    try {
      const values = Object.fromEntries([...inputs].map(([key, input]) => [key,
        input.type === "checkbox" ? input.checked : input.value.trim()]));
      const told = await act({ ...values, ...(force.checked ? { force: true } : {}) });
      dialog.close();
      say(told ?? `${title}: done`);
    } catch (error) {
      replace(refusal, error.message);
      forcing.hidden = !(forced && ["in_use", "needs_force", "busy"].includes(error.code));
      go.disabled = false;
    }
  } },
  h("h2", { id: "dialog-title" }, title),
  consequences.length ? h("ul.consequences", {}, consequences.map((each) => h("li", {}, each))) : null,
  fields.map((each) => field(each, inputs)),
  typed === null ? null : h("p", {}, h("label", { for: "typed" }, "Type ", h("strong", {}, typed), " to confirm"), name),
  refusal, forcing,
  h("div.buttons", {}, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", onclose: () => { dialog.remove(); before?.focus?.(); } }, form);
  document.body.append(dialog);
  check();
  dialog.showModal();
  (typed !== null ? name : inputs.values().next().value ?? go).focus();
}

/** Show something once, that can be copied. */
export function reveal({ title, text, note }) {
  const before = document.activeElement;
  const shown = h("input", { id: "revealed", readonly: true, value: text, spellcheck: "false", onfocus: () => shown.select() });
  const copy = h("button.primary", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(text); say("Copied"); } catch { shown.select(); say("Copy it from the field", true); }
  } }, "Copy");
  const dialog = h("dialog", { "aria-labelledby": "revealed-title", onclose: () => { dialog.remove(); before?.focus?.(); } },
    h("h2", { id: "revealed-title" }, title), h("p", {}, h("label", { for: "revealed" }, note), shown),
    h("div.buttons", {}, copy, h("button", { type: "button", onclick: () => dialog.close() }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
  shown.focus();
}

function field({ name, label, value = "", kind = "text", options = null, hint = "", required = false }, inputs) {
  const id = `field-${name}`;
  const described = hint ? { "aria-describedby": `${id}-hint` } : {};
  const input = options
    ? h("select", { id, ...described }, options.map((each) => h("option", { value: each }, each || "(none)")))
    : h("input", { id, type: kind, autocomplete: "off", spellcheck: "false", required, ...described });
  if (kind === "checkbox") input.checked = Boolean(value); else input.value = value;
  inputs.set(name, input);
  return h("p", {}, h("label", { for: id }, label), input, hint ? h("small", { id: `${id}-hint` }, hint) : null);
}
