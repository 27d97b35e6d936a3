// Works beside the page, which so stays awake: opens the model, then answers one file after the other.

import { drawn } from "./drawing.js";
import { Model } from "./model.js";
import { canvasIsHonest } from "./reading.js";

let begin;
const opened = new Promise((resolve) => {
  begin = resolve;
}).then(open); // files that come before wait for it
let queue = opened.catch(() => {});

opened.then(
  () => self.postMessage({ ready: true }),
  (error) => self.postMessage({ broken: said(error) }),
);

self.onmessage = ({ data }) => {
  if (data.open) begin(data.open);
  else queue = queue.then(() => answered(data));
};

async function open({ about, place }) {
  if (!canvasIsHonest()) {
    throw new Error(
      "this browser alters the pixels that a page reads from images, as a protection against tracking, so that " +
        "answers would be wrong; allow this page to read canvases, or use another browser",
    );
  }
  return { about, model: await Model.open(about, await fetched(new URL(`model.onnx?${about.digest}`, place))) };
}

function said(error) {
  return String(error.message ?? error);
}

// The bytes of a file, with word of how far it is.
async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} could not be fetched: ${response.status} ${response.statusText}`);
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

async function answered({ id, file }) {
  try {
    const { about, model } = await opened;
    const begun = performance.now();
    const picture = await model.decodeFile(await bytesOf(file));
    const read = performance.now();
    const { answer, record } = await model.answer(picture);
    const done = performance.now();
    const drawing = await drawn(picture, answer, about.model, about.rules.palette);
    const { width, height } = picture,
      { index, ...words } = answer;
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
    self.postMessage({ id, error: said(error) });
  }
}

async function bytesOf(file) {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Error("could not be read from the disk: is it a folder, or has it been moved?");
  }
}
