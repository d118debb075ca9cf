// Fill in a row, see what the model makes of it.

import { announce, Bars, showTiming, showVerdict } from "./answer.js";
import { Calls, tensorCalls } from "./calls.js";
import { fillAbout } from "./card.js";
import { byId, complain, connection, Latest, loadModel, post } from "./common.js";
import { Field, short } from "./fields.js";

const IDLE = ["The answer", "–", ""];
const BEST = 20;
const WAIT = 200; // milliseconds after the last change

const calls = new Calls();
const sender = new Latest(send, (problem) => {
  byId("answer").classList.add("stale");
  complain(blamed(problem) ? null : problem);
}, byId("answer"));
let bars = null;
let fields = [];
let pause = 0;

const model = loadModel((info) => {
  fillAbout(info);
  // What was entered survives a restart of the server.
  if (fields.length) return;
  fields = (info.columns ?? []).map((column, index) => new Field(column, index, later));
  byId("row").replaceChildren(...fields.map(({ node }) => node));
  const classes = info.outputs?.find(({ name }) => name === "scores")?.shape.at(-1);
  bars = new Bars(byId("bars"), Math.min(BEST, Number.isInteger(classes) ? classes : 0));
  run();
});

/** The row as JSON text. */
function row() {
  const values = fields.map((field) => [field.column.name, field.value()]);
  return JSON.stringify(Object.fromEntries(values.filter(([, value]) => value !== undefined)));
}

function later() {
  clearTimeout(pause);
  pause = setTimeout(run, WAIT);
}

function run() {
  clearTimeout(pause);
  const fine = fields.map((field) => field.check());
  if (fine.every(Boolean)) {
    const body = row();
    calls.fill(tensorCalls(model.predict, body));
    sender.push(body);
  } else {
    sender.cancel();
    byId("answer").classList.add("stale");
  }
  return fine;
}

async function send(body, signal) {
  const [answer, roundTrip] = await post(model.predict, body, "application/json", signal);
  complain(null);
  byId("answer").classList.remove("stale");
  show(answer.answer);
  showTiming(roundTrip, answer.timing_ms);
  calls.last(answer);
}

function show(answer) {
  if (Array.isArray(answer)) {
    const best = answer.slice(0, BEST).map(({ label, score }) => ({ label: String(label), score }));
    bars.show(best);
    showVerdict(best[0] ?? null, IDLE);
    return;
  }
  const values = Object.entries(answer).map(([name, value]) => [name, [value].flat(9).map(short).join(", ")]);
  const [[name, first]] = values;
  const says = name === "value" ? "Predicted" : name;
  const rest = values.slice(1).map(([key, value]) => `${key} ${value}`).join(" · ");
  showVerdict(null, [says, first || "–", rest]);
  byId("answer").classList.remove("idle");
  announce(`${says} ${first}`);
}

/** Show a refusal at the field that it names; whether there is one. */
function blamed(problem) {
  const field = fields.find(({ column }) => problem.message?.includes(`the column '${column.name}'`));
  field?.blame(problem.message.replace(/ at `[^`]*`.*$/, ""));
  return !!field;
}

byId("row").addEventListener("submit", (event) => {
  event.preventDefault();
  const wrong = run().indexOf(false);
  if (wrong >= 0) fields[wrong].input.focus();
});
byId("reset").addEventListener("click", () => {
  fields.forEach((field) => field.reset());
  run();
});
connection.onBack(() => fields.length && run());
showVerdict(null, IDLE);
