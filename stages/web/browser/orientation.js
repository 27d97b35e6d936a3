// Read the orientation of an image as Pillow does, because browsers apply it only to some file formats.

import { Unreadable, ascii, viewOf } from "./bytes.js";

const ORIENTATION = 0x0112;
const HEADS = ["MM\0*", "II*\0", "MM*\0", "II\0*", "MM\0+"]; // the last three are invalid, but accepted by Pillow
const UNITS = { 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8 }; // bytes
const NUMBERS = {
  3: (view, at, little) => view.getUint16(at, little),
  4: (view, at, little) => view.getUint32(at, little),
  5: (view, at, little) => view.getUint32(at, little) / view.getUint32(at + 4, little),
  6: (view, at) => view.getInt8(at),
  8: (view, at, little) => view.getInt16(at, little),
  9: (view, at, little) => view.getInt32(at, little),
  10: (view, at, little) => view.getInt32(at, little) / view.getInt32(at + 4, little),
  11: (view, at, little) => view.getFloat32(at, little),
  12: (view, at, little) => view.getFloat64(at, little),
  13: (view, at, little) => view.getUint32(at, little),
  16: (view, at, little) => Number(view.getBigUint64(at, little)),
};

// EXIF orientation from 1 (upright) to 8, from EXIF, otherwise from XMP; both may be missing.
export function orientationOf({ exif, xmp }) {
  const said = exif && bare(exif).length ? directory(bare(exif)).get(ORIENTATION) : undefined;
  const value = said ? said.number : Number(/tiff:Orientation(?:="|>)([0-9])/.exec(xmp ?? "")?.[1]);
  return [2, 3, 4, 5, 6, 7, 8].includes(value) ? value : 1;
}

function bare(exif) {
  return exif.subarray(/^(?:Exif\0\0){0,2}/.exec(ascii(exif, 0, 12))[0].length);
}

// Return whether the bytes are empty or begin like a TIFF.
export function isExif(exif) {
  return !bare(exif).length || isTiff(bare(exif));
}

function isTiff(bytes) {
  return bytes.length >= 8 && HEADS.includes(ascii(bytes, 0, 4));
}

// First directory of a TIFF, the format of EXIF: first number and bytes of each tag (TIFF 6.0, section 2).
function directory(bytes) {
  const tags = new Map();
  if (!isTiff(bytes)) throw new Unreadable("contains EXIF that cannot be read");
  const view = viewOf(bytes),
    little = bytes[0] === 0x49,
    begin = view.getUint32(4, little) + 2;
  if (begin > bytes.length) return tags;
  let outside = 0;
  for (let at = begin, left = view.getUint16(begin - 2, little); left && at + 12 <= bytes.length; at += 12, left--) {
    const tag = view.getUint16(at, little),
      type = view.getUint16(at + 2, little),
      size = view.getUint32(at + 4, little) * UNITS[type];
    if (tags.has(tag) || !size) continue;
    let from = at + 8;
    if (size > 4) {
      outside += size;
      if (outside > bytes.length) continue;
      from = view.getUint32(at + 8, little);
      if (from + size > bytes.length) break;
    }
    tags.set(tag, { number: NUMBERS[type]?.(view, from, little), bytes: bytes.subarray(from, from + size), little });
  }
  return tags;
}

// Index of the first pixel of the upright image in a stored image of width x height, and the strides between pixels of a
// column and of a row.
export function turning(orientation, width, height) {
  const last = width * height - 1,
    right = width - 1,
    bottom = (height - 1) * width;
  return {
    1: [0, width, 1],
    2: [right, width, -1],
    3: [last, -width, -1],
    4: [bottom, -width, 1],
    5: [0, 1, width],
    6: [bottom, 1, -width],
    7: [last, -1, -width],
    8: [right, -1, width],
  }[orientation];
}
