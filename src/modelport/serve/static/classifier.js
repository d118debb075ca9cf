// Show a picture, see what is in it; with the camera, all the time.

import { Bars, showTiming, showVerdict } from "./answer.js";
import { Calls, pictureCalls } from "./calls.js";
import { Camera } from "./camera.js";
import { fillAbout } from "./card.js";
import { byId, complain, connection, Latest, loadModel, post } from "./common.js";
import { fillSamples, listen, pressSample } from "./intake.js";

const IDLE = ["Choose a picture", "?", ""];
const BEST = 5;
const FRAME_GAP = 120; // milliseconds between camera frames at least

let bars = new Bars(byId("bars"), BEST);
const calls = new Calls();
const sender = new Latest(send, (problem) => {
  // The old answer is not this picture's.
  if (problem.status >= 400 && problem.status < 500) idle();
  else byId("answer").classList.add("stale");
  complain(problem);
  if (camera.stream) later();
}, byId("answer"), FRAME_GAP);
let shown = null; // the picture on the sheet

const model = loadModel((info) => {
  const scores = info.outputs?.find(({ name }) => name === "scores")?.shape.at(-1);
  const most = Math.min(BEST, info.labels?.length || BEST, Number.isInteger(scores) ? scores : BEST);
  if (most < bars.rows.length) bars = new Bars(byId("bars"), most);
  const sample = info.samples?.[0]?.url;
  calls.fill(pictureCalls(model.predict, /\.png$/i.test(sample ?? "") ? "picture.png" : "picture.jpg", sample));
  fillSamples(info.samples, take, complain);
  fillAbout(info);
});

async function send(source, signal) {
  const body = await source();
  const [answer, roundTrip] = await post(model.predict, body, body.type || "application/octet-stream", signal);
  if (signal.aborted) return;
  show(answer, roundTrip);
  if (camera.stream) sender.push(frame);
}

function show(answer, roundTrip) {
  complain(null);
  byId("answer").classList.remove("stale");
  const best = (answer.answer ?? []).slice(0, BEST).map(({ label, score }) => ({ label: String(label), score }));
  bars.show(best);
  showVerdict(best[0] ?? null, IDLE);
  showTiming(roundTrip, answer.timing_ms);
  calls.last(answer);
}

function idle() {
  byId("answer").classList.remove("stale");
  bars.show([]);
  showVerdict(null, IDLE);
  byId("timing").textContent = "";
}

function take(blob, name) {
  camera.stop();
  sender.cancel();
  complain(null);
  pressSample(null);
  shown = blob;
  const image = byId("picture");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
  image.alt = name;
  image.hidden = false;
  byId("prompt").hidden = true;
  byId("sheet").classList.add("full");
  sender.push(() => Promise.resolve(blob));
}

byId("picture").addEventListener("error", () => {
  if (!shown) return;
  byId("picture").hidden = true;
  byId("prompt").replaceChildren("This browser cannot show this picture; it was sent all the same.");
  byId("prompt").hidden = false;
});

const camera = new Camera(
  () => {
    sender.cancel();
    complain(null);
    pressSample(null);
    shown = null;
    byId("picture").hidden = byId("prompt").hidden = true;
    byId("sheet").classList.add("full");
    sender.push(frame);
  },
  () => {
    sender.cancel();
    byId("prompt").hidden = !!shown;
    byId("sheet").classList.toggle("full", !!shown);
  },
  complain,
);
const frame = async () => (await camera.frame()).blob;

/** After a refused frame, go on, but not at once. */
function later() {
  setTimeout(() => camera.stream && !connection.silent && sender.push(frame), 1000);
}

listen(take, complain);
connection.onBack(() => {
  if (camera.stream) sender.push(frame);
  else if (shown) sender.push(() => Promise.resolve(shown));
});
idle();
