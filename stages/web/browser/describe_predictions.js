// Show predictions as text, numbers and bars.

import { foregroundClasses } from "./task_predictions.js";
import { coloursOfClasses } from "./draw_predictions.js";

const MOST_BARS = 10; // classes shown at once; the others are folded
const WORDS = { auc: "AUC", f1: "F1", iou: "IoU", psnr: "PSNR", ssim: "SSIM", pck: "PCK", r2: "R²" };

// Create an element from tag and classes ("p.small.quiet"), attributes and children (strings become text, never HTML).
export function element(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function words(key) {
  return WORDS[key] ?? key.replaceAll("_", " ");
}

// Format a number with four digits, as in the report.
export function figure(value) {
  if (!Number.isFinite(value)) return "–";
  return String(Number(value.toPrecision(4)));
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1%";
  return `${(100 * share).toFixed(share > 0.9995 || share === 0 ? 0 : 1)}%`;
}

// Elements that show the prediction next to its image.
export function describePrediction(record, prediction, spec, palette) {
  return {
    classification: describeClass,
    ordinal: describeGrade,
    multilabel: describeClasses,
    regression: describeNumbers,
    landmarks: describePoints,
    segmentation: describeShares,
    image: () => [element("p.said", {}, "Predicted image")],
    instances: describeCounts,
  }[spec.task](record, prediction, spec, palette);
}

function headline(text, more = "") {
  return element("p.said", {}, text, more ? element("span.quiet", {}, ` ${more}`) : null);
}

function describeClass(record, { probability }, { labels }) {
  return [headline(record.label, `probability ${percent(record.confidence)}`), bars(labels, probability, true)];
}

function describeGrade(record, { probability }, { labels }) {
  return [
    headline(`Grade ${record.label}`, `of ${labels.length}`),
    bars(labels, probability, false, (i) => labels[i] === record.label),
  ];
}

function describeClasses(record, { probability, there }, { labels }) {
  return [headline(record.labels.join(", ") || "None of the classes"), bars(labels, probability, true, (i) => there[i])];
}

// Bars of class probabilities; classes with `marked` are coloured, others pale.
function bars(labels, probability, sorted, marked = null) {
  const order = labels.map((_, i) => i);
  if (sorted) order.sort((a, b) => probability[b] - probability[a]);
  const list = (some) =>
    element(
      "ul.bars",
      {},
      some.map((i) => {
        const bar = element("i"),
          row = element(
            "li",
            {},
            element("span", {}, labels[i]),
            element("span.track", { "aria-hidden": "true" }, bar),
            element("span.num", {}, percent(probability[i])),
          );
        bar.style.setProperty("--share", Math.min(1, Math.max(0, probability[i])));
        row.classList.toggle("pale", marked !== null && !marked(i));
        return row;
      }),
    );
  if (!sorted || order.length <= MOST_BARS + 2) return list(order);
  const rest = order.slice(MOST_BARS);
  return element(
    "div",
    {},
    list(order.slice(0, MOST_BARS)),
    element("details", {}, element("summary", {}, `${rest.length} more classes`), list(rest)),
  );
}

function describeNumbers(record, prediction, { scalars, units }) {
  return [
    element(
      "dl.numbers",
      {},
      scalars.map((name) =>
        element(
          "div",
          {},
          element("dt", {}, name),
          element("dd", {}, figure(record[name]), units[name] ? element("span.small", {}, ` ${units[name]}`) : null),
        ),
      ),
    ),
  ];
}

function key(colour) {
  const made = element("span.key");
  made.style.setProperty("background", `rgb(${colour})`);
  return made;
}

function table(head, rows) {
  return element(
    "div.table",
    {},
    element(
      "table",
      {},
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          head.map((name, i) => element(i ? "th.num" : "th", { scope: "col" }, name)),
        ),
      ),
      element(
        "tbody",
        {},
        rows.map((cells) =>
          element(
            cells.pale ? "tr.pale" : "tr",
            {},
            cells.map((cell, i) => (i ? element("td.num", {}, cell) : element("th", { scope: "row" }, cell))),
          ),
        ),
      ),
    ),
  );
}

function describePoints(record, { points }, spec, palette) {
  const seen = points.filter((point) => point.seen).length;
  const rows = points.map(({ name, x, y, confidence, seen: there }, i) =>
    Object.assign([[key(palette[i % palette.length]), " ", name], x.toFixed(1), y.toFixed(1), percent(confidence)], {
      pale: !there,
    }),
  );
  return [headline(`${seen} of ${points.length} points`), table(["point", "x, px", "y, px", "confidence"], rows)];
}

function describeShares(record, prediction, { labels }, palette) {
  const colours = coloursOfClasses(labels);
  const keyOf = (name) => {
    const colour = colours[labels.indexOf(name)] ?? null; // a class that is only part of combinations has no colour
    return colour === null ? element("span.key.bare") : key(palette[colour % palette.length]);
  };
  const rows = foregroundClasses(labels).map((name) => [[keyOf(name), " ", name], percent(record[name])]);
  return [table(["class", "share of the image"], rows)];
}

function describeCounts(record, { instances }, { labels }, palette) {
  const sure = instances.filter((instance) => instance.sure).length,
    unsure = instances.length - sure;
  const rows = labels.map((label, k) => [
    labels.length > 1 ? [key(palette[k % palette.length]), " ", label] : label,
    String(record.counts[label]),
  ]);
  return [
    headline(sure === 1 ? "1 instance" : `${sure} instances`),
    table(["class", "number"], rows),
    unsure
      ? element(
          "p.small.quiet",
          {},
          `and ${unsure} with a score below 0.5, which ${unsure === 1 ? "is" : "are"} neither counted nor drawn`,
        )
      : null,
  ];
}

// Key figures of the model for the top of the page.
export function describeModel({ model, score, bytes, runtime, card }) {
  const what = {
    classification: ["class", "classes", model.labels],
    multilabel: ["class", "classes, any number of them per image", model.labels],
    ordinal: ["grade", "grades", model.labels],
    regression: ["number", "numbers", model.scalars],
    landmarks: ["point", "points", model.points],
    segmentation: ["class", "classes", model.labels],
    instances: ["class", "classes", model.labels],
  }[model.task];
  const cell = (name, value, small) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, element("div.small", {}, small)));
  return [
    element(
      "dl.figures",
      {},
      cell("task", model.task, `as ${model.representation}, ${model.size} px, ${model.fit}`),
      score
        ? cell(words(score.name), figure(score.value) + (score.unit ? ` ${score.unit}` : ""), describeInterval(score))
        : null,
      cell("model", `${(bytes / 1e6).toFixed(0)} MB`, `version ${model.version}, onnxruntime-web ${runtime}`),
      cell("data", model.name ?? "–", `version ${model.data_version ?? model.version}`),
    ),
    what
      ? element(
          "details",
          {},
          element("summary", {}, `${what[2].length} ${what[what[2].length === 1 ? 0 : 1]}`),
          element("p", {}, what[2].join(", ")),
        )
      : null,
    card
      ? element(
          "p.small",
          {},
          element("a", { href: card, download: "" }, "Model card"),
          ": data, scores and limits",
        )
      : null,
  ];
}

function describeInterval({ low, high, better }) {
  const between = Number.isFinite(low) && Number.isFinite(high) ? `between ${figure(low)} and ${figure(high)} ` : "";
  return `${between}on validation images${better === "lower" ? "; lower is better" : ""}`;
}
