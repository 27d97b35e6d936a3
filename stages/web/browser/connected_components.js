// Connected components, run-length encoding and watershed, as in stages/tasks/watershed.py and
// stages/dataset/annotations.py. Maps are [H, W], flattened row by row.

// Label the connected components of pixels with `inside(place)`, numbered from 1 in reading order: {number, count}.
// Connectivity is 4 or 8.
export function pieces(inside, height, width, neighbours = 4) {
  const number = new Int32Array(height * width),
    pile = [];
  let count = 0;
  for (let begin = 0; begin < number.length; begin++) {
    if (number[begin] || !inside(begin)) continue;
    number[begin] = ++count;
    pile.push(begin);
    while (pile.length) {
      const place = pile.pop(),
        y = Math.floor(place / width),
        x = place - y * width;
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          if ((neighbours === 4 && dx && dy) || y + dy < 0 || y + dy >= height || x + dx < 0 || x + dx >= width)
            continue;
          const next = place + dy * width + dx;
          if (!number[next] && inside(next)) {
            number[next] = count;
            pile.push(next);
          }
        }
      }
    }
  }
  return { number, count };
}

// Instances from probabilities [3, H, W] of background, interior and boundary: {piece, score}.
export function watershed(probability, height, width, { least, smallest }) {
  const pixels = height * width;
  const at = (k, place) => probability[k * pixels + place];
  const foreground = Float32Array.from({ length: pixels }, (_, place) => at(1, place) + at(2, place));
  const { seed, count } = seeds(
    (place) => at(1, place) > at(0, place) && at(1, place) >= at(2, place),
    height,
    width,
    smallest,
  );
  if (!count) return { piece: seed, score: [] };
  const parts = pieces((place) => foreground[place] >= least || seed[place] > 0, height, width);
  const seeded = new Uint8Array(parts.count + 1);
  for (let place = 0; place < pixels; place++) if (seed[place]) seeded[parts.number[place]] = 1;
  const nearest = nearestSeed(seed, height, width);
  const piece = new Int32Array(pixels),
    sum = new Float64Array(count + 1),
    size = new Float64Array(count + 1);
  for (let place = 0; place < pixels; place++) {
    if (!seeded[parts.number[place]]) continue;
    const mine = seed[nearest[place]];
    piece[place] = mine;
    sum[mine] += foreground[place];
    size[mine] += 1;
  }
  return { piece, score: Array.from({ length: count }, (_, i) => Math.fround(sum[i + 1] / size[i + 1])) };
}

// Connected interiors that are large enough, numbered from 1.
function seeds(inside, height, width, smallest) {
  const { number, count } = pieces(inside, height, width);
  const size = new Int32Array(count + 1),
    renumbered = new Int32Array(count + 1);
  for (const mine of number) size[mine] += 1;
  let kept = 0;
  for (let mine = 1; mine <= count; mine++) if (size[mine] >= smallest) renumbered[mine] = ++kept;
  return { seed: number.map((mine) => renumbered[mine]), count: kept };
}

// Index of the nearest seed pixel for every pixel: distances along the columns, then along the rows by the lower
// envelope of parabolas (Felzenszwalb and Huttenlocher 2012).
function nearestSeed(seed, height, width) {
  const row = new Int32Array(height * width).fill(-1);
  for (let x = 0; x < width; x++) {
    for (let y = 0, last = -1; y < height; y++) {
      if (seed[y * width + x]) last = y;
      row[y * width + x] = last;
    }
    for (let y = height - 1, last = -1; y >= 0; y--) {
      const place = y * width + x;
      if (seed[place]) last = y;
      if (last >= 0 && (row[place] < 0 || last - y < y - row[place])) row[place] = last;
    }
  }
  const nearest = new Int32Array(height * width);
  const apex = new Int32Array(width),
    from = new Float64Array(width + 1);
  for (let y = 0; y < height; y++) {
    const squared = (x) => (row[y * width + x] - y) ** 2;
    let top = -1;
    for (let x = 0; x < width; x++) {
      if (row[y * width + x] < 0) continue;
      let meets = -Infinity;
      for (; top >= 0; top--) {
        const other = apex[top];
        meets = (squared(x) + x * x - squared(other) - other * other) / (2 * (x - other));
        if (meets > from[top]) break;
      }
      if (top < 0) meets = -Infinity;
      apex[++top] = x;
      from[top] = meets;
    }
    from[top + 1] = Infinity;
    for (let x = 0, k = 0; x < width; x++) {
      while (from[k + 1] < x) k++;
      nearest[y * width + x] = row[y * width + apex[k]] * width + apex[k];
    }
  }
  return nearest;
}

// Bounding boxes [left, top, right, bottom] of the components 1..count.
export function boxesOf(number, count, height, width) {
  const boxes = Array.from({ length: count }, () => [width, height, 0, 0]);
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < width; x++, place++) {
      const box = boxes[number[place] - 1];
      if (!box) continue;
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1);
      box[3] = Math.max(box[3], y + 1);
    }
  }
  return boxes;
}

// Run lengths in column order, beginning with background, as in the uncompressed RLE of COCO. Pixels outside of the box
// are background.
export function encodeRle(inside, [left, top, right, bottom], height, width) {
  const runs = [];
  let begun = 0,
    on = false;
  const turn = (place) => {
    runs.push(place - begun);
    begun = place;
    on = !on;
  };
  for (let x = left; x < right; x++) {
    for (let y = top; y < bottom; y++) if (inside(y * width + x) !== on) turn(x * height + y);
    if (on && bottom - top < height) turn(x * height + bottom);
  }
  runs.push(height * width - begun);
  return runs;
}

// Call `paint(place)` for every pixel of a mask.
export function forRuns(runs, height, width, paint) {
  let place = 0;
  runs.forEach((length, i) => {
    for (const end = place + length; place < end; place++) {
      if (i % 2) paint((place % height) * width + Math.floor(place / height));
    }
  });
}
