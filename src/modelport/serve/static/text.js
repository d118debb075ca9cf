// Type a text, see what the model makes of it.

import { Bars, showTiming, showVerdict } from "./answer.js";
import { Calls, tensorCalls } from "./calls.js";
import { fillAbout } from "./card.js";
import { byId, complain, connection, Latest, loadModel, post } from "./common.js";
import { short } from "./fields.js";

const IDLE = ["Type a text", "?", ""];
const BEST = 20;
const WAIT = 250; // milliseconds after the last letter

const words = byId("words");
const calls = new Calls();
const sender = new Latest(send, (problem) => {
  byId("answer").classList.add("stale");
  complain(problem);
}, byId("answer"));
let bars = new Bars(byId("bars"), 0);
let pause = 0;

const model = loadModel((info) => {
  const classes = info.outputs?.find(({ name }) => name === "scores")?.shape.at(-1);
  bars = new Bars(byId("bars"), Math.min(BEST, Number.isInteger(classes) ? classes : 0));
  fillAbout(info);
  describe();
});

function describe() {
  calls.fill(tensorCalls(model.predict, JSON.stringify({ text: words.value || "a text" })));
}

async function send(text, signal) {
  const [answer, roundTrip] = await post(model.predict, text, "text/plain; charset=utf-8", signal);
  complain(null);
  byId("answer").classList.remove("stale");
  if (Array.isArray(answer.answer)) {
    const best = answer.answer.slice(0, BEST).map(({ label, score }) => ({ label: String(label), score }));
    bars.show(best);
    showVerdict(best[0] ?? null, IDLE);
  } else {
    const values = Object.entries(answer.answer).map(([name, value]) => `${name} ${[value].flat(9).slice(0, 8).map(short).join(", ")}`);
    showVerdict(null, ["The answer", values.join(" · "), ""]);
  }
  showTiming(roundTrip, answer.timing_ms);
  calls.last(answer);
}

function run() {
  clearTimeout(pause);
  describe();
  if (words.value.trim()) {
    sender.push(words.value);
    return;
  }
  sender.cancel();
  complain(null);
  bars.show([]);
  showVerdict(null, IDLE);
  byId("timing").textContent = "";
}

words.addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(run, WAIT);
});
words.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  run();
});
byId("run").addEventListener("click", run);
byId("reset").addEventListener("click", () => {
  words.value = "";
  run();
  words.focus();
});
connection.onBack(() => words.value && run());
run();
