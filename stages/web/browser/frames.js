// Overlapping tiles of an image and one answer out of theirs, as in stages/images/geometry.py.

import { halfToEven } from "./reading.js";

// Where the tiles of an image lie: {top, left, height, width}, pixels.
export function tiles(height, width, size, overlap) {
  const rows = starts(height, size, overlap),
    columns = starts(width, size, overlap);
  return rows.flatMap((top) =>
    columns.map((left) => ({
      top,
      left,
      height: Math.min(size, height),
      width: Math.min(size, width),
    })),
  );
}

// Evenly spread beginnings of tiles that overlap by at least the given share.
function starts(length, size, overlap) {
  const count = Math.max(1, Math.ceil((length - size * overlap) / (size * (1 - overlap))));
  const last = Math.max(0, length - size),
    step = count > 1 ? last / (count - 1) : 0;
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? (count > 1 ? last : 0) : halfToEven(i * step)));
}

// The values [size, size, C] of a tile; beyond the edge of the image the image mirrored.
export function cut(picture, tile, size) {
  const { channels, values } = picture,
    out = new values.constructor(size * size * channels);
  const mirrored = (i, length) => {
    const at = i % (2 * length);
    return at < length ? at : 2 * length - 1 - at;
  };
  for (let y = 0, to = 0; y < size; y++) {
    const row = (tile.top + mirrored(y, tile.height)) * picture.width;
    for (let x = 0; x < size; x++) {
      const from = (row + tile.left + mirrored(x, tile.width)) * channels;
      for (let c = 0; c < channels; c++) out[to++] = values[from + c];
    }
  }
  return out;
}

// Answers of tiles laid over each other, each pixel weighed by its distance to the tile's edge.
export class Blend {
  // Of maps [C, size, size], or [size, size, C] where `last`.
  constructor(channels, height, width, size, last) {
    Object.assign(this, { channels, height, width, size, last });
    this.total = new Float32Array(channels * height * width);
    this.weights = new Float32Array(height * width);
    this.ramp = Float32Array.from({ length: size }, (_, i) => Math.min(i + 1, size - i));
  }

  add(part, tile) {
    const { channels, height, width, size, last, ramp } = this;
    for (let y = 0; y < tile.height; y++) {
      for (let x = 0; x < tile.width; x++) {
        const weight = ramp[y] * ramp[x],
          place = (tile.top + y) * width + tile.left + x;
        this.weights[place] += weight;
        for (let c = 0; c < channels; c++) {
          const from = last ? (y * size + x) * channels + c : (c * size + y) * size + x;
          this.total[last ? place * channels + c : c * height * width + place] += weight * part[from];
        }
      }
    }
  }

  // The map of the whole image, its axes in the order of the parts.
  values() {
    const pixels = this.height * this.width;
    for (let i = 0; i < this.total.length; i++) {
      this.total[i] /= this.weights[this.last ? Math.floor(i / this.channels) : i % pixels];
    }
    return this.total;
  }
}
