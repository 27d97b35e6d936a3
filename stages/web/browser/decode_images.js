// Decode image files as stages/images/decode.py does, as far as a browser can.
// A picture is {height, width, channels, bits, values}, with values [H, W, C], flattened.

import { CLEAR, Unreadable, startsWith, viewOf } from "./bytes.js";
import { KINDS } from "./containers.js";
import { orientationOf, turning } from "./orientation.js";

const NPY = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const TIFF = [
  [0x49, 0x49, 0x2a, 0],
  [0x4d, 0x4d, 0, 0x2a],
];

// Decode the bytes of one image file; throw Unreadable with the reason if this is not possible.
export async function read(bytes, mostMegapixels) {
  if (!bytes.length) throw new Unreadable("is empty (0 bytes)");
  if (startsWith(bytes, NPY)) return bounded(readNpy(bytes), mostMegapixels);
  if (TIFF.some((sign) => startsWith(bytes, sign)))
    throw new Unreadable(
      "is a TIFF, which browsers do not decode; save it as PNG, or as npy if it has 16 bits or other than 1 or 3 channels",
    );
  const kind = KINDS.find((known) => startsWith(bytes, known.begins));
  if (!kind) throw new Unreadable("is not a JPEG, PNG, GIF, BMP, WebP or npy, judging by its first bytes");
  const found = await looked(kind, bytes);
  return decoded(blind(bytes, found.hide, kind.type), kind.name, orientationOf(found), mostMegapixels);
}

async function looked(kind, bytes) {
  try {
    return await kind.look(bytes);
  } catch (error) {
    if (error instanceof RangeError) throw new Unreadable(`is a damaged ${kind.name}: it ends too early`);
    throw error;
  }
}

// Overwrite the metadata of a file, so that the browser does not apply its orientation.
function blind(bytes, hide, type) {
  const copy = hide.length ? bytes.slice() : bytes;
  for (const [from, to] of hide) copy.fill(0, from, to);
  return new Blob([copy], { type });
}

// Decode with the browser and apply the orientation. Colour profiles are ignored, as in Pillow.
async function decoded(blob, name, orientation, mostMegapixels) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Unreadable(`is a damaged ${name}, or one that this browser does not decode`);
  }
  const { width, height } = bitmap;
  bounded({ width, height }, mostMegapixels);
  let rgba;
  try {
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    rgba = context.getImageData(0, 0, width, height).data;
  } catch {
    throw new Unreadable(`is ${width}x${height}, larger than the canvas limit of this browser`);
  } finally {
    bitmap.close();
  }
  const values = new Uint8Array(width * height * 3),
    size = orientation < 5 ? { height, width } : { height: width, width: height },
    [first, down, right] = turning(orientation, width, height);
  let to = 0;
  for (let row = 0; row < size.height; row++) {
    for (let column = 0; column < size.width; column++) {
      const from = 4 * (first + row * down + column * right);
      if (rgba[from + 3] !== 255) throw new Unreadable(CLEAR);
      values[to++] = rgba[from];
      values[to++] = rgba[from + 1];
      values[to++] = rgba[from + 2];
    }
  }
  return { ...size, channels: 3, bits: 8, values };
}

function bounded(picture, mostMegapixels) {
  const megapixels = (picture.width * picture.height) / 1e6;
  if (megapixels <= mostMegapixels) return picture;
  throw new Unreadable(
    `has ${megapixels.toFixed(1)} megapixels (${picture.width}x${picture.height}), above the limit of ${mostMegapixels}`,
  );
}

// Convert colour to grey with the integer weights of Pillow (ITU-R BT.601 in 1/65536), and grey to colour by repeating it.
export function toChannels(picture, channels, bits) {
  if (picture.bits !== bits) throw new Unreadable(`has ${picture.bits} bits per value; the model requires ${bits}`);
  const have = picture.channels,
    pixels = picture.width * picture.height,
    { values } = picture;
  if (have === channels) return picture;
  if (Math.min(have, channels) !== 1 || Math.max(have, channels) !== 3) {
    throw new Unreadable(`has ${have} ${have === 1 ? "channel" : "channels"}; the model requires ${channels}`);
  }
  const out = new values.constructor(pixels * channels);
  for (let i = 0; i < pixels; i++) {
    if (channels === 3) out.fill(values[i], 3 * i, 3 * i + 3);
    else if (bits === 8)
      out[i] = (19595 * values[3 * i] + 38470 * values[3 * i + 1] + 7471 * values[3 * i + 2] + 32768) >> 16;
    else out[i] = halfToEven(0.299 * values[3 * i] + 0.587 * values[3 * i + 1] + 0.114 * values[3 * i + 2]);
  }
  return { ...picture, channels, values: out };
}

// Round halves to the nearest even integer, like numpy.
export function halfToEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

// Return whether a canvas returns the pixels that were written; some browsers add noise against tracking.
export function canvasIsHonest() {
  const side = 32,
    put = new ImageData(side, side);
  for (let i = 0; i < put.data.length; i++) put.data[i] = i % 4 === 3 ? 255 : (i * 37 + (i >> 5)) % 256;
  const context = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  context.putImageData(put, 0, 0);
  const got = context.getImageData(0, 0, side, side).data;
  return put.data.every((value, i) => value === got[i]);
}

// Read a numpy array, [H, W] or [H, W, C] of 8 or 16 bits.
function readNpy(bytes) {
  const view = viewOf(bytes),
    long = bytes[6] > 1,
    begin = long ? 12 : 10;
  const length = bytes.length < 12 ? 0 : long ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(begin, begin + length));
  const kind = /'descr': *'([^']*)'/.exec(header)?.[1];
  const shape = (/'shape': *\(([^)]*)\)/.exec(header)?.[1] ?? "")
    .split(",")
    .filter((n) => n.trim())
    .map(Number);
  const bits = { "|u1": 8, "<u2": 16, ">u2": 16 }[kind];
  const found = kind ? `contains ${kind} of shape (${shape})` : "contains no numpy array";
  if (!bits || ![2, 3].includes(shape.length) || shape.some((n) => !Number.isInteger(n) || n < 1)) {
    throw new Unreadable(`${found}; uint8 or uint16 of shape [H, W] or [H, W, C] is required`);
  }
  if (/'fortran_order': *True/.test(header))
    throw new Unreadable("is stored column by column; save it with numpy.ascontiguousarray");
  const [height, width, channels = 1] = shape,
    count = height * width * channels,
    from = begin + length;
  if (bytes.length - from < (count * bits) / 8) throw new Unreadable("is a damaged npy: it ends before its last value");
  if (bits === 8) return { height, width, channels, bits, values: bytes.slice(from, from + count) };
  const values = Uint16Array.from({ length: count }, (_, i) => view.getUint16(from + 2 * i, kind === "<u2"));
  return { height, width, channels, bits, values };
}
