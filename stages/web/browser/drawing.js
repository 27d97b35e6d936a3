// Answers drawn over their images, as in stages/tasks/overlays.py; lines and points at the size that is shown.

import { forRuns } from "./pieces.js";

const SMALLEST_SHOWN = 448,
  LARGEST_SHOWN = 1600; // pixels of the longer side
const VEIL = 90; // of 255: how much a mask covers
const MOST_NAMED = 8; // points whose names are written beside them

// The image as a blob, and the answer over it as another: {image, over, restored, file}, null where there is none.
export async function drawn(picture, answer, outline, palette) {
  const scale = shownScale(picture);
  const image = await shown(canvasOf(picture), scale, "image/jpeg");
  if (answer.restored) {
    const restored = canvasOf(restoredPicture(answer, picture, outline));
    return {
      image,
      over: null,
      restored: await shown(restored, scale, "image/jpeg"),
      file: await fileOf(restored, answer),
    };
  }
  const paint = { landmarks: paintPoints, segmentation: paintMask, instances: paintThings }[outline.task];
  if (!paint) return { image, over: null, restored: null, file: null };
  const over = new OffscreenCanvas(...sizeOf(picture, scale));
  paint(over.getContext("2d"), scale, picture, answer, outline, palette);
  const file = answer.index ? await asFile(answer.index, picture) : null;
  return { image, over: await over.convertToBlob({ type: "image/png" }), restored: null, file };
}

function shownScale({ width, height }) {
  const longer = Math.max(width, height);
  if (longer > LARGEST_SHOWN) return LARGEST_SHOWN / longer;
  return Math.max(1, Math.floor(SMALLEST_SHOWN / longer)); // whole numbers, so that pixels stay square
}

function sizeOf({ width, height }, scale) {
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

// A picture as a canvas: of 16 bits the upper 8, of many channels the first three.
function canvasOf({ height, width, channels, bits, values }) {
  const data = new ImageData(width, height),
    level = bits === 16 ? (value) => value / 257 : (value) => value;
  for (let place = 0; place < width * height; place++) {
    for (let c = 0; c < 3; c++) data.data[4 * place + c] = level(values[place * channels + (channels < 3 ? 0 : c)]);
    data.data[4 * place + 3] = 255;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

async function shown(canvas, scale, type) {
  const out = new OffscreenCanvas(...sizeOf(canvas, scale)),
    context = out.getContext("2d");
  context.imageSmoothingEnabled = scale < 1;
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, out.width, out.height);
  return out.convertToBlob(scale > 1 ? { type: "image/png" } : { type, quality: 0.92 });
}

// An answered image as whole grey levels; ImageData rounds and clips as numpy does.
function restoredPicture({ restored, dims }, { height, width }) {
  const values = new Uint8ClampedArray(restored.length);
  for (let i = 0; i < values.length; i++) values[i] = Math.fround(restored[i] * 255);
  return { height, width, channels: dims[2], bits: 8, values };
}

// The restored image at its own size, to be saved; not where a PNG of a canvas cannot hold it.
async function fileOf(canvas, { dims }) {
  return [1, 3].includes(dims[2]) ? canvas.convertToBlob({ type: "image/png" }) : null;
}

// Indices of classes as grey levels, as `predict --files` writes them.
async function asFile(index, { height, width }) {
  return canvasOf({ height, width, channels: 1, bits: 8, values: index }).convertToBlob({ type: "image/png" });
}

function colourOf(palette, i) {
  return palette[i % palette.length];
}

function paintMask(context, scale, { height, width }, { index }, { labels }, palette) {
  const veil = new ImageData(width, height);
  coloursOfClasses(labels).forEach((colour, k) => {
    if (colour === null) return;
    veiled(veil, (place) => index[place] === k, [0, 0, width, height], colourOf(palette, colour), scale);
  });
  lay(context, veil);
}

// Of each class the number of its colour; null of the background, or of the first class where none is called so.
export function coloursOfClasses(labels) {
  const bare = Math.max(0, labels.indexOf("background"));
  let next = 0;
  return labels.map((_, k) => (k === bare ? null : next++));
}

function paintThings(context, scale, { height, width }, { things }, { labels }, palette) {
  const sure = things.filter((thing) => thing.sure),
    veil = new ImageData(width, height);
  const colour = (thing, number) => colourOf(palette, labels.length > 1 ? thing.label : number);
  sure.forEach((thing, number) => {
    if (!thing.runs) return;
    const mask = new Uint8Array(height * width),
      box = [width, height, 0, 0];
    forRuns(thing.runs, height, width, (place) => {
      const x = place % width,
        y = (place - x) / width;
      mask[place] = 1;
      box.splice(0, 4, Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x + 1), Math.max(box[3], y + 1));
    });
    veiled(veil, (place) => mask[place] === 1, box, colour(thing, number), scale);
  });
  lay(context, veil);
  sure.forEach((thing, number) => {
    if (thing.runs) return;
    const [x0, y0, x1, y1] = thing.box.map((value) => value * scale);
    stroked(context, colour(thing, number), () => context.strokeRect(x0, y0, x1 - x0, y1 - y0));
  });
}

// A veil over a mask and a line along its edge, about two shown pixels wide.
function veiled(image, inside, [left, top, right, bottom], colour, scale) {
  const { width, height } = image,
    line = Math.max(1, Math.round(2 / scale));
  const within = (x, y) => x < 0 || y < 0 || x >= width || y >= height || inside(y * width + x);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const place = y * width + x;
      if (!inside(place)) continue;
      const inner = within(x - line, y) && within(x + line, y) && within(x, y - line) && within(x, y + line);
      image.data.set([...colour, inner ? VEIL : 255], 4 * place);
    }
  }
}

function lay(context, image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = context.canvas.width < image.width;
  context.drawImage(canvas, 0, 0, context.canvas.width, context.canvas.height);
}

// A line in a colour with a dark rim, so that it is seen on every ground.
function stroked(context, colour, stroke) {
  for (const [style, wide] of [
    ["rgb(0 0 0 / 55%)", 5],
    [`rgb(${colour})`, 2.5],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = wide;
    stroke();
  }
}

// A ring and a dot for each point that is seen; whole numbers are centres of pixels.
function paintPoints(context, scale, picture, { points }, outline, palette) {
  const radius = Math.max(6, Math.max(context.canvas.width, context.canvas.height) / 90);
  const taken = [];
  points.forEach(({ name, x, y, seen }, i) => {
    if (!seen) return;
    const colour = colourOf(palette, i),
      cx = (x + 0.5) * scale,
      cy = (y + 0.5) * scale;
    stroked(context, colour, () => {
      context.beginPath();
      context.arc(cx, cy, radius, 0, 2 * Math.PI);
      context.stroke();
    });
    context.fillStyle = `rgb(${colour})`;
    context.beginPath();
    context.arc(cx, cy, 2, 0, 2 * Math.PI);
    context.fill();
    if (points.length <= MOST_NAMED) written(context, name, cx, cy, radius, taken);
  });
}

// A name beside a point, on the side that has room; left out where it would cover another name.
function written(context, name, x, y, radius, taken) {
  const height = Math.round(Math.max(13, radius * 1.6));
  context.font = `600 ${height}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const { width } = context.measureText(name);
  const right = x + radius + 5 + width < context.canvas.width;
  context.textAlign = right ? "left" : "right";
  const at = x + (right ? 1 : -1) * (radius + 5);
  const left = right ? at : at - width;
  if (taken.some((box) => left < box.right && box.left < left + width && Math.abs(y - box.y) < height)) return;
  taken.push({ left, right: left + width, y });
  context.lineWidth = 4;
  context.lineJoin = "round";
  context.strokeStyle = "rgb(0 0 0 / 70%)";
  context.strokeText(name, at, y);
  context.fillStyle = "white";
  context.fillText(name, at, y);
}
