// What is served here.

import { ask, byId, complain, connection, make, signature, taskInWords } from "./common.js";

async function load() {
  try {
    const { models } = await ask("/api/models", { cache: "no-store" });
    complain(null);
    const list = byId("models");
    list.removeAttribute("aria-busy");
    list.replaceChildren(...(models.length ? models.map(entry) : [nothing()]));
  } catch (problem) {
    complain(problem);
  }
}

function entry(model) {
  const { state } = model;
  const inputs = (model.inputs ?? []).map(signature).join(", ");
  const outputs = (model.outputs ?? []).map(({ name }) => name).join(", ");
  const versions = model.versions?.length > 1 ? `versions ${model.versions.join(", ")}` : `version ${model.version}`;
  return make(
    "li",
    { className: "model panel" },
    make(
      "div",
      { className: "head" },
      // The address is made here: a model's own words never become one.
      make("h2", {}, make("a", { href: `/models/${encodeURIComponent(model.name)}` }, model.name)),
      make("span", { className: `state ${state.replace(" ", "-")}` }, state),
    ),
    make("p", { className: "about" }, model.description),
    ...(state === "failed" && model.reason ? [make("p", { className: "why" }, model.reason)] : []),
    make(
      "div",
      { className: "meta" },
      make("span", {}, versions),
      make("span", {}, taskInWords(model.task)),
      ...(inputs ? [make("code", {}, `${inputs} → ${outputs}`)] : []),
    ),
  );
}

function nothing() {
  return make("li", { className: "panel empty" }, "No model is served here yet.");
}

connection.onBack(load);
document.addEventListener("visibilitychange", () => document.hidden || load());
load();
