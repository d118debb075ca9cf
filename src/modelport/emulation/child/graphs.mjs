// Runs ONNX graphs in onnxruntime-web's WebAssembly build, on raw inputs from files.
//
//   node graphs.mjs JOBS SECONDS
//
// It lies beside the node_modules that has the package. `jobs.py` tells what the file JOBS holds and what is
// printed.

import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web/wasm";

const [, , jobs, seconds] = process.argv;

const DTYPES = {
  1: ["float32", Float32Array],
  2: ["uint8", Uint8Array],
  3: ["int8", Int8Array],
  4: ["uint16", Uint16Array],
  5: ["int16", Int16Array],
  6: ["int32", Int32Array],
  7: ["int64", BigInt64Array],
  8: ["string", null],
  9: ["bool", Uint8Array],
  10: ["float16", globalThis.Float16Array ?? Uint16Array],
  11: ["float64", Float64Array],
  12: ["uint32", Uint32Array],
  13: ["uint64", BigUint64Array],
};
const NUMBERS = Object.fromEntries(Object.entries(DTYPES).map(([number, [name]]) => [name, number]));

ort.env.wasm.numThreads = 1; // one thread needs no worker scripts
ort.env.logLevel = "error";

function tensor(number, shape, file) {
  const data = readFileSync(file);
  const [name, Kind] = DTYPES[number];
  const count = shape.reduce((a, b) => a * b, 1);
  if (Kind === null) return new ort.Tensor(name, data.toString("utf8").split("\0").slice(0, count), shape);
  // A copy, because a typed array must start at a multiple of its element's size; and an earlier job's output
  // may have more rows than are wanted.
  return new ort.Tensor(name, new Kind(new Uint8Array(data).buffer).slice(0, count), shape);
}

function write(made, file) {
  const data = made.data;
  if (made.type === "string") writeFileSync(file, data.map((text) => `${text}\0`).join(""));
  else writeFileSync(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  console.log(["output", NUMBERS[made.type], made.dims.length, ...made.dims, file].join(" "));
}

const LEVELS = { 0: "disabled", 1: "basic", 2: "extended" };

function settings(level, entries) {
  const extra = {};
  for (const [key, value] of entries) {
    const path = key.split(".");
    const last = path.pop();
    path.reduce((at, part) => (at[part] ??= {}), extra)[last] = value;
  }
  return { executionProviders: ["wasm"], graphOptimizationLevel: LEVELS[level] ?? "all", extra };
}

const until = performance.now() + 1000 * Number(seconds);
const sessions = new Map();
let entries = [];
let level;
let model;
let inputs = {};
let outputs = [];
for (const line of readFileSync(jobs, "utf8").split("\n")) {
  const [word, ...rest] = line.split(" ");
  if (word === "model") {
    [level, model] = rest;
    entries = [];
    inputs = {};
    outputs = [];
  } else if (word === "setting") entries.push([rest[0], rest.slice(1).join(" ")]);
  else if (word === "input") {
    const rank = Number(rest[1]);
    const shape = rest.slice(2, 2 + rank).map(Number);
    inputs[rest.slice(3 + rank).join(" ")] = tensor(Number(rest[0]), shape, rest[2 + rank]);
  } else if (word === "output") outputs.push([rest.slice(1).join(" "), rest[0]]);
  else if (word === "run") {
    if (performance.now() > until) break;
    if (!sessions.has(model)) {
      const graph = new Uint8Array(readFileSync(model));
      sessions.set(model, await ort.InferenceSession.create(graph, settings(level, entries)));
    }
    const made = await sessions.get(model).run(inputs, outputs.map(([name]) => name));
    for (const [name, file] of outputs) write(made[name], file);
    console.log("ran");
  }
}
