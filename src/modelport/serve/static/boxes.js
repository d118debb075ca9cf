// Boxes with labels, drawn on a canvas as `modelport predict --save` draws them: the same colour for the same class.

// media/palette.py has the same; a test compares them.
const PALETTE = [
  [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167],
  [0, 0, 255], [150, 255, 165], [135, 15, 15], [105, 105, 255], [105, 45, 90], [135, 255, 225], [60, 45, 165],
  [255, 0, 90], [90, 240, 255], [240, 165, 90], [105, 150, 255], [90, 210, 150], [45, 45, 210],
];

const LONGEST = 60; // characters of a label that are drawn

/** The colour of a class, as [red, green, blue]. */
export const colourOf = (index) => PALETTE[((index % PALETTE.length) + PALETTE.length) % PALETTE.length];

/** The same for style sheets. */
export const css = (colour) => `rgb(${colour.join(" ")})`;

/** Black or white, whichever stands out more on this colour (WCAG 2.2, 1.4.3). */
export function inkOn(colour) {
  const [red, green, blue] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) ? "#000" : "#fff";
}

/**
 * Draw `found`, best first, over the whole of `canvas`, whose picture is `size` = {width, height} pixels large.
 *
 * `stroke` and `letter` are the width of a line and the height of a letter in pixels of the canvas; `lit` is the
 * one that stands out, if any. Returns the rectangles that were drawn: [left, top, right, bottom] on the canvas.
 */
export function drawBoxes(canvas, found, size, { stroke, letter, lit = -1 }) {
  const context = canvas.getContext("2d");
  const [across, down] = [canvas.width / size.width, canvas.height / size.height];
  const boxes = found.map(({ box: [left, top, right, bottom] }) => [left * across, top * down, right * across, bottom * down].map(Math.round));
  context.font = `600 ${letter}px ${getComputedStyle(document.body).fontFamily}`;
  context.textBaseline = "middle";
  const places = labelPlaces(context, found, boxes, canvas, letter);
  // The best lie on top, and above them the one that stands out.
  const order = [...found.keys()].reverse().sort((a, b) => (a === lit) - (b === lit));
  for (const part of [edge, label]) {
    for (const index of order) {
      if (part === label && !places[index].free && index !== lit) continue;
      context.globalAlpha = lit < 0 || lit === index ? 1 : 0.3;
      part(context, colourOf(found[index].class), boxes[index], places[index], index === lit ? Math.round(stroke * 1.5) : stroke, index === lit);
    }
  }
  context.globalAlpha = 1;
  return boxes;
}

/** A rectangle with a dark rim on both sides, to be seen on its own colour too. */
function edge(context, colour, [left, top, right, bottom], place, stroke, lit) {
  // A line of odd width is crisp where its middle is in the middle of a pixel.
  const shift = (stroke % 2) / 2;
  const rectangle = [left + shift, top + shift, right - left, bottom - top];
  if (lit) {
    context.fillStyle = `rgb(${colour.join(" ")} / 14%)`;
    context.fillRect(...rectangle);
  }
  context.strokeStyle = "rgb(16 16 16 / 60%)";
  context.lineWidth = stroke + 2;
  context.strokeRect(...rectangle);
  context.strokeStyle = css(colour);
  context.lineWidth = stroke;
  context.strokeRect(...rectangle);
}

function label(context, colour, box, { text, left, top, width, height, margin }) {
  context.fillStyle = css(colour);
  context.fillRect(left, top, width, height);
  context.fillStyle = inkOn(colour);
  context.fillText(text, left + margin, top + height / 2, width - 2 * margin);
}

/**
 * Where each label goes: above its box, in it or below, away from the labels of better boxes. Where there is no such
 * place it is not `free`, and drawn only while its box stands out: labels on labels can be read by nobody.
 */
function labelPlaces(context, found, boxes, canvas, letter) {
  const taken = [];
  const height = Math.round(letter * 1.4);
  const margin = Math.round(letter * 0.35);
  return found.map(({ label: name, score }, index) => {
    const text = `${name.length > LONGEST ? `${name.slice(0, LONGEST)}…` : name} ${score.toFixed(2)}`;
    const width = Math.min(Math.ceil(context.measureText(text).width + 2 * margin), canvas.width);
    const [left, top, right, bottom] = boxes[index];
    const starts = [[left, top - height], [right - width, top - height], [left, top], [right - width, top], [left, bottom], [left, bottom - height]];
    const places = starts.map(([x, y]) => ({
      text,
      left: Math.max(0, Math.min(x, canvas.width - width)),
      top: Math.max(0, Math.min(y, canvas.height - height)),
      width,
      height,
      margin,
    }));
    const place = places.find((each) => !taken.some((other) => overlap(each, other)));
    if (place) taken.push(place);
    return { ...(place ?? places[0]), free: Boolean(place) };
  });
}

const overlap = (a, b) =>
  a.left < b.left + b.width && b.left < a.left + a.width && a.top < b.top + b.height && b.top < a.top + a.height;

/** Which of `found` lies under a point of the picture, the smallest of those that do; -1 for none. */
export function boxAt(found, x, y) {
  const area = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
  return found.reduce((best, each, index) => {
    const [left, top, right, bottom] = each.box;
    const inside = x >= left && x <= right && y >= top && y <= bottom;
    return inside && (best < 0 || area(each) < area(found[best])) ? index : best;
  }, -1);
}
