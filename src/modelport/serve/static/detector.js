// Show a picture, see the objects in it; with the camera, all the time.
//
// The server is asked once, with a low threshold; the slider then only hides. That is what it would answer at the
// slider's threshold: a box is suppressed by better ones alone, so those below the threshold change nothing.

import { announce, showTiming } from "./answer.js";
import { boxAt, colourOf, css, drawBoxes } from "./boxes.js";
import { Calls, pictureCalls } from "./calls.js";
import { Camera } from "./camera.js";
import { fillAbout } from "./card.js";
import { byId, complain, connection, keyed, Latest, loadModel, make, post, save } from "./common.js";
import { fillSamples, listen, pressSample } from "./intake.js";
import { Options } from "./options.js";

const LOWEST = 0.05; // the threshold that is asked with
const FRAME_GAP = 30; // milliseconds between camera frames at least
const RATE_OVER = 2000; // milliseconds over which frames are counted
const PROMPT = [make("strong", {}, "Drop a picture here"), make("span", {}, "or paste one, choose a file, use the camera")];

const canvas = byId("boxes");
const calls = new Calls();
const sender = new Latest(send, failed, byId("answer"), FRAME_GAP);
let shown = null; // {blob, view}: the picture on the sheet, unless the camera is on; the view is a promise
let answered = null; // {picture, size, reply}: the last answer, and its picture as it is shown
let visible = []; // the objects that are shown, best first
let lit = -1; // which of them stands out
let frames = []; // when the last frames were answered
const rows = [];
const chips = new Map(); // label -> {button, count}
const wanted = new Set(); // labels that are shown; all if empty

let describe = () => {}; // fills the calls with the options as they are

const model = loadModel((info) => {
  const sample = info.samples?.[0]?.url;
  options.fill(info.options ?? []);
  describe = () => calls.fill(pictureCalls(model.predict + options.query(), "picture.jpg", sample, true));
  describe();
  fillSamples(info.samples, take, complain);
  fillAbout(info);
});
const options = new Options(byId("options"), LOWEST, (again) => {
  describe();
  if (!again) update();
  else if (!camera.stream && shown) sender.push(still);
});

// Asking

const still = () => shown;
const frame = async () => {
  const { blob, size } = await camera.frame();
  return { blob, view: { picture: blob, size } };
};

/**
 * What is shown of a picture, {picture, size}: boxes count the upright picture's pixels.
 *
 * An `img` does not tell those: its own size is by the resolution in the EXIF.
 */
async function viewOf(blob) {
  // Chromium ignores the orientation that a WebP's EXIF asks for; this bit says that there is one.
  const odd = blob.type === "image/webp" && new Uint8Array(await blob.slice(20, 21).arrayBuffer())[0] & 8;
  const size = odd ? null : await sizeOf(blob);
  if (size) return { picture: blob, size };
  const picture = await asServed(blob);
  return { picture, size: picture && (await sizeOf(picture)) };
}

/** The picture as the server reads it, which draws boxes of a score above 1 on it: none. */
async function asServed(blob) {
  if (!options.has("score_threshold")) return null;
  const headers = keyed({ Accept: "image/jpeg", "Content-Type": typeOf(blob) });
  const reply = await fetch(`${model.predict}?score_threshold=1`, { method: "POST", body: blob, headers }).catch(() => null);
  return reply?.ok ? reply.blob() : null;
}

const typeOf = (blob) => blob.type || "application/octet-stream";

async function sizeOf(blob) {
  const bitmap = await createImageBitmap(blob).catch(() => null);
  if (!bitmap) return null;
  const { width, height } = bitmap;
  bitmap.close();
  return { width, height };
}

async function send(source, signal) {
  const { blob, view } = await source();
  if (signal.aborted) return;
  const path = model.predict + options.query(LOWEST);
  const [reply, roundTrip] = await post(path, blob, typeOf(blob), signal);
  const seen = await view;
  if (signal.aborted) return;
  answered = { ...seen, reply };
  complain(null);
  if (camera.stream) fit(answered.size);
  update();
  showTiming(roundTrip, reply.timing_ms, ...(camera.stream ? [rate()] : []));
  if (camera.stream) sender.push(frame);
}

function failed(problem) {
  // The old answer is not this picture's.
  if (problem.status >= 400 && problem.status < 500) forget("No answer");
  else byId("answer").classList.add("stale");
  complain(problem);
  // After a refused frame, go on, but not at once.
  setTimeout(() => camera.stream && !connection.silent && sender.push(frame), 1000);
}

/** Frames answered a second, measured. */
function rate() {
  const now = performance.now();
  frames = [...frames.filter((time) => now - time < RATE_OVER), now];
  const passed = now - frames[0];
  return passed ? `${(((frames.length - 1) * 1000) / passed).toFixed(1)} frames/s` : "";
}

/** Give the sheet the picture's shape, so that the canvas lies on the picture exactly. */
function fit(size) {
  const sheet = byId("sheet");
  sheet.classList.toggle("full", !!size);
  if (size) sheet.style.setProperty("--ratio", String(size.width / size.height));
}

// Showing

function idle() {
  forget("Choose a picture");
  fit(null);
  byId("prompt").replaceChildren(...PROMPT);
  byId("prompt").hidden = false;
}

function forget(words) {
  answered = null;
  byId("top").textContent = words;
  byId("timing").textContent = "";
  update();
}

/** Show what is left of the last answer at this threshold and for these classes. */
function update() {
  byId("answer").classList.remove("stale");
  const all = (answered?.reply.answer ?? []).map((each) => ({ ...each, label: String(each.label) }));
  const above = all.filter(({ score }) => score > options.threshold);
  visible = above.filter(({ label }) => !wanted.size || wanted.has(label));
  if (lit >= visible.length) lit = -1;
  fillChips(above);
  fillRows();
  const [below, others] = [all.length - above.length, above.length - visible.length];
  const hidden = [below && `${below} more below the threshold`, others && `${others} of other classes`];
  byId("sure").textContent = hidden.filter(Boolean).join(", ");
  byId("answer").classList.toggle("idle", !answered);
  byId("save").disabled = !answered?.size;
  if (answered) {
    byId("top").textContent = things(visible.length);
    calls.last({ ...answered.reply, answer: above });
    const words = [...counts(visible)].map(([label, count]) => `${count} ${label}`).join(", ");
    canvas.ariaLabel = `${things(visible.length)}${words && `: ${words}`}`;
    announce(canvas.ariaLabel);
  }
  draw();
}

const things = (count) => (count === 1 ? "1 object" : `${count} objects`);

function counts(found) {
  const counted = new Map();
  for (const { label } of found) counted.set(label, (counted.get(label) ?? 0) + 1);
  return counted;
}

function fillChips(found) {
  const counted = counts(found);
  for (const { label, class: index } of found) {
    if (!chips.has(label)) chips.set(label, chip(label, index));
  }
  for (const [label, { button, count }] of chips) {
    count.textContent = counted.get(label) ?? 0;
    button.setAttribute("aria-pressed", String(wanted.has(label)));
    if (!counted.has(label) && !wanted.has(label)) chips.delete(label);
  }
  const order = [...chips].sort(([a], [b]) => a.localeCompare(b)).map(([, { button }]) => button);
  const box = byId("chips");
  if (order.length !== box.children.length || order.some((button, i) => button !== box.children[i])) box.replaceChildren(...order);
}

function chip(label, index) {
  const count = make("b");
  const button = make("button", { type: "button", className: "chip" }, swatch(index), make("span", {}, label), count);
  button.addEventListener("click", () => {
    if (!wanted.delete(label)) wanted.add(label);
    update();
  });
  return { button, count };
}

function swatch(index) {
  const box = make("i", { className: "swatch" });
  box.style.background = css(colourOf(index));
  return box;
}

function fillRows() {
  while (rows.length < visible.length) rows.push(row(rows.length));
  // Those that stay are left where they are: one may have the focus.
  rows.forEach(({ item }, at) => {
    if (at >= visible.length) item.remove();
    else if (!item.isConnected) byId("found").append(item);
  });
  visible.forEach(({ label, class: index, score, box }, at) => {
    const { item, name, value, place, mark } = rows[at];
    mark.style.background = css(colourOf(index));
    name.textContent = label;
    value.textContent = score.toFixed(2);
    place.textContent = box.map(Math.round).join(", ");
    Object.assign(item.dataset, { class: index, score, box: box.join(" ") });
  });
}

function row(at) {
  const [mark, name, place, value] = [swatch(0), ...["name", "place", "value"].map((className) => make("span", { className }))];
  const button = make("button", { type: "button", tabIndex: at ? -1 : 0 }, mark, name, place, value);
  const item = make("li", {}, button);
  item.addEventListener("pointerenter", () => light(at));
  item.addEventListener("pointerleave", () => light(-1));
  button.addEventListener("focus", () => light(at));
  button.addEventListener("blur", () => light(-1));
  return { item, button, mark, name, place, value };
}

byId("found").addEventListener("keydown", (event) => {
  const at = rows.findIndex(({ button }) => button === document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: visible.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  rows[Math.max(0, Math.min(to, visible.length - 1))].button.focus();
});

/** Let one object stand out, on the picture and in the list. */
function light(index, scroll = false) {
  if (lit === index) return;
  lit = index;
  draw();
  if (!scroll || lit < 0) return;
  // The list alone: scrollIntoView would move the page as well.
  const [list, { item }] = [byId("found"), rows[lit]];
  const top = item.offsetTop - list.offsetTop;
  list.scrollTop = Math.min(Math.max(list.scrollTop, top + item.offsetHeight - list.clientHeight), top);
}

function point(event) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const { size } = answered ?? {};
  if (!size) return;
  light(boxAt(visible, ((event.clientX - left) / width) * size.width, ((event.clientY - top) / height) * size.height), true);
}

canvas.addEventListener("pointermove", point);
canvas.addEventListener("pointerdown", point);
canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && light(-1));

// Drawing

function draw() {
  const { clientWidth, clientHeight } = canvas;
  const ratio = devicePixelRatio;
  canvas.width = Math.round(clientWidth * ratio);
  canvas.height = Math.round(clientHeight * ratio);
  rows.forEach(({ item }, at) => item.classList.toggle("lit", at === lit));
  if (!answered?.size || !clientWidth) return;
  const drawn = drawBoxes(canvas, visible, answered.size, { stroke: Math.round(2 * ratio), letter: 13 * ratio, lit });
  // In CSS pixels from the upper left corner of the picture.
  drawn.forEach((box, at) => (rows[at].item.dataset.drawn = box.map((value) => value / ratio).join(" ")));
}

new ResizeObserver(draw).observe(canvas);
addEventListener("resize", draw); // also told when the window moves to a screen with other pixels

byId("save").addEventListener("click", async () => {
  const { picture, size } = answered;
  const bitmap = await createImageBitmap(picture);
  const sheet = Object.assign(document.createElement("canvas"), size);
  const context = sheet.getContext("2d");
  context.fillStyle = "#fff"; // behind what is transparent, as the server has it
  context.fillRect(0, 0, size.width, size.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const scale = (size.width + size.height) / 2;
  drawBoxes(sheet, visible, size, { stroke: Math.max(Math.round(scale * 0.0028), scale > 400 ? 2 : 1), letter: Math.max(11, Math.round(scale * 0.02)) });
  const type = picture.type === "image/png" ? "image/png" : "image/jpeg";
  const made = await new Promise((resolve) => sheet.toBlob(resolve, type, 0.92));
  if (made) save(made, `${model.name}-boxes.${type === "image/png" ? "png" : "jpg"}`);
  else complain({ message: "This picture is too large for this browser to draw on.", status: 400 });
});

// Pictures

function take(blob, name) {
  camera.stop();
  sender.cancel();
  complain(null);
  pressSample(null);
  forget("Looking…");
  shown = { blob, view: viewOf(blob) };
  shown.view.then((view) => shown?.blob === blob && put(view, name));
  sender.push(still);
}

/** Put a picture on the sheet, or the words that it cannot be shown. */
function put({ picture, size }, name) {
  const image = byId("picture");
  URL.revokeObjectURL(image.src);
  fit(size);
  image.hidden = !size;
  byId("prompt").hidden = !!size;
  if (!size) return byId("prompt").replaceChildren("This picture cannot be shown; it was sent all the same.");
  image.src = URL.createObjectURL(picture);
  image.alt = name;
}

const camera = new Camera(
  () => {
    sender.cancel();
    complain(null);
    pressSample(null);
    shown = null;
    frames = [];
    forget("Looking…");
    byId("picture").hidden = byId("prompt").hidden = true;
    sender.push(frame);
  },
  () => {
    sender.cancel();
    idle();
  },
  complain,
);

listen(take, complain);
connection.onBack(() => {
  if (camera.stream) sender.push(frame);
  else if (shown) sender.push(still);
});
idle();
