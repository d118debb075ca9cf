// Lines over time, and bars. Everything is drawn in SVG of a fixed size that the page stretches.

import { make } from "./common.js";
import { span } from "./dashboard.figures.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 160;

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** The next round number, whose half is one too. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** Path of points {x, y}; `y` null is a gap. Ends a piece at the bottom where `closed`. */
function path(points, closed) {
  let text = "";
  let begun = null;
  let last = null;
  const end = () => {
    if (closed && begun) text += `L${last.x} ${HEIGHT}L${begun.x} ${HEIGHT}Z`;
    begun = null;
  };
  for (const point of points) {
    if (point.y == null) end();
    else {
      text += `${begun ? "L" : "M"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
      begun ??= point;
      last = point;
    }
  }
  end();
  return text;
}

/**
 * Lines over time, with a legend that shows what is under the pointer, or else the newest.
 *
 * `series`: {key, label, area}; `format`: number -> [text, unit].
 */
export class TimeChart {
  constructor(figure, { title, series, format }) {
    Object.assign(this, { title, series, format, seconds: 1, points: [], now: 0, at: null });
    this.lines = series.map(({ key, area }) => ({
      key,
      area: area ? draw("path", { class: `area ${key}` }) : null,
      line: draw("path", { class: `line ${key}` }),
      value: make("b", {}),
    }));
    this.cross = draw("line", { class: "cross", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.svg = draw(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      ...[0, 0.5, 1].map((y) => draw("line", { class: "grid", x1: 0, x2: WIDTH, y1: y * HEIGHT, y2: y * HEIGHT })),
      ...this.lines.flatMap(({ area, line }) => (area ? [area, line] : [line])),
      this.cross,
    );
    this.marks = [make("span"), make("span"), make("span")];
    this.when = make("span", { className: "when" });
    const legend = this.lines.map(({ key, value }, i) =>
      make("span", { className: `key ${key}` }, make("i"), `${series[i].label} `, value),
    );
    const caption = make("figcaption", {}, make("h2", {}, title), make("div", { className: "legend" }, ...legend, this.when));
    this.since = make("span");
    const ends = make("div", { className: "ends" }, this.since, make("span", {}, "now"));
    figure.append(caption, make("div", { className: "plot" }, make("div", { className: "scale" }, ...this.marks), this.svg), ends);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerdown", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
  }

  /** Show `points`: {time, [key]: number or null}, in order of time, over the `seconds` before `now`. */
  show(points, now, seconds) {
    Object.assign(this, { points, now, seconds });
    this.since.textContent = `${span(seconds)} ago`;
    const top = roundUp(Math.max(0, ...points.flatMap((point) => this.series.map(({ key }) => point[key] ?? 0))));
    const x = ({ time }) => WIDTH * (1 - (now - time) / this.seconds);
    for (const { key, area, line } of this.lines) {
      const places = points.map((point) => ({
        x: x(point),
        y: point[key] == null ? null : HEIGHT * (1 - point[key] / top),
      }));
      line.setAttribute("d", path(places, false));
      area?.setAttribute("d", path(places, true));
    }
    for (const [i, value] of [top, top / 2, 0].entries()) this.marks[i].textContent = this.mark(value);
    this.tell();
  }

  /** A round number, without the zeros behind its point. */
  mark(value) {
    const [number, unit] = value ? this.format(value) : ["0", ""];
    return `${number.replace(/\.0+$/, "")} ${unit}`.trim();
  }

  point(event) {
    if (event === null) this.at = null;
    else {
      const box = this.svg.getBoundingClientRect();
      this.at = (event.clientX - box.left) / box.width;
    }
    this.tell();
  }

  /** Write the values of one moment into the legend. */
  tell() {
    let point = this.points.at(-1);
    if (this.at !== null && this.points.length) {
      const time = this.now - (1 - this.at) * this.seconds;
      point = this.points.reduce((best, p) => (Math.abs(p.time - time) < Math.abs(best.time - time) ? p : best));
    }
    for (const { key, value } of this.lines) {
      value.textContent = point?.[key] == null ? "–" : this.format(point[key]).join(" ").trim();
    }
    const moved = this.at !== null && point;
    this.when.textContent = moved ? `${Math.round(this.now - point.time)} s ago` : "";
    const x = moved ? WIDTH * (1 - (this.now - point.time) / this.seconds) : 0;
    for (const [name, value] of Object.entries({ x1: x, x2: x, visibility: moved ? "visible" : "hidden" })) {
      this.cross.setAttribute(name, value);
    }
    const said = this.series.map(({ label }, i) => `${label} ${this.lines[i].value.textContent}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.title}: ${said}`);
  }
}

/** A small line over the last `seconds`, without numbers. */
export class Spark {
  constructor() {
    this.area = draw("path", { class: "area" });
    this.line = draw("path", { class: "line" });
    this.node = draw(
      "svg",
      { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      this.area,
      this.line,
    );
  }

  /** Show `points`: {time, value}. */
  show(points, now, seconds) {
    const top = Math.max(1e-9, ...points.map(({ value }) => value ?? 0));
    const places = points.map(({ time, value }) => ({
      x: WIDTH * (1 - (now - time) / seconds),
      y: value == null ? null : HEIGHT * (0.97 - 0.92 * (value / top)),
    }));
    this.line.setAttribute("d", path(places, false));
    this.area.setAttribute("d", path(places, true));
  }
}

/** Parts of a whole in one bar, with their names and values beneath: [{key, label, value, text}]. */
export class Stack {
  constructor() {
    this.bar = make("div", { className: "stack", ariaHidden: "true" });
    this.list = make("ul", { className: "parts" });
    this.node = make("div", {}, this.bar, this.list);
  }

  show(parts) {
    const whole = parts.reduce((total, { value }) => total + value, 0) || 1;
    this.bar.replaceChildren(
      ...parts.map(({ key, value }) => {
        const part = make("i", { className: key });
        part.style.setProperty("--share", value / whole);
        return part;
      }),
    );
    this.list.replaceChildren(
      ...parts.map(({ key, label, text }) => make("li", { className: key }, make("i"), label, make("b", {}, text))),
    );
  }
}

/** Columns side by side: [{label, value, title, mark}]; labels may be empty. */
export function columns(bars) {
  const top = Math.max(1e-9, ...bars.map(({ value }) => value));
  return bars.map(({ label, value, title, mark }) => {
    const bar = make("i", { className: mark ? "mark" : "" });
    bar.style.setProperty("--share", value / top);
    return make("li", { title }, bar, make("span", {}, label));
  });
}
