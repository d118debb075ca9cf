// Tensors in, tensors out, as JSON.

import { announce, pretty, showTiming } from "./answer.js";
import { Calls, tensorCalls } from "./calls.js";
import { fillAbout } from "./card.js";
import { byId, complain, Latest, loadModel, post, Refusal, save } from "./common.js";

const LARGE = 4096; // elements above which zeros are written in short

const request = byId("request");
const outputs = byId("outputs");
const calls = new Calls();
const sender = new Latest(send, (problem) => {
  byId("answer").classList.add("stale");
  complain(problem);
}, byId("answer"));
let example = "";

const model = loadModel((info) => {
  const inputs = Object.fromEntries((info.inputs ?? []).map((spec) => [spec.name, zerosFor(spec)]));
  const rows = Object.entries(inputs).map(([name, value]) => `    ${JSON.stringify(name)}: ${pretty(value, 40, "    ")}`);
  const fresh = `{\n  "inputs": {\n${rows.join(",\n")}\n  }\n}`;
  byId("short").hidden = !fresh.includes("zeros(");
  // What was typed survives a restart of the server.
  if (request.value === example) request.value = fresh;
  example = fresh;
  fillAbout(info);
  describe();
});

/** Zeros of an input's shape; free dimensions are 1. */
function zerosFor(spec) {
  const shape = spec.shape.map((size) => (typeof size === "number" && size >= 0 ? size : 1));
  const zero = { string: "", bool: false }[spec.dtype] ?? 0;
  if (shape.reduce((a, b) => a * b, 1) > LARGE) return `zeros(${shape.join(", ")})`;
  return filled(shape, zero);
}

function filled([size, ...rest], value) {
  if (size === undefined) return value;
  return Array.from({ length: size }, () => filled(rest, value));
}

const SHORT = /^zeros\((\d{1,6}(?:, ?\d{1,6}){0,7})\)$/;
const MOST = 5_000_000; // numbers that one short form may stand for

/** The request as JSON text, with `"zeros(…)"` written out; throws Refusal in words. */
function written() {
  let value;
  try {
    value = JSON.parse(request.value);
  } catch (problem) {
    throw new Refusal(`That is not JSON: ${problem.message}`, 400);
  }
  if (typeof value?.inputs !== "object" || value.inputs === null) {
    throw new Refusal('Expected an object with the field "inputs".', 400);
  }
  const inputs = Object.fromEntries(
    Object.entries(value.inputs).map(([name, item]) => {
      const match = typeof item === "string" ? SHORT.exec(item) : null;
      if (!match) return [name, item];
      const shape = match[1].split(",").map(Number);
      if (shape.reduce((a, b) => a * b, 1) > MOST) throw new Refusal(`${item} is too large to send as JSON.`, 400);
      return [name, filled(shape, 0)];
    }),
  );
  return JSON.stringify({ ...value, inputs });
}

async function send(body, signal) {
  byId("run").disabled = true;
  try {
    const [answer, roundTrip] = await post(model.predict, body, "application/json", signal);
    complain(null);
    byId("answer").classList.remove("stale");
    outputs.textContent = pretty(answer.answer, matchMedia("(max-width: 46rem)").matches ? 34 : 68);
    showTiming(roundTrip, answer.timing_ms);
    calls.last(answer);
    announce("The answer is there.");
  } finally {
    byId("run").disabled = false;
  }
}

function withRequest(use) {
  try {
    use(written());
  } catch (problem) {
    complain(problem);
  }
}

/** Keep the calls in step with what is typed, as long as it can be read. */
function describe() {
  try {
    calls.fill(tensorCalls(model.predict, written()));
  } catch {
    // The last calls that made sense stay; Run says what is wrong.
  }
}

function run() {
  complain(null);
  withRequest((body) => sender.push(body));
}

let pause = 0;
request.addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(describe, 250);
});
request.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  run();
});
byId("run").addEventListener("click", run);
byId("reset").addEventListener("click", () => {
  request.value = example;
  describe();
});
byId("save").addEventListener("click", () =>
  withRequest((body) => save(new Blob([body], { type: "application/json" }), "request.json")),
);
outputs.textContent = "Nothing has been run yet.";
