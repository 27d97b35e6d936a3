// Answers in words, figures and bars.

import { shownClasses } from "./answers.js";
import { coloursOfClasses } from "./drawing.js";

const MOST_BARS = 10; // classes shown at once; the others under a fold
const WORDS = { auc: "AUC", f1: "F1", iou: "IoU", psnr: "PSNR", ssim: "SSIM", pck: "PCK", r2: "R²" };

// An element: its tag and classes ("p.small.quiet"), attributes, children (text is text, never HTML).
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

// Four digits, as the report writes them.
export function figure(value) {
  if (!Number.isFinite(value)) return "–";
  return String(Number(value.toPrecision(4)));
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(100 * share).toFixed(share > 0.9995 || share === 0 ? 0 : 1)} %`;
}

// What the page shows beside a picture.
export function answerIn(record, answer, outline, palette) {
  return {
    classification: classIn,
    ordinal: gradeIn,
    multilabel: classesIn,
    regression: numbersIn,
    landmarks: pointsIn,
    segmentation: sharesIn,
    image: () => [element("p.said", {}, "Restored")],
    instances: countsIn,
  }[outline.task](record, answer, outline, palette);
}

function said(text, more = "") {
  return element("p.said", {}, text, more ? element("span.quiet", {}, ` ${more}`) : null);
}

function classIn(record, { probability }, { labels }) {
  return [said(record.label, `${percent(record.confidence)} sure`), bars(labels, probability, true)];
}

function gradeIn(record, { probability }, { labels }) {
  return [
    said(`Grade ${record.label}`, `of ${labels.length}`),
    bars(labels, probability, false, (i) => labels[i] === record.label),
  ];
}

function classesIn(record, { probability, there }, { labels }) {
  return [said(record.labels.join(", ") || "None of them"), bars(labels, probability, true, (i) => there[i])];
}

// Classes with their probabilities; `marked` ones in colour, the others pale.
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

function numbersIn(record, answer, { scalars, units }) {
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

function pointsIn(record, { points }, outline, palette) {
  const seen = points.filter((point) => point.seen).length;
  const rows = points.map(({ name, x, y, confidence, seen: there }, i) =>
    Object.assign([[key(palette[i % palette.length]), " ", name], x.toFixed(1), y.toFixed(1), percent(confidence)], {
      pale: !there,
    }),
  );
  return [said(`${seen} of ${points.length} points`), table(["point", "x, px", "y, px", "sure"], rows)];
}

function sharesIn(record, answer, { labels }, palette) {
  const colours = coloursOfClasses(labels);
  const rows = shownClasses(labels).map((k) => [
    [colours[k] === null ? element("span.key.bare") : key(palette[colours[k] % palette.length]), " ", labels[k]],
    percent(record[labels[k]]),
  ]);
  return [table(["class", "share of the image"], rows)];
}

function countsIn(record, { things }, { labels }, palette) {
  const sure = things.filter((thing) => thing.sure).length,
    unsure = things.length - sure;
  const rows = labels.map((label, k) => [
    labels.length > 1 ? [key(palette[k % palette.length]), " ", label] : label,
    String(record.counts[label]),
  ]);
  return [
    said(sure === 1 ? "1 thing" : `${sure} things`),
    table(["class", "number"], rows),
    unsure
      ? element("p.small.quiet", {}, `and ${unsure} less sure than one half, which do not count and are not drawn`)
      : null,
  ];
}

// What the model is: key figures for the head of the page.
export function aboutIn({ model, score, bytes, runtime, card }) {
  const what = {
    classification: ["class", "classes", model.labels],
    multilabel: ["class", "classes, any number of them an image", model.labels],
    ordinal: ["grade", "grades", model.labels],
    regression: ["number", "numbers", model.scalars],
    landmarks: ["point", "points", model.points],
    segmentation: ["class of pixels", "classes of pixels", model.labels],
    instances: ["class of things", "classes of things", model.labels],
  }[model.task];
  const cell = (name, value, small) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, element("div.small", {}, small)));
  return [
    element(
      "dl.figures",
      {},
      cell("task", model.task, `as ${model.representation}, ${model.size} px, ${model.fit}`),
      score
        ? cell(words(score.name), figure(score.value) + (score.unit ? ` ${score.unit}` : ""), intervalIn(score))
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
          element("a", { href: card, download: "" }, "The model's card"),
          ": what it was tested on, and its limits",
        )
      : null,
  ];
}

function intervalIn({ low, high, better }) {
  const between = Number.isFinite(low) && Number.isFinite(high) ? `between ${figure(low)} and ${figure(high)} ` : "";
  return `${between}on validation${better === "lower" ? "; lower is better" : ""}`;
}
