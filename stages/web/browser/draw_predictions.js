// Draw predictions over images, as in stages/tasks/overlays.py; lines and points are drawn at the displayed size.

import { forRuns } from "./connected_components.js";

const SMALLEST_SHOWN = 448,
  LARGEST_SHOWN = 1600; // pixels of the longer side
const MASK_ALPHA = 90; // opacity of a mask, of 255
const PERCENTILES = [0.1, 99.9];
const MAX_NAMED = 8; // largest number of points that are labelled with their names

// Return blobs {image, over, restored, file}: the image, its overlay, the restored image and the file to save, or null.
export async function drawn(picture, prediction, spec, palette) {
  const scale = shownScale(picture);
  const image = await shown(canvasOf(picture), scale, "image/jpeg");
  if (prediction.restored) {
    const restored = canvasOf(restoredPicture(prediction, picture, spec.depth));
    const saved = spec.depth === 16 ? canvasOf(restoredPicture(prediction, picture, 8)) : restored;
    return {
      image,
      over: null,
      restored: await shown(restored, scale, "image/jpeg"),
      file: await fileOf(saved, prediction),
    };
  }
  const paint = { landmarks: paintPoints, segmentation: paintMask, instances: paintInstances }[spec.task];
  if (!paint) return { image, over: null, restored: null, file: null };
  const over = new OffscreenCanvas(...sizeOf(picture, scale));
  paint(over.getContext("2d"), scale, picture, prediction, spec, palette);
  const file = prediction.index ? await asFile(prediction.index, picture, spec) : null;
  return { image, over: await over.convertToBlob({ type: "image/png" }), restored: null, file };
}

function shownScale({ width, height }) {
  const longer = Math.max(width, height);
  if (longer > LARGEST_SHOWN) return LARGEST_SHOWN / longer;
  return Math.max(1, Math.floor(SMALLEST_SHOWN / longer)); // integers, so that pixels stay square
}

function sizeOf({ width, height }, scale) {
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

// Convert a picture to a canvas: the first three of many channels; 16 bits stretched, as in stages/images/display.py.
function canvasOf({ height, width, channels, bits, values }) {
  const data = new ImageData(width, height);
  let level = (value) => value;
  if (bits === 16) {
    const [low, high] = displayRange(values, channels);
    level = (value) => Math.floor((255 * (Math.min(high, Math.max(low, value)) - low)) / (high - low));
  }
  for (let place = 0; place < width * height; place++) {
    for (let c = 0; c < 3; c++) data.data[4 * place + c] = level(values[place * channels + (channels < 3 ? 0 : c)]);
    data.data[4 * place + 3] = 255;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

// Return the levels that are drawn black and white: two percentiles of the drawn channels, or else the extremes.
export function displayRange(values, channels) {
  const counts = new Uint32Array(65536),
    used = channels < 3 ? 1 : 3;
  for (let place = 0; place < values.length; place += channels) {
    for (let c = 0; c < used; c++) counts[values[place + c]]++;
  }
  const total = (values.length / channels) * used;
  const reached = (share) => {
    let sum = 0;
    return counts.findIndex((count) => (sum += count) > (share / 100) * total);
  };
  const [low, high] = PERCENTILES.map(reached);
  if (low < high) return [low, high];
  const lowest = counts.findIndex(Boolean),
    highest = counts.findLastIndex(Boolean);
  return lowest < highest ? [lowest, highest] : [0, 65535];
}

async function shown(canvas, scale, type) {
  const out = new OffscreenCanvas(...sizeOf(canvas, scale)),
    context = out.getContext("2d");
  context.imageSmoothingEnabled = scale < 1;
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, out.width, out.height);
  return out.convertToBlob(scale > 1 ? { type: "image/png" } : { type, quality: 0.92 });
}

// Convert a predicted image to integer levels, rounded and clipped like numpy.
function restoredPicture({ restored, dims }, { height, width }, bits) {
  const white = bits === 16 ? 65535 : 255,
    values = bits === 16 ? new Uint16Array(restored.length) : new Uint8ClampedArray(restored.length);
  for (let i = 0; i < values.length; i++) {
    const level = Math.fround(restored[i] * white);
    values[i] = bits === 16 ? Math.min(white, Math.max(0, Math.round(level))) : level;
  }
  return { height, width, channels: dims[2], bits, values };
}

// The restored image at its own size for saving, unless a canvas PNG cannot store it.
async function fileOf(canvas, { dims }) {
  return [1, 3].includes(dims[2]) ? canvas.convertToBlob({ type: "image/png" }) : null;
}

// Class values as grey levels, as `predict --files` writes them; null if they do not fit 8 bits.
async function asFile(index, { height, width }, spec) {
  const classValues = valuesOfClasses(spec);
  if (Math.max(...classValues) > 255) return null;
  const values = Uint8Array.from(index, (k) => classValues[k]);
  return canvasOf({ height, width, channels: 1, bits: 8, values }).convertToBlob({ type: "image/png" });
}

// Value of each class in a saved mask: that of the source if it is known, otherwise its index.
export function valuesOfClasses({ labels, mask_values: values }) {
  return values?.length ? values : labels.map((_, k) => k);
}

function colourOf(palette, i) {
  return palette[i % palette.length];
}

function paintMask(context, scale, { height, width }, { index }, { labels }, palette) {
  const veil = new ImageData(width, height);
  coloursOfClasses(labels).forEach((colour, k) => {
    if (colour === null) return;
    fillMask(veil, (place) => index[place] === k, [0, 0, width, height], colourOf(palette, colour), scale);
  });
  lay(context, veil);
}

// Colour index per class; null for "background", or for the first class if there is none.
export function coloursOfClasses(labels) {
  const bare = Math.max(0, labels.indexOf("background"));
  let next = 0;
  return labels.map((_, k) => (k === bare ? null : next++));
}

function paintInstances(context, scale, { height, width }, { instances }, { labels }, palette) {
  const sure = instances.filter((instance) => instance.sure),
    veil = new ImageData(width, height);
  const colour = (instance, number) => colourOf(palette, labels.length > 1 ? instance.label : number);
  sure.forEach((instance, number) => {
    if (!instance.runs) return;
    const mask = new Uint8Array(height * width),
      box = [width, height, 0, 0];
    forRuns(instance.runs, height, width, (place) => {
      const x = place % width,
        y = (place - x) / width;
      mask[place] = 1;
      box.splice(0, 4, Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x + 1), Math.max(box[3], y + 1));
    });
    fillMask(veil, (place) => mask[place] === 1, box, colour(instance, number), scale);
  });
  lay(context, veil);
  sure.forEach((instance, number) => {
    if (instance.runs) return;
    const [x0, y0, x1, y1] = instance.box.map((value) => value * scale);
    strokeOutlined(context, colour(instance, number), () => context.strokeRect(x0, y0, x1 - x0, y1 - y0));
  });
}

// Draw a translucent mask with an outline of about two displayed pixels.
function fillMask(image, inside, [left, top, right, bottom], colour, scale) {
  const { width, height } = image,
    line = Math.max(1, Math.round(2 / scale));
  const within = (x, y) => x < 0 || y < 0 || x >= width || y >= height || inside(y * width + x);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const place = y * width + x;
      if (!inside(place)) continue;
      const inner = within(x - line, y) && within(x + line, y) && within(x, y - line) && within(x, y + line);
      image.data.set([...colour, inner ? MASK_ALPHA : 255], 4 * place);
    }
  }
}

function lay(context, image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = context.canvas.width < image.width;
  context.drawImage(canvas, 0, 0, context.canvas.width, context.canvas.height);
}

// Draw a coloured line with a dark border, visible on every background.
function strokeOutlined(context, colour, stroke) {
  for (const [style, wide] of [
    ["rgb(0 0 0 / 55%)", 5],
    [`rgb(${colour})`, 2.5],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = wide;
    stroke();
  }
}

// Draw a ring and a dot for each visible point; integer coordinates are pixel centres.
function paintPoints(context, scale, picture, { points }, spec, palette) {
  const radius = Math.max(6, Math.max(context.canvas.width, context.canvas.height) / 90);
  const taken = [];
  points.forEach(({ name, x, y, seen }, i) => {
    if (!seen) return;
    const colour = colourOf(palette, i),
      cx = (x + 0.5) * scale,
      cy = (y + 0.5) * scale;
    strokeOutlined(context, colour, () => {
      context.beginPath();
      context.arc(cx, cy, radius, 0, 2 * Math.PI);
      context.stroke();
    });
    context.fillStyle = `rgb(${colour})`;
    context.beginPath();
    context.arc(cx, cy, 2, 0, 2 * Math.PI);
    context.fill();
    if (points.length <= MAX_NAMED) written(context, name, cx, cy, radius, taken);
  });
}

// Draw a name next to a point, on the side with more space; omit it if it would cover another name.
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
