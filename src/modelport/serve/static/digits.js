// Draw a digit, see what it is while you draw.

import { Bars, showTiming, showVerdict } from "./answer.js";
import { Calls, pictureCalls } from "./calls.js";
import { fillAbout } from "./card.js";
import { byId, complain, connection, Latest, loadModel, post, save } from "./common.js";
import { fillSamples, listen, pressSample } from "./intake.js";
import { Pen } from "./pen.js";

const IDLE = ["Draw a digit", "?", ""];
const MOST = 20; // labels that get a bar

let labels = Array.from("0123456789");
let bars = new Bars(byId("bars"), labels.length);
let picture = null; // the file shown, sent as it came, instead of what is drawn
const calls = new Calls();
const pen = new Pen(byId("canvas"), byId("nib"), drawn);
const sender = new Latest(send, (problem) => {
  // The old answer is not this picture's.
  if (problem.status >= 400 && problem.status < 500) idle();
  else byId("answer").classList.add("stale");
  complain(problem);
}, byId("answer"));

const model = loadModel((info) => {
  const given = info.labels?.length ? info.labels.slice(0, MOST).map(String) : labels;
  if (given.join("\n") !== labels.join("\n")) bars = new Bars(byId("bars"), given.length);
  labels = given;
  calls.fill(pictureCalls(model.predict, "digit.png", info.samples?.[0]?.url));
  fillSamples(info.samples, take, complain);
  fillAbout(info);
  if (pen.empty && !picture) idle();
});

async function send(source, signal) {
  const body = await source();
  const [answer, roundTrip] = await post(model.predict, body, body.type || "application/octet-stream", signal);
  if (signal.aborted) return;
  show(answer, roundTrip);
}

function show(answer, roundTrip) {
  complain(null);
  byId("answer").classList.remove("stale");
  const scores = new Map((answer.answer ?? []).map(({ label, score }) => [String(label), score]));
  bars.show(labels.map((label) => ({ label, score: scores.get(label) ?? 0 })));
  showVerdict(answer.answer?.[0] ?? null, IDLE);
  showTiming(roundTrip, answer.timing_ms);
  calls.last(answer);
}

function idle() {
  byId("answer").classList.remove("stale");
  bars.show(labels.map((label) => ({ label })));
  showVerdict(null, IDLE);
  byId("timing").textContent = "";
}

/** Something changed on the sheet by drawing, clearing or undoing. */
function drawn() {
  picture = null;
  pressSample(null);
  refresh();
  if (pen.empty) {
    sender.cancel();
    complain(null);
    idle();
  } else {
    sender.push(() => pen.png());
  }
}

/** A picture came in: show it and send it as it is. */
async function take(blob) {
  sender.cancel();
  complain(null);
  pressSample(null);
  picture = blob;
  sender.push(() => Promise.resolve(blob));
  // A kind that this browser cannot show may still be one that the server reads.
  const bitmap = await createImageBitmap(blob).catch(() => null);
  if (picture !== blob) return;
  if (bitmap) pen.show(bitmap);
  else pen.blank();
  refresh();
}

function refresh() {
  const empty = pen.empty && !picture;
  byId("prompt").hidden = !empty;
  byId("clear").disabled = empty;
  byId("save").disabled = pen.empty;
  byId("undo").disabled = !pen.canUndo;
}

function clear() {
  picture = null;
  pen.clear();
}

listen(take, complain);
byId("clear").addEventListener("click", clear);
byId("undo").addEventListener("click", () => pen.undo());
byId("save").addEventListener("click", async () => save(await pen.png(), "digit.png"));
addEventListener("keydown", (event) => {
  if (/^(input|textarea|select)$/i.test(event.target.tagName)) return;
  if ((event.key === "Escape" || event.key === "Delete") && !byId("clear").disabled) {
    clear();
  } else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey) {
    event.preventDefault();
    pen.undo();
  }
});
connection.onBack(() => {
  if (picture) sender.push(() => Promise.resolve(picture));
  else if (!pen.empty) sender.push(() => pen.png());
});
idle();
