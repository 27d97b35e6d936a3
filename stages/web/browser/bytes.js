// Helpers to read binary files.

export class Unreadable extends Error {}

export const CLEAR = "is partly transparent; flatten it onto a background";

export function cutShort(name) {
  return new Unreadable(`is a damaged ${name}: it ends before its end mark`);
}

export function manyFrames(count) {
  return new Unreadable(`contains ${count} frames; one image per file is expected`);
}

export function startsWith(bytes, sign) {
  return sign.every((byte, i) => bytes[i] === byte);
}

export function ascii(bytes, from = 0, to = bytes.length) {
  return new TextDecoder("latin1").decode(bytes.subarray(from, to));
}

export function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function joined(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
