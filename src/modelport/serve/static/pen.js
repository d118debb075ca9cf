// A sheet to draw on: strokes as data, shown sharp on any screen, exported as one small picture.
// Mouse, touch and pen through pointer events; arrow keys and space for the keyboard.

export const SIDE = 280; // of the exported picture, in pixels; strokes are kept in these units
const WIDTH = 20; // of a stroke: about what handwriting has after scaling to 20 x 20
const INK = "#111";
const PAPER = "#fff";
const STEP = 14;
const SMALL_STEP = 4;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Draws on `canvas`; `changed()` is called after every change of what is on the sheet. */
export class Pen {
  constructor(canvas, nib, changed) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.nib = nib;
    this.changed = changed;
    this.strokes = [];
    this.picture = null; // an ImageBitmap shown instead of strokes
    this.cleared = null; // what the last clear took away, for undo
    this.pointer = null;
    this.cursor = { x: SIDE / 2, y: SIDE / 4 };
    this.keyStroke = null;
    this.held = new Set();
    this.listen();
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  get empty() {
    return !this.strokes.length && !this.picture;
  }

  clear() {
    if (this.strokes.length) this.cleared = this.strokes;
    this.blank();
    this.changed();
  }

  /** Take back the last stroke, the picture, or the last clear. */
  undo() {
    this.keyStroke = this.pointer = null;
    if (this.picture) this.blank();
    else if (this.strokes.length) this.strokes.pop();
    else if (this.cleared) [this.strokes, this.cleared] = [this.cleared, null];
    else return;
    this.redraw();
    this.changed();
  }

  get canUndo() {
    return !this.empty || this.cleared !== null;
  }

  /** Show a picture in place of strokes; the caller sends it, so nothing is called. */
  show(bitmap) {
    this.blank();
    this.picture = bitmap;
    this.redraw();
  }

  /** What is drawn, as a PNG of 280 x 280 pixels: dark ink on white. */
  png() {
    const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
    this.paint(canvas.getContext("2d"), 1);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  blank() {
    this.strokes = [];
    this.picture?.close();
    this.picture = this.pointer = this.keyStroke = null;
    this.showNib();
    this.redraw();
  }

  redraw() {
    const side = Math.max(1, Math.round(this.canvas.clientWidth * devicePixelRatio));
    if (this.canvas.width !== side || this.canvas.height !== side) this.canvas.width = this.canvas.height = side;
    this.paint(this.context, side / SIDE);
  }

  paint(context, scale) {
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.fillStyle = PAPER;
    context.fillRect(0, 0, SIDE, SIDE);
    if (this.picture) {
      const { width, height } = this.picture;
      const fit = SIDE / Math.max(width, height);
      context.drawImage(this.picture, (SIDE - width * fit) / 2, (SIDE - height * fit) / 2, width * fit, height * fit);
    }
    for (const stroke of this.strokes) drawStroke(context, stroke, 0);
  }

  begin(point) {
    if (this.picture) this.blank();
    this.cleared = null;
    const stroke = [point];
    this.strokes.push(stroke);
    drawStroke(this.context, stroke, 0);
    this.changed();
    return stroke;
  }

  extend(stroke, points) {
    const from = stroke.length;
    for (const point of points) {
      const last = stroke.at(-1);
      if (Math.hypot(point.x - last.x, point.y - last.y) >= 0.5) stroke.push(point);
    }
    if (stroke.length === from) return;
    drawStroke(this.context, stroke, from);
    this.changed();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.pointer) return;
      event.preventDefault();
      canvas.focus({ preventScroll: true, focusVisible: false });
      canvas.setPointerCapture(event.pointerId);
      this.liftKey();
      this.pointer = { id: event.pointerId, stroke: this.begin(this.point(event)) };
      this.showNib();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.pointer?.id !== event.pointerId) return;
      const events = event.getCoalescedEvents?.() ?? [];
      this.extend(this.pointer.stroke, (events.length ? events : [event]).map((one) => this.point(one)));
    });
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(type, (event) => {
        if (this.pointer?.id !== event.pointerId) return;
        this.pointer = null;
        this.redraw(); // the straight tails drawn on the way become one curve
        this.changed();
      });
    }
    canvas.addEventListener("keydown", (event) => this.keyDown(event));
    canvas.addEventListener("keyup", (event) => this.held.delete(event.key));
    canvas.addEventListener("focus", () => this.showNib());
    canvas.addEventListener("blur", () => {
      this.liftKey();
      this.held.clear();
      this.showNib();
    });
  }

  /** A pointer's place in the sheet's units; a pen that is pressed harder draws wider. */
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const pressure = event.pointerType === "pen" && event.pressure ? 0.6 + 0.8 * event.pressure : 1;
    return {
      x: ((event.clientX - box.left) * SIDE) / box.width,
      y: ((event.clientY - box.top) * SIDE) / box.height,
      width: WIDTH * pressure,
    };
  }

  keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      event.preventDefault();
      if (event.repeat) return;
      if (this.keyStroke) this.liftKey();
      else this.keyStroke = this.begin({ ...this.cursor, width: WIDTH });
      this.showNib();
    } else if (ARROWS[event.key]) {
      event.preventDefault();
      this.held.add(event.key);
      this.moveCursor(event.shiftKey ? SMALL_STEP : STEP);
    }
  }

  moveCursor(step) {
    let [x, y] = [this.cursor.x, this.cursor.y];
    for (const key of this.held) {
      x += ARROWS[key][0] * step;
      y += ARROWS[key][1] * step;
    }
    const clamp = (value) => Math.min(Math.max(value, WIDTH / 2), SIDE - WIDTH / 2);
    this.cursor = { x: clamp(x), y: clamp(y) };
    if (this.keyStroke) this.extend(this.keyStroke, [{ ...this.cursor, width: WIDTH }]);
    this.showNib();
  }

  liftKey() {
    if (!this.keyStroke) return;
    this.keyStroke = null;
    this.redraw();
  }

  /** The ring that shows where the keyboard's pen is. */
  showNib() {
    this.nib.hidden = !!this.pointer || !this.canvas.matches(":focus-visible");
    this.nib.classList.toggle("down", this.keyStroke !== null);
    this.nib.style.left = `${(this.cursor.x / SIDE) * 100}%`;
    this.nib.style.top = `${(this.cursor.y / SIDE) * 100}%`;
  }
}

/** Draw a stroke from its point `from` on: quadratic curves through the middles between points. */
function drawStroke(context, stroke, from) {
  context.strokeStyle = context.fillStyle = INK;
  context.lineCap = context.lineJoin = "round";
  if (stroke.length === 1) {
    const [{ x, y, width }] = stroke;
    context.beginPath();
    context.arc(x, y, width / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  for (let at = Math.max(1, from - 1); at < stroke.length; at += 1) {
    const [before, here, after] = [stroke[at - 1], stroke[at], stroke[at + 1]];
    const start = at === 1 ? before : middle(before, here);
    const end = after ? middle(here, after) : here;
    context.lineWidth = (before.width + here.width) / 2;
    context.beginPath();
    context.moveTo(start.x, start.y);
    context.quadraticCurveTo(here.x, here.y, end.x, end.y);
    context.stroke();
  }
}

function middle(a, b) {
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}
