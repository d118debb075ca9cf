// Show a picture, see what is in it; with the camera, all the time.

import { Bars, showTiming, showVerdict } from "./answer.js";
import { Calls, pictureCalls } from "./calls.js";
import { fillAbout } from "./card.js";
import { byId, complain, connection, Latest, loadModel, post } from "./common.js";
import { fillSamples, listen, pressSample } from "./intake.js";

const IDLE = ["Choose a picture", "?", ""];
const BEST = 5;
const FRAME_SIDE = 640; // pixels of a camera frame's longer side, as sent
const FRAME_GAP = 120; // milliseconds between camera frames at least

const bars = new Bars(byId("bars"), BEST);
const calls = new Calls();
const sender = new Latest(send, (problem) => {
  // The old answer is not this picture's.
  if (problem.status >= 400 && problem.status < 500) idle();
  else byId("answer").classList.add("stale");
  complain(problem);
  if (stream) later();
}, byId("answer"), FRAME_GAP);
let shown = null; // the picture on the sheet
let stream = null; // the camera, while it runs

const model = loadModel((info) => {
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
  if (stream) sender.push(frame);
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
  stopCamera();
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

// The camera

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch (problem) {
    complain({ message: cameraRefusal(problem), status: 400 });
    return;
  }
  sender.cancel();
  complain(null);
  pressSample(null);
  shown = null;
  const video = byId("video");
  video.srcObject = stream;
  byId("picture").hidden = byId("prompt").hidden = true;
  video.hidden = false;
  byId("sheet").classList.add("full");
  pressCamera(true);
  for (const track of stream.getTracks()) track.addEventListener("ended", stopCamera);
  await video.play().catch(() => null);
  if (stream) sender.push(frame);
}

function stopCamera() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  sender.cancel();
  const video = byId("video");
  video.srcObject = null;
  video.hidden = true;
  pressCamera(false);
  if (!shown) {
    byId("prompt").hidden = false;
    byId("sheet").classList.remove("full");
  }
}

function pressCamera(on) {
  byId("camera").setAttribute("aria-pressed", String(on));
  byId("camera").textContent = on ? "Stop the camera" : "Use the camera";
}

function frame() {
  const video = byId("video");
  const fit = Math.min(1, FRAME_SIDE / Math.max(video.videoWidth, video.videoHeight, 1));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(video.videoWidth * fit));
  canvas.height = Math.max(1, Math.round(video.videoHeight * fit));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
}

/** After a refused frame, go on, but not at once. */
function later() {
  setTimeout(() => stream && !connection.silent && sender.push(frame), 1000);
}

function cameraRefusal(problem) {
  return {
    NotAllowedError: "The browser was not allowed to use the camera.",
    NotFoundError: "No camera was found.",
    NotReadableError: "The camera is in use by something else.",
  }[problem.name] ?? `The camera could not be started: ${problem.message}`;
}

if (window.isSecureContext && navigator.mediaDevices?.getUserMedia) {
  byId("camera").hidden = false;
  byId("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
  addEventListener("pagehide", stopCamera);
  document.addEventListener("visibilitychange", () => document.hidden && stopCamera());
} else {
  byId("no-camera").textContent = "The camera can be used only when this page is opened over https or on this machine itself.";
  byId("no-camera").hidden = false;
}

listen(take, complain);
connection.onBack(() => {
  if (stream) sender.push(frame);
  else if (shown) sender.push(() => Promise.resolve(shown));
});
idle();
