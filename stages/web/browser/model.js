// Run the model from file bytes to predictions, with onnxruntime as WebAssembly (one thread, SIMD).

import { TASKS } from "./task_predictions.js";
import { Blend, cut, tiles } from "./tile_blending.js";
import * as ort from "./onnxruntime.js";
import { read, toChannels } from "./decode_images.js";

ort.env.wasm.numThreads = 1; // more threads require cross-origin isolation headers, which a static host may not send
ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime.wasm", import.meta.url).href };
ort.env.logLevel = "error";

export class Model {
  // `about`: content of about.json; `bytes`: the ONNX file.
  static async open(about, bytes) {
    const model = new Model();
    model.spec = about.model;
    model.rules = about.rules;
    model.session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    return model;
  }

  // Decode an image file and convert its channels for the graph; throw Unreadable if this is not possible.
  async decodeFile(bytes) {
    return toChannels(await read(bytes, this.rules.megapixels), this.spec.channels, this.spec.depth);
  }

  // Return {prediction, record} for one picture.
  async predict(picture) {
    const task = TASKS[this.spec.task];
    const prediction = task.predict(await this.outputs(picture), this.spec, this.rules, picture);
    return { prediction, record: task.record(prediction, this.spec) };
  }

  // Return the outputs of the graph for one picture, without batch axis; blended from tiles if the model uses tiles.
  async outputs(picture) {
    const { fit, size, overlap, channels, representation } = this.spec;
    if (fit !== "tile") return unbatched(await this.run(picture.values, picture.height, picture.width), representation);
    let blend, name;
    for (const tile of tiles(picture.height, picture.width, size, overlap)) {
      const outputs = unbatched(await this.run(cut(picture, tile, size), size, size), representation);
      name ??= Object.keys(outputs)[0];
      const last = name === "restored",
        { dims, data } = outputs[name];
      blend ??= new Blend(last ? channels : dims[0], picture.height, picture.width, size, last);
      blend.add(data, tile);
    }
    const { height, width } = picture;
    const dims = name === "restored" ? [height, width, channels] : [blend.channels, height, width];
    return { [name]: { data: blend.values(), dims } };
  }

  async run(values, height, width) {
    const { depth, channels } = this.spec;
    const image = new ort.Tensor(depth === 16 ? "uint16" : "uint8", values, [1, height, width, channels]);
    return this.session.run({ image });
  }
}

// The outputs of `boxes` have no batch axis; the first axis is that of the instances.
function unbatched(outputs, representation) {
  const batchAxes = representation === "boxes" ? 0 : 1;
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { data, dims }]) => [name, { data, dims: dims.slice(batchAxes) }]),
  );
}
