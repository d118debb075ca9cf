// What the server does now: asked every two seconds, shown as differences.

import { ask, byId, complain, connection, make } from "./common.js";
import { Spark, Stack, TimeChart, columns } from "./dashboard.charts.js";
import { apart, between, bytes, duration, everything, keyOf, percent, quantile, sampleOf, short, span, sum, things, whole, words } from "./dashboard.figures.js";

const EVERY = 2; // seconds between two questions
const WINDOW = 10; // seconds that "now" means
const HISTORY = 300; // seconds that the lines show at most
const STAGES = ["decode", "queue", "pre", "net", "post"];

const samples = [];
const shown = new Map(); // key -> the panel of a version
let bounds = [];
let timer = 0;

const rate = (value) => [short(value), "/s"];
const traffic = new TimeChart(byId("traffic"), {
  title: "Requests a second",
  series: [{ key: "answered", label: "answered", area: true }, { key: "unmet", label: "refused or failed" }],
  format: (value) => [short(value), ""],
});
const latency = new TimeChart(byId("latency"), {
  title: "Latency",
  series: [{ key: "p99", label: "p99" }, { key: "p90", label: "p90" }, { key: "p50", label: "p50" }],
  format: duration,
});

async function tick() {
  clearTimeout(timer);
  try {
    const data = await ask("/api/dashboard", { cache: "no-store" });
    byId("door").hidden = true;
    complain(null);
    take(data);
  } catch (problem) {
    refused(problem);
  }
  // The first difference soon, then at leisure; nobody looks at a hidden page.
  const wait = samples.length > 2 ? EVERY : 1;
  if (!document.hidden && byId("door").hidden) timer = setTimeout(tick, wait * 1000);
}

function refused(problem) {
  state("failed", problem.status ? "refused" : "no answer");
  const door = problem.status === 401 || problem.status === 403;
  byId("door").hidden = !door;
  if (door && !sessionStorage.getItem("key")) complain(null);
  else complain(problem);
  if (door) byId("key").focus();
}

function state(kind, text) {
  byId("live").className = `state ${kind}`;
  byId("live").textContent = text;
}

function take(data) {
  const sample = sampleOf(data);
  if (samples.length && samples[0].started !== sample.started) samples.length = 0;
  bounds = data.bounds;
  samples.push(sample);
  while (samples[0].time < sample.time - HISTORY) samples.shift();
  byId("all").hidden = false;
  state("ready", "live");
  const names = new Set(data.versions.map(({ figures }) => figures.name));
  const loaded = data.versions.filter((version) => !resting(version)).length;
  byId("lead").textContent = `${things(names.size, "model")}, ${things(loaded, "version")} · up ${span(
    data.time - data.started,
  )} · Modelport ${data.release}`;
  showTiles(data);
  showLines();
  showModels(data);
}

/** The newest sample, and the one that lies `seconds` before it or as near as there is. */
function ends(seconds) {
  const now = samples.at(-1);
  return [now, samples.find(({ time }) => time >= now.time - seconds - 0.5) ?? now];
}

// ---- the figures of now ----

function showTiles(data) {
  const [now, then] = ends(WINDOW);
  const passed = now.time - then.time;
  const done = everything(now, then);
  const lost = done.unmet;
  const waiting = sum(data.versions.map(({ figures }) => figures.waiting));
  const executors = sum(data.versions.map(({ figures }) => figures.executors));
  const memory = sum(data.processes.map((p) => p.resident_bytes));
  const processes = sum(data.processes.map((p) => p.processes));
  tile("Answered", passed ? rate(done.answered / passed) : ["–", ""], "requests a second");
  tile("Median", duration(quantile(done.counts, bounds, 0.5)), "latency");
  tile("p99", duration(quantile(done.counts, bounds, 0.99)), "latency");
  tile("Refused, failed", percent(lost ? lost / (lost + done.answered) : 0), `${whole(lost)} in ${WINDOW} s`, lost > 0);
  tile("Waiting", [whole(waiting), "rows"], things(executors, "executor"));
  tile("Processor", passed ? percent((now.cpu - then.cpu) / passed / data.cores) : ["–", ""], `of ${things(data.cores, "core")}`);
  tile("Memory", bytes(memory), processes === 1 ? "1 process" : `${processes} processes`);
}

const tiles = new Map();

function tile(name, [number, unit], about, alarm = false) {
  if (!tiles.has(name)) {
    const parts = { number: make("b"), unit: make("small"), about: make("dd", { className: "about" }) };
    const value = make("dd", {}, parts.number, parts.unit);
    parts.box = make("div", {}, make("dt", {}, name), value, parts.about);
    tiles.set(name, parts);
    byId("tiles").append(parts.box);
  }
  const parts = tiles.get(name);
  parts.number.textContent = number;
  parts.unit.textContent = unit;
  parts.about.textContent = about;
  parts.box.className = alarm ? "alarm" : "";
}

// ---- lines ----

/** Seconds that the lines show: more as the page has been open for longer. */
const history = () => Math.min(Math.max(60, Math.ceil((samples.at(-1).time - samples[0].time) / 60) * 60), HISTORY);

/** For each pair of neighbours `make(done, seconds)`; a long silence between two is a gap. */
function series(difference, point) {
  return samples.slice(1).map((now, i) => {
    const then = samples[i];
    const passed = now.time - then.time;
    const gap = passed > 3 * EVERY;
    return { time: now.time, ...(gap ? {} : point(difference(now, then), passed)) };
  });
}

function showLines() {
  const now = samples.at(-1).time;
  const points = series(everything, (done, passed) => ({
    answered: done.answered / passed,
    unmet: done.unmet / passed,
    p50: quantile(done.counts, bounds, 0.5),
    p90: quantile(done.counts, bounds, 0.9),
    p99: quantile(done.counts, bounds, 0.99),
  }));
  traffic.show(points, now, history());
  latency.show(points, now, history());
}

// ---- models and their versions ----

function showModels(data) {
  const names = [...new Set(data.versions.map(({ figures }) => figures.name))];
  const open = data.versions.filter((version) => !resting(version)).length <= 2;
  const panels = names.map((name) => {
    const panel = modelPanel(name);
    const all = data.versions.filter(({ figures }) => figures.name === name);
    const versions = all.filter((version) => !resting(version));
    const rest = all.filter(resting).map(({ figures }) => figures.version);
    panel.rest.textContent = `not loaded: ${rest.join(", ")}`;
    panel.rest.hidden = !rest.length;
    const { plan, problem, last } = data.rollout?.[name] ?? {};
    const said = problem || last?.reason || "";
    panel.said.textContent = said;
    panel.said.className = problem ? "said why" : "said";
    panel.said.hidden = !said;
    arrange(panel.list, versions.map((version) => showVersion(version, plan, open, versions.length === 1)));
    return panel.box;
  });
  arrange(byId("versions"), panels.length ? panels : [nothing]);
  const keys = new Set([...data.versions.map(keyOf), ...names]);
  for (const key of shown.keys()) if (!keys.has(key)) shown.delete(key);
}

/** A version in the folder that nobody wants loaded: not worth a row. */
const resting = ({ state, reason, figures }) => state === "UNAVAILABLE" && !reason && !figures.requests;

const nothing = make("p", { className: "panel empty" }, "No model is served here yet.");

/** Make `nodes` the children of `box`, and leave alone what is there already: it may have the focus. */
function arrange(box, nodes) {
  if (nodes.length !== box.children.length || nodes.some((node, i) => node !== box.children[i])) box.replaceChildren(...nodes);
}

function modelPanel(name) {
  if (!shown.has(name)) {
    const said = make("p", { className: "said", hidden: true });
    const list = make("div", { className: "list" });
    const rest = make("p", { className: "rest", hidden: true });
    // The address is made here: a model's own words never become one.
    const title = make("h2", {}, make("a", { href: `/models/${encodeURIComponent(name)}` }, name));
    shown.set(name, { said, list, rest, box: make("section", { className: "panel" }, title, said, list, rest) });
  }
  return shown.get(name);
}

function showVersion(version, plan, open, alone) {
  const key = keyOf(version);
  if (!shown.has(key)) shown.set(key, versionPanel(version, open));
  const panel = shown.get(key);
  const { figures } = version;
  const [now, then] = ends(WINDOW);
  const passed = now.time - then.time;
  const done = between(now, then, key);
  const lost = done.refused + done.failed;
  const kind = version.failed ? "failed" : { READY: "ready", UNAVAILABLE: "resting" }[version.state] ?? "busy";
  panel.state.className = `state ${kind}`;
  panel.state.textContent = version.failed ? "failed" : { UNAVAILABLE: "not loaded" }[version.state] ?? version.state.toLowerCase();
  panel.badges.replaceChildren(...badges(version, plan, alone).map((text) => make("span", { className: "badge" }, text)));
  panel.box.classList.toggle("out", version.state === "UNAVAILABLE" && !figures.answered);
  panel.why.textContent = version.reason;
  panel.why.hidden = !version.reason;
  panel.why.className = version.failed ? "why" : "why mild";
  const put = (name, [number, unit]) => {
    panel.cells[name].textContent = `${number} ${unit}`.trim();
  };
  put("rate", passed ? rate(done.answered / passed) : ["–", ""]);
  put("p50", duration(quantile(done.counts, bounds, 0.5)));
  put("p99", duration(quantile(done.counts, bounds, 0.99)));
  put("unmet", percent(lost ? lost / (lost + done.answered) : 0));
  panel.cells.unmet.classList.toggle("bad", lost > 0);
  put("batch", done.executions ? [short(done.rows / done.executions), "rows"] : ["–", ""]);
  put("waiting", [whole(figures.waiting), ""]);
  const points = series((a, b) => between(a, b, key), (d, s) => ({ value: d.answered / s }));
  panel.spark.show(points, now.time, history());
  if (panel.box.open) showDetails(panel, version);
  panel.version = version;
  return panel.box;
}

function badges({ answers, figures }, plan, alone) {
  const found = [];
  const version = figures.version;
  if (plan?.stable === version) found.push("stable");
  else if (!plan && answers && !alone) found.push("answers by default");
  if (plan?.canary?.version === version) found.push(`canary ${percent(plan.canary.weight ?? 0).join(" ")}`);
  if (plan?.shadow?.version === version) found.push(`shadow ${percent(plan.shadow.sample ?? 1).join(" ")}`);
  return found;
}

const CELLS = { rate: "answered", p50: "median", p99: "p99", unmet: "refused, failed", batch: "a batch", waiting: "waiting" };

function versionPanel({ figures }, open) {
  const panel = {
    state: make("span"),
    badges: make("span", { className: "badges" }),
    why: make("span", { className: "why", hidden: true }),
    spark: new Spark(),
    stages: new Stack(),
    batches: make("ul", { className: "columns" }),
    spread: make("ul", { className: "columns fine" }),
    spreadNote: make("p", { className: "hint" }),
    facts: make("dl", { className: "facts" }),
    cells: {},
  };
  const cells = Object.entries(CELLS).map(([name, label]) => {
    panel.cells[name] = make("b");
    return make("span", { className: `cell ${name}` }, make("small", {}, label), panel.cells[name]);
  });
  const part = (title, ...content) => make("section", {}, make("h3", {}, title), ...content);
  panel.measured = [
    part("Where the time goes", panel.stages.node),
    part("Rows that ran together", panel.batches),
    part("How long answers took", panel.spread, panel.spreadNote),
  ];
  panel.box = make(
    "details",
    { className: "version", open },
    make(
      "summary",
      {},
      make("span", { className: "which" }, make("strong", {}, figures.version), panel.state, panel.badges),
      ...cells,
      panel.spark.node,
      panel.why,
    ),
    make(
      "div",
      { className: "details" },
      ...panel.measured,
      part("Since it was loaded", panel.facts),
    ),
  );
  panel.box.addEventListener("toggle", () => panel.box.open && panel.version && showDetails(panel, panel.version));
  return panel;
}

function showDetails(panel, version) {
  const key = keyOf(version);
  const { figures } = version;
  const [now, then] = ends(HISTORY);
  let done = between(now, then, key);
  const live = done.answered > 0;
  if (!live) done = between(now, null, key);
  for (const section of panel.measured) section.hidden = !done.answered;
  fillFacts(panel.facts, facts(version));
  if (!done.answered) return;
  const when = live ? `the last ${span(Math.max(now.time - then.time, 1))}` : "since it was loaded";
  panel.stages.show(
    STAGES.map((stage) => {
      const value = done.stages[stage] / done.answered;
      return { key: stage, label: stage, value, text: duration(value).join(" ") };
    }),
  );
  panel.batches.replaceChildren(...columns(byPower(done.batches)));
  panel.spread.replaceChildren(...columns(spread(done.counts)));
  const at = [0.5, 0.9, 0.99].map((share) => `p${share * 100} ${duration(quantile(done.counts, bounds, share)).join(" ")}`);
  panel.spreadNote.textContent = `${at.join(" · ")} · ${when}`;
}

/** Executions by batch size, in steps of powers of two. */
function byPower(batches) {
  const sizes = Object.keys(batches).map(Number);
  const last = Math.ceil(Math.log2(Math.max(1, ...sizes)));
  return Array.from({ length: last + 1 }, (_, power) => {
    const [low, high] = [power ? 2 ** (power - 1) + 1 : 1, 2 ** power];
    const value = sum(sizes.filter((rows) => rows >= low && rows <= high).map((rows) => batches[rows]));
    const label = low === high ? `${low}` : `${low}–${high}`;
    return { label, value, title: `${label} rows: ${whole(value)} times` };
  });
}

/** Answers by duration: the buckets between the shortest and the longest. */
function spread(counts) {
  const first = counts.findIndex((count) => count > 0);
  const last = counts.findLastIndex((count) => count > 0);
  if (first < 0) return [];
  const from = Math.max(first - 1, 0);
  const upto = Math.min(Math.max(last + 1, from + 8), bounds.length);
  const middle = quantile(counts, bounds, 0.5);
  return counts.slice(from, upto + 1).map((value, i) => {
    const high = bounds[from + i];
    const low = from + i ? bounds[from + i - 1] : 0;
    const edge = i === 0 || from + i === upto;
    const said = duration(high ?? bounds.at(-1)).join(" ");
    return { label: edge ? said : "", value, mark: low < middle && middle <= high, title: `up to ${said}: ${whole(value)}` };
  });
}

function facts({ figures, runs }) {
  const list = (counts) =>
    Object.entries(counts).map(([reason, times]) => `${words(reason)} ${whole(times)}`).join(" · ") || "none";
  const { gauges: g, counters: c } = figures;
  const found = [
    ["Answered", `${things(figures.answered, "request")}, ${things(figures.rows, "row")}`],
    ["Runs of the network", whole(figures.executions)],
    ["Refused", list(figures.refused)],
    ["Failed", list(figures.failed)],
    ["Executors", whole(figures.executors)],
  ];
  if (runs) found.push(["Answers by", runs]);
  if (figures.last_inference) {
    const ago = samples.at(-1).time - figures.last_inference / 1000;
    found.push(["Last run", ago < 1 ? "now" : `${span(ago)} ago`]);
  }
  if (g.golden_replay_ok !== undefined) {
    const ago = span(samples.at(-1).time - g.golden_replay_time);
    found.push(["Golden cases", `${g.golden_replay_ok ? "as recorded" : "not as recorded"}, ${apart(g.golden_replay_difference)}, ${ago} ago`]);
  }
  if (g.shadow_agreement !== undefined) {
    const asked = sum(Object.entries(c).filter(([name]) => name.startsWith("shadow_")).map(([, times]) => times));
    const off = g.shadow_max_difference === undefined ? "" : `, ${apart(g.shadow_max_difference)}`;
    found.push(["As shadow", `${percent(g.shadow_agreement).join(" ")} the same label${asked ? ` of ${whole(asked)}` : ""}${off}`]);
  }
  return found;
}

function fillFacts(box, found) {
  box.replaceChildren(...found.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

// ---- the door ----

byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", byId("key").value.trim());
  byId("key").value = "";
  tick();
});
connection.onBack(tick);
document.addEventListener("visibilitychange", () => document.hidden || tick());
tick();
