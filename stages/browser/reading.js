// File bytes to pixels, by the rules of stages/images/reading.py as far as a browser can decode.
// A picture: {height, width, channels, bits, values}, values [H, W, C] in one row of numbers.

export class Unreadable extends Error {}

const KINDS = [
  { name: "JPEG", type: "image/jpeg", begins: [0xff, 0xd8, 0xff], look: lookAtJpeg },
  { name: "PNG", type: "image/png", begins: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], look: lookAtPng },
  { name: "GIF", type: "image/gif", begins: [0x47, 0x49, 0x46, 0x38], look: lookAtGif },
  { name: "BMP", type: "image/bmp", begins: [0x42, 0x4d], look: () => {} },
  { name: "WEBP", type: "image/webp", begins: [0x52, 0x49, 0x46, 0x46], look: lookAtWebp },
];
const NPY = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const TIFF = [
  [0x49, 0x49, 0x2a, 0],
  [0x4d, 0x4d, 0, 0x2a],
];

// Decode the bytes of one image file; throws Unreadable with the reason in words.
export async function read(bytes, mostMegapixels) {
  if (!bytes.length) throw new Unreadable("empty file, 0 bytes");
  if (startsWith(bytes, NPY)) return bounded(readNpy(bytes), mostMegapixels);
  if (TIFF.some((sign) => startsWith(bytes, sign)))
    throw new Unreadable(
      "is a TIFF, which browsers do not decode; save it as PNG, or as npy where it has 16 bits or many channels",
    );
  const kind = KINDS.find((known) => startsWith(bytes, known.begins));
  if (!kind) throw new Unreadable("is no JPEG, PNG, GIF, BMP, WebP or npy, going by its first bytes");
  kind.look(bytes);
  return decoded(new Blob([bytes], { type: kind.type }), kind.name, mostMegapixels);
}

// The browser's own decoder. Colour profiles are left aside, as Pillow does; EXIF turns the image upright.
async function decoded(blob, name, mostMegapixels) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
      imageOrientation: "from-image",
    });
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
    throw new Unreadable(`is ${width}x${height}, more than this browser's canvas holds`);
  } finally {
    bitmap.close();
  }
  const values = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    if (rgba[from + 3] !== 255) throw new Unreadable("is partly transparent; flatten it onto a background");
    values[to++] = rgba[from];
    values[to++] = rgba[from + 1];
    values[to++] = rgba[from + 2];
  }
  return { height, width, channels: 3, bits: 8, values };
}

function bounded(picture, mostMegapixels) {
  const megapixels = (picture.width * picture.height) / 1e6;
  if (megapixels <= mostMegapixels) return picture;
  throw new Unreadable(
    `${picture.width}x${picture.height} is ${megapixels.toFixed(1)} megapixels, above ${mostMegapixels}`,
  );
}

// Colour to grey by the same whole numbers as Pillow (ITU-R BT.601 in 1/65536); grey to colour by repeating it.
export function toChannels(picture, channels, bits) {
  if (picture.bits !== bits) throw new Unreadable(`has ${picture.bits} bits a value; the model takes ${bits}`);
  const have = picture.channels,
    pixels = picture.width * picture.height,
    { values } = picture;
  if (have === channels) return picture;
  if (Math.min(have, channels) !== 1 || Math.max(have, channels) !== 3) {
    throw new Unreadable(`has ${have} channels, not ${channels}; the model takes ${channels}`);
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

// numpy's rounding.
export function halfToEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

// Whether this browser gives back the pixels that were put in: some add noise against tracking.
export function canvasIsHonest() {
  const side = 32,
    put = new ImageData(side, side);
  for (let i = 0; i < put.data.length; i++) put.data[i] = i % 4 === 3 ? 255 : (i * 37 + (i >> 5)) % 256;
  const context = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  context.putImageData(put, 0, 0);
  const got = context.getImageData(0, 0, side, side).data;
  return put.data.every((value, i) => value === got[i]);
}

function startsWith(bytes, sign) {
  return sign.every((byte, i) => bytes[i] === byte);
}

function ascii(bytes, from, to) {
  return String.fromCharCode(...bytes.subarray(from, to));
}

function cutShort(name) {
  return new Unreadable(`is a damaged ${name}: it ends before its end mark`);
}

// Depth, animation and end of a PNG, from its chunks.
function lookAtPng(bytes) {
  const view = viewOf(bytes);
  for (let place = 8; place + 12 <= bytes.length; place += 12 + view.getUint32(place)) {
    const chunk = ascii(bytes, place + 4, place + 8);
    if (chunk === "IHDR" && bytes[place + 16] === 16) {
      throw new Unreadable(
        "is a PNG of 16 bits, of which a browser's canvas keeps 8; save it as npy, or use `python -m stages.predict`",
      );
    }
    if (chunk === "acTL" && view.getUint32(place + 8) > 1) throw manyFrames(view.getUint32(place + 8));
    if (chunk === "IEND") return;
  }
  throw cutShort("PNG");
}

// Channels, depth and end of a JPEG, from its markers (ITU-T T.81, annex B).
function lookAtJpeg(bytes) {
  const view = viewOf(bytes);
  let place = 2;
  while (place + 4 <= bytes.length && bytes[place] === 0xff) {
    const marker = bytes[place + 1];
    if (marker === 0xff) {
      place += 1;
      continue;
    } // fill bytes
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame && bytes[place + 4] !== 8) throw new Unreadable(`is a JPEG of ${bytes[place + 4]} bits; 8 can be read`);
    if (frame && bytes[place + 9] === 4) throw new Unreadable("mode CMYK is not read; convert it to 8-bit grey or RGB");
    if (marker === 0xda) break;
    place += 2 + view.getUint16(place + 2);
  }
  for (let end = bytes.length - 2; end >= place; end--) {
    if (bytes[end] === 0xff && bytes[end + 1] === 0xd9) return;
  }
  throw cutShort("JPEG");
}

// Frames and end of a GIF, from its blocks.
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
      return;
    }
    if (bytes[place] === 0x21) place = blocks(place + 2);
    else if (bytes[place] === 0x2c) {
      frames += 1;
      place = blocks(place + 11 + table(bytes[place + 9]));
    } else break;
  }
  throw cutShort("GIF");
}

function lookAtWebp(bytes) {
  if (ascii(bytes, 8, 12) !== "WEBP") throw new Unreadable("is a RIFF file, but no WebP");
  if (viewOf(bytes).getUint32(4, true) + 8 > bytes.length) throw cutShort("WebP");
  if (ascii(bytes, 12, 16) === "VP8X" && bytes[20] & 2) throw manyFrames("several");
}

function manyFrames(count) {
  return new Unreadable(`holds ${count} frames; one image per file is expected`);
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

// An array of numpy's, [H, W] or [H, W, C] of 8 or 16 bits.
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
  if (!bits || ![2, 3].includes(shape.length) || shape.some((n) => !Number.isInteger(n) || n < 1)) {
    throw new Unreadable(
      `holds ${kind ?? "no array"} of shape (${shape}); uint8 or uint16 of [H, W] or [H, W, C] is needed`,
    );
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
