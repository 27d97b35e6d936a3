// Inspect a PNG before it is decoded.

import { CLEAR, Unreadable, ascii, cutShort, joined, manyFrames, viewOf } from "./bytes.js";

const MOST_TEXT = 2 ** 20; // largest uncompressed size of a text in bytes, as in Pillow

// Inspect the chunks (W3C PNG, sections 5 and 11).
export async function lookAtPng(bytes) {
  const view = viewOf(bytes),
    texts = {},
    hide = [];
  let exif = null;
  for (let place = 8, length; place + 12 <= bytes.length; place += 12 + length) {
    length = view.getUint32(place);
    const chunk = ascii(bytes, place + 4, place + 8),
      data = bytes.subarray(place + 8, place + 8 + length);
    if (chunk === "IHDR" && data[8] === 16) {
      throw new Unreadable(
        "is a PNG of 16 bits, but a browser's canvas has 8; save it as npy, or use `macula predict`",
      );
    }
    if (chunk === "acTL" && viewOf(data).getUint32(0) > 1) throw manyFrames(viewOf(data).getUint32(0));
    // The transparent level does not exist at this depth; decoders replace it by different levels.
    if (chunk === "tRNS" && bytes[25] !== 3 && (bytes[24] < 8 || data.some((byte, i) => byte && i % 2 === 0))) {
      throw new Unreadable(CLEAR);
    }
    if (chunk === "eXIf") exif = data;
    if (chunk === "iCCP") await unfolded(data.subarray(data.indexOf(0) + 1));
    if (["tEXt", "zTXt", "iTXt"].includes(chunk)) Object.assign(texts, await textOf(chunk, data));
    if (["eXIf", "tEXt", "zTXt", "iTXt"].includes(chunk)) hide.push([place + 8, place + 8 + length]);
    if (chunk === "IEND") {
      return { exif: exif ?? bytesOfHex(texts["Raw profile type exif"]), xmp: texts["XML:com.adobe.xmp"], hide };
    }
  }
  throw cutShort("PNG");
}

// Decode a text chunk to {keyword: text}.
async function textOf(chunk, data) {
  const after = (from) => data.indexOf(0, from) + 1 || data.length;
  const begin = after(0),
    keyword = ascii(data, 0, data.indexOf(0));
  if (chunk === "tEXt") return { [keyword]: ascii(data, begin) };
  if (chunk === "zTXt") return { [keyword]: await unfolded(data.subarray(begin)) };
  const text = data.subarray(after(after(begin + 2))); // after flag, method, language and translated keyword
  return { [keyword]: data[begin] ? await unfolded(joined([data[begin + 1]], text)) : ascii(text) };
}

// Decompress a text, preceded by its method, which must be 0; damaged text is decompressed as far as possible.
async function unfolded(data) {
  if (data[0]) throw new Unreadable(`is a damaged PNG: it contains text compressed by the unknown method ${data[0]}`);
  const reader = new Blob([data.subarray(1)]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  let text = "";
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      text += ascii(next.value);
      if (text.length > MOST_TEXT) break;
    }
  } catch {
    return text;
  }
  if (text.length <= MOST_TEXT) return text;
  await reader.cancel();
  throw new Unreadable(`contains a compressed text of more than ${MOST_TEXT} bytes`);
}

// Decode EXIF as ImageMagick writes it to a PNG: three header lines, then hexadecimal digits.
function bytesOfHex(profile) {
  if (profile === undefined) return null;
  const digits = profile.split("\n").slice(3).join("").replace(/\s/g, "");
  if (digits.length % 2 || /[^0-9a-f]/i.test(digits)) throw new Unreadable("contains EXIF that cannot be read");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
