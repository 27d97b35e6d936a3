// Decode the outputs of the graph to predictions, and to the records that `predict` writes, as in stages/tasks.
// Outputs: name to {data, dims}, without batch axis. Rules: the constants of the Python modules, from about.json.

import { boxesOf, encodeRle, pieces, watershed } from "./connected_components.js";

// Functions per task: predict(outputs, spec, rules, {height, width}), record(prediction, spec).
export const TASKS = {
  classification: { predict: probabilities, record: recordClass },
  ordinal: { predict: probabilities, record: recordGrade },
  multilabel: { predict: predictClasses, record: recordClasses },
  regression: { predict: predictNumbers, record: (prediction, { scalars }) => zip(scalars, prediction.values) },
  landmarks: { predict: predictPoints, record: recordPoints },
  segmentation: { predict: predictMask, record: recordShares },
  image: {
    predict: (outputs) => ({ restored: outputs.restored.data, dims: outputs.restored.dims }),
    record: () => ({}),
  },
  instances: { predict: predictInstances, record: recordInstances },
};

function probabilities(outputs) {
  return { probability: Array.from(outputs.probability.data) };
}

function zip(names, values) {
  return Object.fromEntries(names.map((name, i) => [name, values[i]]));
}

function argmax(values) {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

function recordClass({ probability }, { labels }) {
  const best = argmax(probability);
  return { label: labels[best], confidence: probability[best], probabilities: zip(labels, probability) };
}

// The predicted grade is the median: the lowest grade with a cumulative probability of at least one half.
function recordGrade({ probability }, { labels }) {
  let sum = 0;
  const found = probability.findIndex((value) => (sum = Math.fround(sum + value)) >= 0.5 - 1e-9);
  return { label: labels[Math.max(0, found)], probabilities: zip(labels, probability) };
}

function predictClasses(outputs, spec, rules) {
  const { probability } = probabilities(outputs);
  return { probability, there: probability.map((value) => value >= rules.threshold) };
}

function recordClasses({ probability, there }, { labels }) {
  return { labels: labels.filter((_, i) => there[i]), probabilities: zip(labels, probability) };
}

function predictNumbers(outputs, spec, rules, { height, width }) {
  if (spec.representation !== "mask") return { values: Array.from(outputs.value.data) };
  const index = argmaxPerPixel(outputs.probability.data, spec.labels.length, height * width);
  return {
    values: spec.scalars.map((name) => {
      const k = spec.labels.indexOf(name);
      if (spec.target === "area") return Math.fround(countPixels(index, k) / index.length);
      return pieces((place) => index[place] === k, height, width, 8).count;
    }),
  };
}

// Most probable class of each pixel; the first one of equal classes.
function argmaxPerPixel(probability, classes, pixels) {
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

function countPixels(index, k) {
  return index.reduce((sum, value) => sum + (value === k), 0);
}

function predictPoints(outputs, spec, rules) {
  const { data } = outputs.point;
  return {
    points: spec.points.map((name, i) => ({
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

function predictMask(outputs, { labels }, rules, { height, width }) {
  return { index: argmaxPerPixel(outputs.probability.data, labels.length, height * width) };
}

// The label "a + b" of a pixel means that it has both classes.
function classesOf(label) {
  return label.split(" + ");
}

// Classes to show: all but "background"; the first class if no other is left.
export function foregroundClasses(labels) {
  const classes = [...new Set(labels.flatMap(classesOf))];
  const foreground = classes.filter((name) => name !== "background");
  return foreground.length ? foreground : [classes[0]];
}

function recordShares({ index }, { labels }) {
  const pixels = labels.map((_, k) => countPixels(index, k));
  const share = (name) =>
    pixels.reduce((sum, count, k) => sum + (classesOf(labels[k]).includes(name) ? count : 0), 0) / index.length;
  return Object.fromEntries(foregroundClasses(labels).map((name) => [name, share(name)]));
}

function predictInstances(outputs, spec, rules, { height, width }) {
  if (spec.representation === "watershed") {
    const { piece, score } = watershed(outputs.probability.data, height, width, rules);
    const instances = boxesOf(piece, score.length, height, width).map((box, i) => ({
      box,
      label: 0,
      score: score[i],
      runs: spec.masks ? encodeRle((at) => piece[at] === i + 1, box, height, width) : null,
    }));
    return { instances: markConfident(instances, rules), height, width };
  }
  const { box, label, score, mask } = outputs,
    whole = [0, 0, width, height];
  const instances = Array.from(score.data, (value, i) => ({
    box: Array.from(box.data.subarray(4 * i, 4 * i + 4)),
    label: Number(label.data[i]),
    score: value,
    runs: mask ? encodeRle((at) => mask.data[i * height * width + at] > 0, whole, height, width) : null,
  }));
  return { instances: markConfident(instances, rules), height, width };
}

function markConfident(instances, rules) {
  return instances.map((instance) => ({ ...instance, sure: instance.score >= rules.sure }));
}

// Counts of the confident instances, and all instances in COCO format: bbox is left, top, width, height.
function recordInstances({ instances, height, width }, { labels }) {
  const counts = zip(
    labels,
    labels.map((_, k) => instances.filter((instance) => instance.sure && instance.label === k).length),
  );
  const rounded = (value, digits) => Number(value.toFixed(digits));
  return {
    counts,
    things: instances.map(({ box: [x0, y0, x1, y1], label, score, runs }) => ({
      label: labels[label],
      score: rounded(score, 6),
      bbox: [x0, y0, x1 - x0, y1 - y0].map((value) => rounded(value, 3)),
      ...(runs ? { segmentation: { size: [height, width], counts: runs } } : {}),
    })),
  };
}
