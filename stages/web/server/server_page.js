// Sends images to the server of this page and shows its predictions.
"use strict";

const at = (id) => document.getElementById(id);
const TOP = 8; // rows of a table before "and n more"
const SMALL = 352; // pixels; smaller images are enlarged without smoothing

function element(tag, text = "", kind = "") {
  const one = document.createElement(tag);
  one.textContent = text;
  if (kind) one.className = kind;
  return one;
}

function headers() {
  const key = at("key").value;
  return key ? { "X-API-Key": key } : {};
}

async function fetchJson(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  at("lock").hidden = response.status !== 401 && !at("key").value;
  const result = await response.json().catch(() => ({ error: `the server returned status ${response.status}` }));
  if (!response.ok) throw new Error(result.error);
  return result;
}

const figure = (value) => (value === null || value === undefined ? "undefined" : Number(value).toPrecision(3));

let model = null;

async function showModel() {
  try {
    model = await fetchJson("v1/model");
    at("name").textContent = `${model.name}: ${model.task}`;
    document.title = `${model.name} · Macula`;
    const scores = Object.entries(model.scores ?? {}).slice(0, 1);
    const parts = scores.map(([name, s]) => `${name.replaceAll("_", " ")} ${figure(s.value)}${Number.isFinite(s.low) && Number.isFinite(s.high) ? ` [${figure(s.low)}, ${figure(s.high)}]` : ""} on validation images`);
    at("about").textContent = [...parts, `data ${model.version}`, `model ${model.digest}`].join(" · ");
  } catch (error) {
    at("about").textContent = error.message;
  }
}

function table(rows) {
  const body = element("table");
  for (const [name, value, share] of rows.slice(0, TOP)) {
    const row = body.insertRow();
    const head = element("th", name);
    if (model?.colours?.[name]) {
      const colour = element("i");
      colour.style.background = model.colours[name];
      head.prepend(colour);
    }
    row.append(head);
    row.append(element("td", value, "number"));
    if (share !== undefined) {
      const meter = element("meter");
      meter.value = share;
      meter.setAttribute("aria-label", `${name} ${value}`);
      row.insertCell().append(meter);
    }
  }
  if (rows.length > TOP) {
    const rest = element("td", `and ${rows.length - TOP} more`);
    rest.colSpan = 3;
    body.insertRow().append(rest);
  }
  return body;
}

const byValue = (shares) => Object.entries(shares).sort((a, b) => b[1] - a[1]).map(([name, p]) => [name, p.toFixed(3), p]);
const percent = (share) => `${(100 * share).toFixed(1)}%`;

// By task: the prediction in one line, and the rows of a table.
const SUMMARIES = {
  classification: (a) => [`${a.label}, ${percent(a.confidence)}`, byValue(a.probabilities)],
  ordinal: (a) => [a.label, Object.entries(a.probabilities).map(([name, p]) => [name, p.toFixed(3), p])],
  multilabel: (a) => [a.labels.join(", ") || "none of the classes", byValue(a.probabilities)],
  regression: (a, units) => ["", Object.entries(a).map(([name, v]) => [name, `${Number(v.toPrecision(4))} ${units[name] ?? ""}`])],
  landmarks: (a) => ["", Object.entries(a).map(([name, p]) => [name, `${p.x.toFixed(1)}, ${p.y.toFixed(1)}`, p.confidence])],
  segmentation: (a) => ["", Object.entries(a).map(([name, share]) => [name, percent(share), share])],
  instances: (a) => [Object.entries(a.counts).map(([name, n]) => `${n} ${name}`).join(", "), a.things.map((t) => [t.label, t.score.toFixed(2), t.score])],
  image: () => ["Input and prediction", []],
};

function picture(source, result, words) {
  const image = element("img");
  image.src = source;
  image.alt = words;
  if (Math.max(result.width, result.height) <= SMALL) image.className = "small";
  return image;
}

// The image that was sent, if the browser can show it.
function own(file, result) {
  const address = URL.createObjectURL(file);
  const image = picture(address, result, `${file.name}`);
  image.addEventListener("load", () => URL.revokeObjectURL(address));
  image.addEventListener("error", () => { URL.revokeObjectURL(address); image.remove(); });
  return image;
}

function show(place, file, result, milliseconds) {
  const [summary, rows] = SUMMARIES[result.task](result.answer, result.units ?? {});
  const seen = element("div");
  if (result.task === "image") seen.append(own(file, result));
  seen.append(picture(result.drawing, result, result.task === "image" ? "prediction" : `${file.name} with the prediction`));
  const words = element("div");
  words.append(element("h2", file.name));
  if (summary) words.append(element("p", summary, "prediction"));
  words.append(table(rows));
  words.append(element("p", `${result.width} × ${result.height} pixels, ${milliseconds.toFixed(0)} ms round trip`, "quiet small"));
  if (model?.depth === 16) words.append(element("p", "Drawn with the levels of its 16 bits stretched between two percentiles", "quiet small"));
  const details = element("details");
  details.append(element("summary", "As JSON"), element("pre", JSON.stringify(result.answer, null, 1)));
  words.append(details);
  place.replaceChildren(seen, words);
}

async function predict(file, place) {
  const started = performance.now();
  try {
    const result = await fetchJson("v1/predict?drawing=true", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    result.units = model?.units;
    show(place, file, result, performance.now() - started);
  } catch (error) {
    const words = element("div");
    words.append(element("h2", file.name), element("p", error.message, "error"));
    place.replaceChildren(element("div"), words);
  }
  place.classList.remove("waiting");
}

async function take(files) {
  for (const file of files) {
    const place = element("article", "", "waiting");
    place.append(element("div"), element("p", `${file.name} …`, "quiet"));
    at("predictions").prepend(place);
    await predict(file, place); // one after the other, to limit the load on the server
  }
}

at("files").addEventListener("change", (event) => { take([...event.target.files]); event.target.value = ""; });
at("key").addEventListener("change", showModel);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  });
}
showModel();
