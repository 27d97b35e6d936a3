// Main script of the page: passes files to the worker and shows the predictions. Nothing leaves the browser.

import { describeModel, describePrediction, element } from "./describe_predictions.js";
import { valuesOfClasses } from "./draw_predictions.js";

const place = new URL(".", import.meta.url);
const at = (id) => document.getElementById(id);
export const rows = []; // as `predict --format json` writes them
const STRETCHED = "Drawn with the levels of its 16 bits stretched between two percentiles";
const waiting = new Map(); // id: {card, name, row}
let about,
  ready = false;

// A worker created from a blob inherits the content security policy of this page; one from a file would not.
const code = new Blob([`import ${JSON.stringify(new URL("worker.js", place).href)};`], { type: "text/javascript" });
const worker = new Worker(URL.createObjectURL(code), { type: "module" });
worker.onerror = (event) =>
  broken(event.message || "the worker could not be started; a browser from 2023 or later is required");
worker.onmessage = ({ data }) => handleMessage(data);

start().catch((error) => broken(error.message));

async function start() {
  at("unserved").remove();
  const response = await fetch(new URL("about.json", place), { cache: "no-cache" });
  if (!response.ok)
    throw new Error(`about.json could not be fetched: ${response.status} ${response.statusText}`.trim());
  about = await response.json();
  document.title = `${about.model.name ?? about.model.task}, in the browser`;
  at("name").textContent = about.model.name ?? about.model.task;
  at("about").append(...describeModel(about).filter(Boolean));
  at("served").hidden = false;
  worker.postMessage({ open: { about, place: place.href } });
}

function handleMessage(data) {
  if (data.got !== undefined) loading(data.got);
  else if (data.ready !== undefined) loaded();
  else if (data.broken !== undefined) broken(data.broken);
  else showPrediction(data);
}

function loading(got) {
  const share = Math.min(1, got / about.bytes),
    mb = (bytes) => (bytes / 1e6).toFixed(0);
  at("progress").value = share;
  at("state").textContent = share < 1 ? `Loading the model: ${mb(got)} of ${mb(about.bytes)} MB` : "Opening the model";
}

function loaded() {
  ready = true;
  at("progress").hidden = true;
  updateStatus();
}

function broken(why) {
  at("progress").hidden = true;
  at("state").textContent = `This page cannot predict: ${why}`;
  at("state").className = "bad";
  for (const { card } of waiting.values()) fail(card, "the model could not be opened");
}

function updateStatus() {
  const done = rows.filter((row) => row.done).length;
  if (ready)
    at("state").textContent = done < rows.length ? `${done} of ${rows.length} processed` : rows.length ? "" : "Ready";
  at("tools").hidden = !done;
}

function take(files) {
  for (const file of files) {
    const id = rows.length,
      row = { path: file.name, done: false };
    const card = element(
      "article.answer",
      { "data-id": id },
      element("div.picture"),
      element(
        "div.says",
        {},
        element("h3", {}, file.name),
        element("div.body", {}, element("p.quiet.waiting", {}, "Waiting")),
      ),
    );
    at("answers").prepend(card);
    rows.push(row);
    waiting.set(id, { card, row });
    worker.postMessage({ id, file });
  }
  updateStatus();
}

function showPrediction({ id, error, record, words, drawing, size, milliseconds }) {
  const { card, row } = waiting.get(id);
  waiting.delete(id);
  row.done = true;
  if (error === undefined) {
    Object.assign(row, { record, milliseconds, size, file: drawing.file });
    card.querySelector(".picture").append(...pictureOf(drawing, row.path, size));
    card
      .querySelector(".body")
      .replaceChildren(
        ...describePrediction(record, words, about.model, about.rules.palette).filter(Boolean),
        timeIn(size, milliseconds),
        about.model.depth === 16 ? element("p.small.quiet", {}, STRETCHED) : "",
        saving(drawing.file, row.path),
      );
  } else {
    row.error = error;
    fail(card, error);
  }
  updateStatus();
}

// Show the reason why a file was not predicted; reasons that begin with a verb describe the file.
function fail(card, why) {
  const reason = /^(is|has|contains|could) /.test(why) ? `the file ${why}` : why;
  card.classList.add("failed");
  card.querySelector(".body").replaceChildren(element("p.bad", {}, `Not predicted: ${reason}`));
}

// The image with its overlay; for a predicted image, both images with a slider between them.
function pictureOf({ image, over, restored }, name, { width, height }) {
  const shown = (blob, kind, alt) => {
    const made = element(kind, { alt, width, height, src: URL.createObjectURL(blob) });
    made.addEventListener("load", () => URL.revokeObjectURL(made.src), { once: true });
    return made;
  };
  if (!restored)
    return [shown(image, "img", name), over ? shown(over, "img.over", `prediction drawn over ${name}`) : ""];
  const above = shown(restored, "img.over", `${name}, predicted image`),
    slider = element("input", {
      type: "range",
      min: 0,
      max: 100,
      value: 50,
      "aria-label": "from the original to the predicted image",
    });
  const move = () => above.style.setProperty("--from", `${slider.value}%`);
  slider.addEventListener("input", move);
  move();
  return [
    shown(image, "img", `${name}, original`),
    above,
    element("span.left", {}, "original"),
    element("span.right", {}, "predicted"),
    slider,
  ];
}

function timeIn({ width, height }, { read, answer }) {
  return element(
    "p.small.quiet",
    {},
    `${width} × ${height} px; predicted in ${answer.toFixed(0)} ms, decoded in ${read.toFixed(0)} ms`,
  );
}

function saving(file, name) {
  if (!file) return "";
  const button = element(
    "button",
    { type: "button" },
    about.model.task === "image" ? "Save the image" : "Save the mask",
  );
  const values = about.model.task === "segmentation" ? valuesOfClasses(about.model) : [];
  const legend = values.map((value, k) => `${value} ${about.model.labels[k]}`).join(", ");
  button.addEventListener("click", () => save(file, `${name.replace(/\.[^.]*$/, "")}.png`));
  return element("p", {}, button, legend ? element("span.small.quiet", {}, ` Pixel values: ${legend}`) : "");
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

at("save").addEventListener("click", () => {
  const lines = rows
    .filter((row) => row.done)
    .map(({ path, record, error }) => JSON.stringify({ path, ...record, error: error ?? "" }));
  save(new Blob([`[\n${lines.join(",\n")}\n]\n`], { type: "application/json" }), "predictions.json");
});
at("drawn").addEventListener("change", ({ target }) => document.body.classList.toggle("bare", !target.checked));
at("files").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
}
