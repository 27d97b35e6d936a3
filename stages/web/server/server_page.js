// Sends images to the server that gave this page, and shows what it answers.
"use strict";

const at = (id) => document.getElementById(id);
const TOP = 8; // rows of a table before "and n more"
const SMALL = 352; // pixels: up to here an image is enlarged pixel by pixel

function made(tag, text = "", kind = "") {
  const one = document.createElement(tag);
  one.textContent = text;
  if (kind) one.className = kind;
  return one;
}

function headers() {
  const key = at("key").value;
  return key ? { "X-API-Key": key } : {};
}

async function asked(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  at("lock").hidden = response.status !== 401 && !at("key").value;
  const told = await response.json().catch(() => ({ error: `the server answered ${response.status} without words` }));
  if (!response.ok) throw new Error(told.error);
  return told;
}

const figure = (value) => (value === null || value === undefined ? "undefined" : Number(value).toPrecision(3));

let model = null;

async function introduce() {
  try {
    model = await asked("v1/model");
    at("name").textContent = `${model.name}: ${model.task}`;
    document.title = `${model.name} · Macula`;
    const scores = Object.entries(model.scores ?? {}).slice(0, 1);
    const told = scores.map(([name, s]) => `${name.replaceAll("_", " ")} ${figure(s.value)} [${figure(s.low)}, ${figure(s.high)}] on validation images`);
    at("about").textContent = [...told, `data ${model.version}`, `model ${model.digest}`].join(" · ");
  } catch (error) {
    at("about").textContent = error.message;
  }
}

function table(rows) {
  const body = made("table");
  for (const [name, value, share] of rows.slice(0, TOP)) {
    const row = body.insertRow();
    const head = made("th", name);
    if (model?.colours?.[name]) {
      const colour = made("i");
      colour.style.background = model.colours[name];
      head.prepend(colour);
    }
    row.append(head);
    row.append(made("td", value, "number"));
    if (share !== undefined) {
      const meter = made("meter");
      meter.value = share;
      meter.setAttribute("aria-label", `${name} ${value}`);
      row.insertCell().append(meter);
    }
  }
  if (rows.length > TOP) {
    const rest = made("td", `and ${rows.length - TOP} more`);
    rest.colSpan = 3;
    body.insertRow().append(rest);
  }
  return body;
}

const byValue = (shares) => Object.entries(shares).sort((a, b) => b[1] - a[1]).map(([name, p]) => [name, p.toFixed(3), p]);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

// Each task: what it says in one line, and the rows of a table.
const SAYS = {
  classification: (a) => [`${a.label}, ${percent(a.confidence)}`, byValue(a.probabilities)],
  ordinal: (a) => [a.label, Object.entries(a.probabilities).map(([name, p]) => [name, p.toFixed(3), p])],
  multilabel: (a) => [a.labels.join(", ") || "none of the classes", byValue(a.probabilities)],
  regression: (a, units) => ["", Object.entries(a).map(([name, v]) => [name, `${Number(v.toPrecision(4))} ${units[name] ?? ""}`])],
  landmarks: (a) => ["", Object.entries(a).map(([name, p]) => [name, `${p.x.toFixed(1)}, ${p.y.toFixed(1)}`, p.confidence])],
  segmentation: (a) => ["", Object.entries(a).map(([name, share]) => [name, percent(share), share])],
  instances: (a) => [Object.entries(a.counts).map(([name, n]) => `${n} ${name}`).join(", "), a.things.map((t) => [t.label, t.score.toFixed(2), t.score])],
  image: () => ["As sent, and as answered", []],
};

function picture(source, told, words) {
  const image = made("img");
  image.src = source;
  image.alt = words;
  if (Math.max(told.width, told.height) <= SMALL) image.className = "small";
  return image;
}

// What was sent, where the browser can show it.
function own(file, told) {
  const address = URL.createObjectURL(file);
  const image = picture(address, told, `${file.name} as it was sent`);
  image.addEventListener("load", () => URL.revokeObjectURL(address));
  image.addEventListener("error", () => { URL.revokeObjectURL(address); image.remove(); });
  return image;
}

function show(place, file, told, milliseconds) {
  const [said, rows] = SAYS[told.task](told.answer, told.units ?? {});
  const seen = made("div");
  if (told.task === "image") seen.append(own(file, told));
  seen.append(picture(told.drawing, told, told.task === "image" ? "the answer" : `${file.name} with the answer drawn over it`));
  const words = made("div");
  words.append(made("h2", file.name));
  if (said) words.append(made("p", said, "said"));
  words.append(table(rows));
  words.append(made("p", `${told.width} × ${told.height} pixels, ${milliseconds.toFixed(0)} ms with the way there and back`, "quiet small"));
  const details = made("details");
  details.append(made("summary", "As JSON"), made("pre", JSON.stringify(told.answer, null, 1)));
  words.append(details);
  place.replaceChildren(seen, words);
}

async function answer(file, place) {
  const started = performance.now();
  try {
    const told = await asked("v1/answer?drawing=true", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    told.units = model?.units;
    show(place, file, told, performance.now() - started);
  } catch (error) {
    const words = made("div");
    words.append(made("h2", file.name), made("p", error.message, "error"));
    place.replaceChildren(made("div"), words);
  }
  place.classList.remove("waiting");
}

async function take(files) {
  for (const file of files) {
    const place = made("article", "", "waiting");
    place.append(made("div"), made("p", `${file.name} …`, "quiet"));
    at("answers").prepend(place);
    await answer(file, place); // one after the other: a page is no load test
  }
}

at("files").addEventListener("change", (event) => { take([...event.target.files]); event.target.value = ""; });
at("key").addEventListener("change", introduce);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  });
}
introduce();
