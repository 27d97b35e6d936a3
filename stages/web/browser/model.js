// The graph at work: onnxruntime as WebAssembly, one thread, SIMD; file bytes in, answers out.

import { TASKS } from "./answers.js";
import { Blend, cut, tiles } from "./frames.js";
import * as ort from "./onnxruntime.js";
import { read, toChannels } from "./reading.js";

ort.env.wasm.numThreads = 1; // several need a page isolated from others by headers, which a static host may not send
ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime.wasm", import.meta.url).href };
ort.env.logLevel = "error";

export class Model {
  // `about`: what about.json says; `bytes`: the ONNX file.
  static async open(about, bytes) {
    const model = new Model();
    model.outline = about.model;
    model.rules = about.rules;
    model.session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    return model;
  }

  // The picture of an image file, with the channels that the graph takes; throws Unreadable.
  async decodeFile(bytes) {
    return toChannels(await read(bytes, this.rules.megapixels), this.outline.channels, this.outline.depth);
  }

  // The task's answer for one picture, and its record.
  async answer(picture) {
    const task = TASKS[this.outline.task];
    const answer = task.answer(await this.outputs(picture), this.outline, this.rules, picture);
    return { answer, record: task.record(answer, this.outline) };
  }

  // The graph's outputs for one picture, without batch axis; from tiles where it was learned in tiles.
  async outputs(picture) {
    const { fit, size, overlap, channels, representation } = this.outline;
    if (fit !== "tile") return unbatched(await this.run(picture.values, picture.height, picture.width), representation);
    let blend, name;
    for (const tile of tiles(picture.height, picture.width, size, overlap)) {
      const given = unbatched(await this.run(cut(picture, tile, size), size, size), representation);
      name ??= Object.keys(given)[0];
      const last = name === "restored",
        { dims, data } = given[name];
      blend ??= new Blend(last ? channels : dims[0], picture.height, picture.width, size, last);
      blend.add(data, tile);
    }
    const { height, width } = picture;
    const dims = name === "restored" ? [height, width, channels] : [blend.channels, height, width];
    return { [name]: { data: blend.values(), dims } };
  }

  async run(values, height, width) {
    const { depth, channels } = this.outline;
    const image = new ort.Tensor(depth === 16 ? "uint16" : "uint8", values, [1, height, width, channels]);
    return this.session.run({ image });
  }
}

// Of instances by boxes the axes are those of the things: there is no batch.
function unbatched(outputs, representation) {
  const taken = representation === "boxes" ? 0 : 1;
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { data, dims }]) => [name, { data, dims: dims.slice(taken) }]),
  );
}
