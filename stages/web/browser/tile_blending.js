// Cut images into overlapping tiles and blend their outputs, as in stages/images/geometry.py.

import { halfToEven } from "./decode_images.js";

// Positions of the tiles of an image: {top, left, height, width} in pixels.
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

// Evenly spaced start positions of tiles that overlap by at least the given share.
function starts(length, size, overlap) {
  const count = Math.max(1, Math.ceil((length - size * overlap) / (size * (1 - overlap))));
  const last = Math.max(0, length - size),
    step = count > 1 ? last / (count - 1) : 0;
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? (count > 1 ? last : 0) : halfToEven(i * step)));
}

// Values [size, size, C] of a tile; the image is mirrored beyond its edges.
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

// Weighted mean of overlapping tiles; the weight of a pixel is its distance to the edge of the tile.
export class Blend {
  // Tiles are [C, size, size], or [size, size, C] if `last`.
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

  // Return the map of the entire image, with the axes in the order of the tiles.
  values() {
    const pixels = this.height * this.width;
    for (let i = 0; i < this.total.length; i++) {
      this.total[i] /= this.weights[this.last ? Math.floor(i / this.channels) : i % pixels];
    }
    return this.total;
  }
}
