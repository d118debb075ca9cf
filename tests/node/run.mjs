// Runs ONNX graphs in onnxruntime-web's WebAssembly build, on raw inputs from files.
//
//   node run.mjs JOBS.json
//
// JOBS.json is a list of {"model": PATH, "inputs": {NAME: {"dtype", "shape", "file"}}, "folder": PATH};
// a tensor's file holds its values in C order, little-endian (strings: a JSON list). Every output is
// written into the job's folder. On stdout: a list of {"outputs": {NAME: {"dtype", "shape", "file"}},
// "milliseconds"}, one for each job in order; the time of a first job with a model includes opening it.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-web/wasm";

const ARRAYS = {
  bool: Uint8Array,
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  uint64: BigUint64Array,
  int64: BigInt64Array,
  float32: Float32Array,
  float64: Float64Array,
};

ort.env.wasm.numThreads = 1; // one thread needs no worker scripts
ort.env.logLevel = "error";

async function readTensor({ dtype, shape, file }) {
  if (dtype === "string") return new ort.Tensor(dtype, JSON.parse(await readFile(file, "utf8")), shape);
  if (!(dtype in ARRAYS)) throw new Error(`no typed array for ${dtype}; known: ${Object.keys(ARRAYS)}`);
  const bytes = await readFile(file);
  // A copy, because a typed array must start at a multiple of its element's size.
  return new ort.Tensor(dtype, new ARRAYS[dtype](new Uint8Array(bytes).buffer), shape);
}

async function writeTensor(tensor, file) {
  const data = tensor.data;
  if (tensor.type === "string") await writeFile(file, JSON.stringify(data));
  else await writeFile(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return { dtype: tensor.type, shape: tensor.dims, file };
}

const sessions = new Map();
async function open(model) {
  if (!sessions.has(model)) {
    const graph = new Uint8Array(await readFile(model));
    sessions.set(model, await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] }));
  }
  return sessions.get(model);
}

const answers = [];
for (const { model, inputs, folder } of JSON.parse(await readFile(process.argv[2], "utf8"))) {
  const feeds = {};
  for (const [name, spec] of Object.entries(inputs)) feeds[name] = await readTensor(spec);
  const started = performance.now();
  const results = await (await open(model)).run(feeds);
  const milliseconds = performance.now() - started;
  const outputs = {};
  for (const [index, name] of Object.keys(results).entries()) {
    outputs[name] = await writeTensor(results[name], join(folder, `${index}.out`));
  }
  answers.push({ outputs, milliseconds });
}
process.stdout.write(JSON.stringify(answers));
