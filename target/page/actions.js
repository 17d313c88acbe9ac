// What can be done with an object, and what comes of it, said before.

import { command } from "./api.js";
import { ask } from "./dialog.js";
import { bytes, size } from "./format.js";

const NAME = "Letters, digits and . _ : + - only.";

/** A size as people type it, or an error that the dialog shows. */
function sized(text) {
  const value = bytes(text);
  if (!(value > 0)) throw new Error(`${text || "nothing"} is not a size: a number with K, M, G or T`);
  return value;
}

const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== "" && value !== false));

export function create() {
  ask({
    title: "Create a volume", action: "Create",
    consequences: ["It is thin: it takes space as it is written."],
    fields: [{ name: "name", label: "Name", required: true, hint: NAME }, { name: "size", label: "Size", value: "10G", required: true,
      hint: "K, M, G, T: powers of 1024." }, { name: "checksum", label: "Keep checksums of its data", kind: "checkbox" }],
    act: async ({ name, size: text, checksum }) => {
      await command("create", given({ name, size_bytes: sized(text), checksum }));
      return `${name} is created`;
    },
  });
}

/** Who has it open now, from where. */
function open(row, sessions) {
  if (!row.in_use) return [];
  const lunOf = new Map(row.connections.map((each) => [each.host, each.lun]));
  const users = sessions.filter((each) => each.in_use.includes(lunOf.get(each.host) ?? lunOf.get("*")));
  const names = [...new Set(users.map((each) => `${each.initiator} from ${each.peer}`))];
  return [`It is open now${names.length ? `: ${names.slice(0, 3).join(", ")}${names.length > 3 ? ` and ${names.length - 3} more` : ""}` : ""}.`];
}

export const ACTIONS = {
  snapshot: {
    title: "Snapshot", when: (row) => row.kind !== "snapshot",
    run: (row) => ask({
      title: `Snapshot ${row.name}`, action: "Take it",
      consequences: ["Instant. It shares all that does not change, and costs what changes later."],
      fields: [{ name: "label", label: "Label", value: new Date().toISOString().slice(0, 16).replace(/[-:]/g, ""), required: true, hint: NAME }],
      act: async ({ label }) => { await command("snapshot", { names: [`${row.name}@${label}`] }); },
    }),
  },
  clone: {
    title: "Clone", when: () => true,
    run: (row) => ask({
      title: `Clone ${row.name}`, action: "Clone",
      consequences: [`A writable copy of its own, of ${size(row.size_bytes)}, that shares what neither changes.`],
      fields: [{ name: "name", label: "Name", required: true, hint: NAME }],
      act: async ({ name }) => { await command("clone", { source: row.name, name }); },
    }),
  },
  revert: {
    title: "Revert to it", when: (row) => row.kind === "snapshot" && !row.orphan, danger: true,
    run: (row, { objects, sessions }) => ask({
      title: `Revert ${row.origin} to ${row.name}`, action: "Revert", danger: true, forced: true, typed: row.name,
      consequences: [`What was written to ${row.origin} since is lost, unless it is kept under a label here.`,
        "Newer snapshots stay. Hosts that have it open see other contents at once.",
        ...open(objects.find((each) => each.id === row.origin_id) ?? row, sessions)],
      fields: [{ name: "safety", label: "Keep the present contents under this label", value: "before-revert", hint: `${NAME} Empty: keep nothing.` }],
      act: async (values) => { await command("revert", given({ name: row.name, ...values })); },
    }),
  },
  resize: {
    title: "Resize", when: (row) => row.kind !== "snapshot",
    run: (row, { sessions }) => ask({
      title: `Resize ${row.name}`, action: "Resize", forced: true, consequences: ["Smaller loses its end for good.", ...open(row, sessions)],
      fields: [{ name: "size", label: "Size", value: size(row.size_bytes), required: true }],
      act: async ({ size: text, force }) => { await command("resize", given({ name: row.name, size_bytes: sized(text), force: force ?? false })); },
    }),
  },
  rename: {
    title: "Rename", when: () => true,
    run: (row) => ask({
      title: `Rename ${row.name}`, action: "Rename", consequences: ["Its snapshots follow. LUNs and identities stay."],
      fields: [{ name: "new_name", label: "New name", value: row.name, required: true, hint: NAME }],
      act: async ({ new_name: name }) => { await command("rename", { name: row.name, new_name: name }); },
    }),
  },
  connect: {
    title: "Connect", when: () => true,
    run: (row, { hosts }) => ask({
      title: `Connect ${row.name}`, action: "Connect", forced: true, consequences: ["The host sees it as a disk."],
      fields: [{ name: "host", label: "Host", options: ["", ...hosts.map((each) => each.name)], hint: "None: every initiator, of a daemon that is open." },
        { name: "lun", label: "LUN", kind: "number", hint: "Empty: the next free one." }],
      act: async ({ host, lun, force }) => {
        await command("connect", given({ name: row.name, host, lun: lun === "" ? "" : Number(lun), force: force ?? false }));
      },
    }),
  },
  disconnect: {
    title: "Disconnect", when: (row) => row.connections.length > 0, danger: true,
    run: (row, { sessions }) => ask({
      title: `Disconnect ${row.name}`, action: "Disconnect", danger: true, forced: true,
      consequences: [`These LUNs go: ${row.connections.map((each) => `${each.host}:${each.lun}`).join(", ")}.`,
        "The object stays. What hosts have not written yet is lost.", ...open(row, sessions)],
      act: async ({ force }) => { await command("disconnect", given({ name: row.name, force: force ?? false })); },
    }),
  },
  hold: {
    title: "Hold", when: () => true,
    run: (row) => ask({
      title: `Hold ${row.name}`, action: "Hold", consequences: ["It cannot be deleted, by force either, until the tag is released."],
      fields: [{ name: "tag", label: "Tag", required: true, hint: "Letters, digits and . _ : @ / + - only." }],
      act: async ({ tag }) => { await command("hold", { name: row.name, tag }); },
    }),
  },
  release: {
    title: "Release", when: (row) => row.holds.length > 0,
    run: (row) => ask({
      title: `Release ${row.name}`, action: "Release", consequences: ["Without a tag it can be deleted."],
      fields: [{ name: "tag", label: "Tag", options: row.holds }],
      act: async ({ tag }) => { await command("release", { name: row.name, tag }); },
    }),
  },
  delete: {
    title: "Delete", when: (row) => row.holds.length === 0, danger: true,
    run: (row, { objects, sessions }) => {
      const snapshots = objects.filter((each) => each.kind === "snapshot" && each.origin_id === row.id).length;
      ask({
        title: `Delete ${row.name}`, action: "Delete for ever", danger: true, forced: true, typed: row.name,
        consequences: [
          `Its contents (${size(row.mapped_bytes)} mapped) are lost for good; ${size(row.exclusive_bytes)} become free.`,
          ...(snapshots ? [`Snapshots of it that stay as orphans, to which nothing can be reverted: ${snapshots}.`] : []),
          ...(row.connections.length ? [`LUNs of it that hosts lose: ${row.connections.length}.`] : []),
          ...open(row, sessions)],
        act: async ({ force }) => { await command("delete", given({ names: [row.name], force: force ?? false })); },
      });
    },
  },
};
