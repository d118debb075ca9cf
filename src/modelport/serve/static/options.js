// What may be set for a request: sliders and switches made of the bundle's options.

import { make } from "./common.js";

const SCORE = "score_threshold";
const NAMES = {
  [SCORE]: "Score above",
  iou_threshold: "Overlap (IoU) at most",
  class_agnostic: "Overlap across classes",
  multi_label: "Several classes a box",
};

export class Options {
  /**
   * The threshold of the score only hides, down to `lowest`; the others are for the server.
   *
   * `changed(again)` is told after each change, with whether the server has to be asked again.
   */
  constructor(box, lowest, changed) {
    Object.assign(this, { box, lowest, changed, specs: [], values: {} });
  }

  /** `specs`: the options of the manifest. What was set before stays. */
  fill(specs) {
    this.specs = specs;
    const score = specs.find(({ name }) => name === SCORE);
    // Without such an option the page hides all the same.
    const shown = score ? specs : [{ name: SCORE, dtype: "float32", default: 0, description: "" }, ...specs];
    for (const { name, default: value } of shown) this.values[name] ??= value;
    const order = shown.toSorted((a, b) => (a.dtype === "bool") - (b.dtype === "bool") || (b.name === SCORE) - (a.name === SCORE));
    this.box.replaceChildren(...order.map((spec) => this.control(spec)));
  }

  control({ name, dtype, minimum, maximum, description }) {
    const said = make("output");
    const input = make("input", { id: name, name, title: description });
    const again = name !== SCORE;
    const label = make("label", { htmlFor: name, title: description }, NAMES[name] ?? name.replaceAll("_", " "));
    if (dtype === "bool") {
      Object.assign(input, { type: "checkbox", checked: this.values[name] });
      input.addEventListener("change", () => this.set(name, input.checked, again));
      return make("div", { className: "option switch" }, input, label);
    }
    const whole = dtype === "int64";
    const low = again ? minimum : Math.min(this.lowest, this.values[name]);
    const high = maximum ?? (again ? null : 1);
    const range = Number.isFinite(low) && Number.isFinite(high);
    Object.assign(input, { type: range ? "range" : "number", min: low ?? "", max: high ?? "", step: whole ? 1 : 0.01, value: this.values[name] });
    const show = () => (said.textContent = range ? (whole ? input.value : Number(input.value).toFixed(2)) : "");
    input.addEventListener("input", () => {
      show();
      if (input.validity.valid && input.value !== "") this.set(name, Number(input.value), again);
    });
    show();
    return make("div", { className: "option" }, label, said, input);
  }

  set(name, value, again) {
    this.values[name] = value;
    this.changed(again);
  }

  has(name) {
    return this.specs.some((spec) => spec.name === name);
  }

  get threshold() {
    return this.values[SCORE] ?? 0;
  }

  /** As the query of an address: what is not at its default, and always the threshold, which is at most `lowest`. */
  query(lowest = 1) {
    const found = this.specs
      .filter(({ name, default: value }) => name === SCORE || this.values[name] !== value)
      .map(({ name }) => [name, name === SCORE ? Math.min(lowest, this.values[name]) : this.values[name]]);
    return found.length ? `?${new URLSearchParams(found)}` : "";
  }
}
