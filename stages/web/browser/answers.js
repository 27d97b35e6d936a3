// Outputs of the graph to the answer of the task, and the answer as `predict` writes it: as in stages/tasks.
// Outputs: name to {data, dims}, without batch axis. Rules are the constants of the Python modules, out of about.json.

import { boxesOf, encodeRle, pieces, watershed } from "./pieces.js";

// How a task is answered: answer(outputs, outline, rules, {height, width}), record(answer, outline).
export const TASKS = {
  classification: { answer: probabilities, record: recordClass },
  ordinal: { answer: probabilities, record: recordGrade },
  multilabel: { answer: answerClasses, record: recordClasses },
  regression: { answer: answerNumbers, record: (answer, { scalars }) => paired(scalars, answer.values) },
  landmarks: { answer: answerPoints, record: recordPoints },
  segmentation: { answer: answerMask, record: recordShares },
  image: {
    answer: (outputs) => ({ restored: outputs.restored.data, dims: outputs.restored.dims }),
    record: () => ({}),
  },
  instances: { answer: answerThings, record: recordThings },
};

function probabilities(outputs) {
  return { probability: Array.from(outputs.probability.data) };
}

function paired(names, values) {
  return Object.fromEntries(names.map((name, i) => [name, values[i]]));
}

function largest(values) {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

function recordClass({ probability }, { labels }) {
  const best = largest(probability);
  return { label: labels[best], confidence: probability[best], probabilities: paired(labels, probability) };
}

// The median grade: the lowest one up to which half of the probability lies.
function recordGrade({ probability }, { labels }) {
  let sum = 0;
  const found = probability.findIndex((value) => (sum = Math.fround(sum + value)) >= 0.5 - 1e-9);
  return { label: labels[Math.max(0, found)], probabilities: paired(labels, probability) };
}

function answerClasses(outputs, outline, rules) {
  const { probability } = probabilities(outputs);
  return { probability, there: probability.map((value) => value >= rules.threshold) };
}

function recordClasses({ probability, there }, { labels }) {
  return { labels: labels.filter((_, i) => there[i]), probabilities: paired(labels, probability) };
}

function answerNumbers(outputs, outline, rules, { height, width }) {
  if (outline.representation !== "mask") return { values: Array.from(outputs.value.data) };
  const index = likeliest(outputs.probability.data, outline.labels.length, height * width);
  return {
    values: outline.scalars.map((name) => {
      const k = outline.labels.indexOf(name);
      if (outline.target === "area") return Math.fround(countOf(index, k) / index.length);
      return pieces((place) => index[place] === k, height, width, 8).count;
    }),
  };
}

// The likeliest class of each pixel, of equal ones the first.
function likeliest(probability, classes, pixels) {
  const index = new Uint8Array(pixels),
    best = probability.slice(0, pixels);
  for (let k = 1; k < classes; k++) {
    for (let place = 0, at = k * pixels; place < pixels; place++, at++) {
      if (probability[at] > best[place]) {
        best[place] = probability[at];
        index[place] = k;
      }
    }
  }
  return index;
}

function countOf(index, k) {
  return index.reduce((sum, value) => sum + (value === k), 0);
}

function answerPoints(outputs, outline, rules) {
  const { data } = outputs.point;
  return {
    points: outline.points.map((name, i) => ({
      name,
      x: data[3 * i],
      y: data[3 * i + 1],
      confidence: data[3 * i + 2],
      seen: data[3 * i + 2] >= rules.seen,
    })),
  };
}

function recordPoints({ points }) {
  return Object.fromEntries(points.map(({ name, x, y, confidence }) => [name, { x, y, confidence }]));
}

function answerMask(outputs, { labels }, rules, { height, width }) {
  return { index: likeliest(outputs.probability.data, labels.length, height * width) };
}

// Classes that are shown: all but the background, or all where none is called so.
export function shownClasses(labels) {
  const kept = labels.map((_, k) => k).filter((k) => labels[k] !== "background");
  return kept.length ? kept : [0];
}

function recordShares({ index }, { labels }) {
  return Object.fromEntries(shownClasses(labels).map((k) => [labels[k], countOf(index, k) / index.length]));
}

function answerThings(outputs, outline, rules, { height, width }) {
  if (outline.representation === "watershed") {
    const { piece, score } = watershed(outputs.probability.data, height, width, rules);
    const things = boxesOf(piece, score.length, height, width).map((box, i) => ({
      box,
      label: 0,
      score: score[i],
      runs: outline.masks ? encodeRle((at) => piece[at] === i + 1, box, height, width) : null,
    }));
    return { things: withSure(things, rules), height, width };
  }
  const { box, label, score, mask } = outputs,
    whole = [0, 0, width, height];
  const things = Array.from(score.data, (value, i) => ({
    box: Array.from(box.data.subarray(4 * i, 4 * i + 4)),
    label: Number(label.data[i]),
    score: value,
    runs: mask ? encodeRle((at) => mask.data[i * height * width + at] > 0, whole, height, width) : null,
  }));
  return { things: withSure(things, rules), height, width };
}

function withSure(things, rules) {
  return things.map((thing) => ({ ...thing, sure: thing.score >= rules.sure }));
}

// Counts of those that are sure, and all things as COCO has them: bbox is left, top, width, height.
function recordThings({ things, height, width }, { labels }) {
  const counts = paired(
    labels,
    labels.map((_, k) => things.filter((thing) => thing.sure && thing.label === k).length),
  );
  const rounded = (value, digits) => Number(value.toFixed(digits));
  return {
    counts,
    things: things.map(({ box: [x0, y0, x1, y1], label, score, runs }) => ({
      label: labels[label],
      score: rounded(score, 6),
      bbox: [x0, y0, x1 - x0, y1 - y0].map((value) => rounded(value, 3)),
      ...(runs ? { segmentation: { size: [height, width], counts: runs } } : {}),
    })),
  };
}
