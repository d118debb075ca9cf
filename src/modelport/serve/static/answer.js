// The answer: bars, the best one in large type, timing, and the same in words for a screen reader.

import { byId, make } from "./common.js";

/** `0.98312` as `98.3 %`. */
export function percent(score) {
  return Number.isFinite(score) ? `${(score * 100).toFixed(1)} %` : "–";
}

/** Rows that stay where they are while their numbers change. */
export class Bars {
  constructor(list, count) {
    this.rows = Array.from({ length: count }, () => {
      const name = make("span", { className: "name" });
      const fill = make("div", { className: "fill" });
      const value = make("span", { className: "value" });
      const row = make("li", { className: "bar" }, name, make("div", { className: "track" }, fill), value);
      return { row, name, fill, value };
    });
    list.replaceChildren(...this.rows.map(({ row }) => row));
  }

  /** `entries`: {label, score} by row; missing rows become blank. The best is marked. */
  show(entries) {
    const best = entries.reduce((top, entry, index) => (entry.score > (entries[top]?.score ?? 0) ? index : top), -1);
    this.rows.forEach(({ row, name, fill, value }, index) => {
      const entry = entries[index];
      const label = entry?.label ?? "\u00a0";
      name.textContent = label;
      name.title = label.length > 24 ? label : "";
      fill.style.setProperty("--share", String(Math.min(Math.max(entry?.score || 0, 0), 1)));
      value.textContent = entry && entry.score !== undefined ? percent(entry.score) : "";
      row.classList.toggle("best", index === best);
    });
  }
}

/** Write the best answer in large type, or where there is none, the three lines of `idle`. */
export function showVerdict(best, idle) {
  const lines = best ? [hedge(best.score), best.label, percent(best.score)] : idle;
  ["says", "top", "sure"].forEach((id, line) => (byId(id).textContent = lines[line]));
  byId("answer").classList.toggle("idle", !best);
  if (best) announce(`${hedge(best.score)} ${best.label}, ${Math.round(best.score * 100)} percent`);
}

function hedge(score) {
  return score >= 0.9 ? "Looks like" : score >= 0.5 ? "Probably" : "Perhaps";
}

/** What a request took, in one line. `roundTrip` and `timing` are in milliseconds; `more` comes last. */
export function showTiming(roundTrip, timing, ...more) {
  const parts = [`round trip ${milliseconds(roundTrip)}`];
  if (Number.isFinite(timing?.total)) parts.push(`server ${milliseconds(timing.total)}`);
  if (Number.isFinite(timing?.net)) parts.push(`network ${milliseconds(timing.net)}`);
  byId("timing").textContent = [...parts, ...more].join(" · ");
}

function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

let pause = 0;

/** Tell a screen reader, once things have been still for a moment. */
export function announce(text) {
  clearTimeout(pause);
  pause = setTimeout(() => {
    byId("live").textContent = text;
  }, 600);
}

/** JSON as a person would lay it out: a row of numbers stays a row. */
export function pretty(value, width = 72, indent = "") {
  const flat = JSON.stringify(value);
  if (flat === undefined) return "null";
  if (value === null || typeof value !== "object" || flat.length + indent.length <= width) return spaced(value, flat);
  const deeper = `${indent}  `;
  if (!Array.isArray(value)) {
    const lines = Object.entries(value).map(([key, item]) => `${deeper}${JSON.stringify(key)}: ${pretty(item, width, deeper)}`);
    return `{\n${lines.join(",\n")}\n${indent}}`;
  }
  if (value.every(thin)) {
    return `[\n${wrapped(value, width, deeper)}\n${indent}]`;
  }
  return `[\n${value.map((item) => deeper + pretty(item, width, deeper)).join(",\n")}\n${indent}]`;
}

/** Whether a value is one number or word, however many brackets it has: it need not have a line. */
function thin(value) {
  if (Array.isArray(value)) return value.length < 2 && value.every(thin);
  return value === null || typeof value !== "object";
}

function spaced(value, flat) {
  if (Array.isArray(value)) return `[${value.map((item) => spaced(item, JSON.stringify(item))).join(", ")}]`;
  if (value === null || typeof value !== "object") return flat;
  const fields = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${spaced(item, JSON.stringify(item))}`);
  return fields.length ? `{${fields.join(", ")}}` : "{}";
}

function wrapped(items, width, indent) {
  const lines = [];
  let line = indent;
  items.forEach((item, index) => {
    const text = JSON.stringify(item) + (index < items.length - 1 ? "," : "");
    if (line.length > indent.length && line.length + text.length > width) {
      lines.push(line.trimEnd());
      line = indent;
    }
    line += `${text} `;
  });
  return [...lines, line.trimEnd()].join("\n");
}
