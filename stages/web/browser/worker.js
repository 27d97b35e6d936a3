// Web worker, so that the page stays responsive: opens the model, then predicts one file after the other.

import { drawn } from "./draw_predictions.js";
import { Model } from "./model.js";
import { canvasIsHonest } from "./decode_images.js";

let begin;
const opened = new Promise((resolve) => {
  begin = resolve;
}).then(open); // files that arrive earlier wait until the model is open
let queue = opened.catch(() => {});

opened.then(
  () => self.postMessage({ ready: true }),
  (error) => self.postMessage({ broken: messageOf(error) }),
);

self.onmessage = ({ data }) => {
  if (data.open) begin(data.open);
  else queue = queue.then(() => predictFile(data));
};

async function open({ about, place }) {
  if (!canvasIsHonest()) {
    throw new Error(
      "this browser alters the pixels that a page reads from images, to prevent tracking, so that predictions " +
        "would be wrong; allow this page to read canvases, or use another browser",
    );
  }
  return { about, model: await Model.open(about, await download(new URL(`model.onnx?${about.digest}`, place))) };
}

function messageOf(error) {
  return String(error.message ?? error);
}

// Download a file and report the progress.
async function download(url) {
  const response = await fetch(url);
  if (!response.ok)
    throw new Error(`${url.pathname} could not be downloaded: ${response.status} ${response.statusText}`.trim());
  const parts = [];
  let got = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    got += value.length;
    self.postMessage({ got });
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function predictFile({ id, file }) {
  try {
    const { about, model } = await opened;
    const begun = performance.now();
    const picture = await model.decodeFile(await bytesOf(file));
    const read = performance.now();
    const { prediction, record } = await model.predict(picture);
    const done = performance.now();
    const drawing = await drawn(picture, prediction, about.model, about.rules.palette);
    const { width, height } = picture,
      { index, ...words } = prediction;
    delete words.restored;
    self.postMessage({
      id,
      record,
      drawing,
      size: { width, height },
      words,
      milliseconds: { read: read - begun, answer: done - read },
    });
  } catch (error) {
    self.postMessage({ id, error: messageOf(error) });
  }
}

async function bytesOf(file) {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Error("could not be read; it may be a folder, or have been moved");
  }
}
