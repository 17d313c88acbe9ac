// Numbers and times for people.

const UNITS = ["", "K", "M", "G", "T", "P"];

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "?";
  let at = 0;
  let value = bytes;
  while (value >= 1024 && at < UNITS.length - 1) { value /= 1024; at += 1; }
  return (Number.isInteger(value) ? String(value) : value.toFixed(1)) + UNITS[at];
}

/** 10G, 512M, a number: bytes; NaN for what is none. */
export function bytes(text) {
  const match = /^\s*(\d+)(?:\.(\d+))?\s*([KMGTP]?)(?:i?B)?\s*$/i.exec(text);
  if (!match) return NaN;
  return Math.floor(Number(`${match[1]}.${match[2] ?? 0}`) * 1024 ** UNITS.indexOf(match[3].toUpperCase()));
}

export function count(value) {
  for (const [scale, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= scale * 10) return (value / scale).toFixed(1) + unit;
  }
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}

export function moment(seconds) {
  return seconds === null || seconds === undefined ? "never" : new Date(seconds * 1000).toLocaleString();
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  const whole = Math.round(seconds);
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  return whole < 172800 ? `${Math.round(whole / 3600)} h` : `${Math.round(whole / 86400)} days`;
}

export function plural(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}
