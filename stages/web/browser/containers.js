// Inspect the bytes of a file before it is decoded: damage, bit depth, frames and orientation.
// Each `look` refuses unsupported files and returns {exif, xmp, hide}: metadata, and their positions as [from, to].

import { CLEAR, Unreadable, ascii, cutShort, joined, manyFrames, viewOf } from "./bytes.js";
import { lookAtPng } from "./png.js";
import { isExif } from "./orientation.js";

export const KINDS = [
  { name: "JPEG", type: "image/jpeg", begins: [0xff, 0xd8, 0xff], look: lookAtJpeg },
  { name: "PNG", type: "image/png", begins: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], look: lookAtPng },
  { name: "GIF", type: "image/gif", begins: [0x47, 0x49, 0x46, 0x38], look: lookAtGif },
  { name: "BMP", type: "image/bmp", begins: [0x42, 0x4d], look: lookAtBmp },
  { name: "WEBP", type: "image/webp", begins: [0x52, 0x49, 0x46, 0x46], look: lookAtWebp },
];
// Channel masks (red, green, blue, alpha) of 32-bit BMPs that Pillow supports, and the byte of alpha.
const MASKS = [
  { masks: [0xff0000, 0xff00, 0xff, 0], alpha: null },
  { masks: [0xff000000, 0xff0000, 0xff00, 0], alpha: null },
  { masks: [0xff000000, 0xff00, 0xff, 0], alpha: null },
  { masks: [0xff000000, 0xff0000, 0xff00, 0xff], alpha: 0 },
  { masks: [0xff, 0xff00, 0xff0000, 0xff000000], alpha: 3 },
  { masks: [0xff0000, 0xff00, 0xff, 0xff000000], alpha: 3 },
  { masks: [0xff000000, 0xff00, 0xff, 0xff0000], alpha: 2 },
];
const XMP = "http://ns.adobe.com/xap/1.0/\0";

// Inspect metadata, channels, bit depth and end of a JPEG. Further images in the file (MPO) are ignored, as browsers do.
function lookAtJpeg(bytes) {
  const found = { exif: null, xmp: null, hide: [] };
  let place = 2,
    dense = false;
  for (const { marker, from, to } of segmentsOf(bytes)) {
    const data = bytes.subarray(from, to),
      frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xcc].includes(marker);
    if (frame && data[0] !== 8) throw new Unreadable(`is a JPEG of ${data[0]} bits; only 8 bits are supported`);
    if (frame && data[5] === 4)
      throw new Unreadable("contains CMYK colours, which are not supported; convert it to 8-bit or 16-bit grey or to RGB");
    if (marker === 0xe0 && ascii(data, 0, 4) === "JFIF") dense ||= data.length >= 12 && [1, 2].includes(data[7]);
    if (marker === 0xe1) {
      const isExifs = ascii(data, 0, 6) === "Exif\0\0",
        isXmp = ascii(data, 0, XMP.length) === XMP;
      if (isExifs) found.exif = found.exif ? joined(found.exif, data.subarray(6)) : data;
      if (isXmp) found.xmp = ascii(data, XMP.length);
      if (isExifs || isXmp) found.hide.push([from, to]);
    }
    place = to;
  }
  // Pillow ignores broken EXIF if it reads the density from there first.
  if (found.exif && !isExif(found.exif) && !dense) found.exif = found.xmp = null;
  for (let end = bytes.length - 2; end >= place; end--) {
    if (bytes[end] === 0xff && bytes[end + 1] === 0xd9) return found;
  }
  throw cutShort("JPEG");
}

// Segments of a JPEG before its pixels: marker and position of the data (ITU-T T.81, annex B).
function* segmentsOf(bytes) {
  const view = viewOf(bytes),
    standsAlone = (marker) =>
      !marker || marker === 0xc8 || (marker >= 0xd0 && marker <= 0xd9) || (marker >= 0xf0 && marker <= 0xfd);
  for (let place = 2; place + 4 <= bytes.length; ) {
    const marker = bytes[place + 1];
    if (bytes[place] !== 0xff || marker === 0xff) place += 1; // junk and fill bytes
    else if (standsAlone(marker)) place += 2;
    else {
      const to = place + 2 + view.getUint16(place + 2);
      yield { marker, from: place + 4, to };
      if (marker === 0xda) return;
      place = to;
    }
  }
}

// Inspect the blocks of a GIF (GIF89a).
function lookAtGif(bytes) {
  const table = (packed) => (packed & 0x80 ? 3 << ((packed & 7) + 1) : 0);
  const blocks = (place) => {
    while (bytes[place]) place += bytes[place] + 1;
    return place + 1;
  };
  let place = 13 + table(bytes[10]),
    frames = 0;
  while (place < bytes.length) {
    if (bytes[place] === 0x3b) {
      if (frames > 1) throw manyFrames(frames);
      return { hide: [] };
    }
    if (bytes[place] === 0x21) place = blocks(place + 2);
    else if (bytes[place] === 0x2c) {
      frames += 1;
      place = blocks(place + 11 + table(bytes[place + 9]));
    } else break;
  }
  throw cutShort("GIF");
}

// Inspect the chunks of a WebP. Metadata are used only if the header announces them, and only the first chunk of each
// type.
function lookAtWebp(bytes) {
  const view = viewOf(bytes),
    found = { exif: null, xmp: null, hide: [] };
  if (ascii(bytes, 8, 12) !== "WEBP") throw new Unreadable("is a RIFF file, but not a WebP");
  if (view.getUint32(4, true) + 8 > bytes.length) throw cutShort("WebP");
  if (ascii(bytes, 12, 16) !== "VP8X") return found;
  if (bytes[20] & 2) throw manyFrames("several");
  for (let place = 12, length; place + 8 <= bytes.length; place += 8 + length + (length & 1)) {
    length = view.getUint32(place + 4, true);
    const chunk = ascii(bytes, place, place + 4),
      data = bytes.subarray(place + 8, place + 8 + length);
    if (chunk === "EXIF" && bytes[20] & 8) found.exif ??= data;
    if (chunk === "XMP " && bytes[20] & 4) found.xmp ??= ascii(data);
    if (chunk === "EXIF" || chunk === "XMP ") found.hide.push([place + 8, place + 8 + length]);
  }
  return found;
}

// Inspect the header of a BMP: accept what browsers and Pillow decode alike, and require opaque alpha, because some
// browsers ignore it.
function lookAtBmp(bytes) {
  const view = viewOf(bytes),
    head = view.getUint32(14, true);
  if (head === 12) return { hide: [] };
  if (view.getUint16(28, true) === 16) {
    throw new Unreadable("is a BMP of 16 bits, whose colours browsers round differently from Python; save it as PNG");
  }
  if (view.getUint32(30, true) !== 3) return { hide: [] };
  const masks = [54, 58, 62, 66].map((at) => (at < 66 || head >= 56 ? view.getUint32(at, true) : 0)),
    alpha = MASKS.find((known) => known.masks.every((mask, i) => mask === masks[i]))?.alpha;
  if (alpha === undefined) throw new Unreadable("is a BMP with an unsupported channel layout; save it as PNG");
  if (alpha === null) return { hide: [] };
  const [begin, width, height] = [10, 18, 22].map((at) => view.getInt32(at, true));
  const end = Math.min(bytes.length, begin + 4 * width * Math.abs(height));
  for (let at = begin + alpha; at < end; at += 4) if (bytes[at] !== 255) throw new Unreadable(CLEAR);
  return { hide: [] };
}
