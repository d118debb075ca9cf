// A form's field for each column of a table: what can be entered, what may be missing, and what is wrong.

import { make } from "./common.js";

const KNOWN = 6; // categories that are named below a field that takes others too

/** The field of one column; `column` is as the server describes it. */
export class Field {
  constructor(column, index, changed) {
    this.column = column;
    this.numeric = ["float32", "float64", "int64"].includes(column.dtype);
    const id = `field-${index}`;
    this.input = this.entry(id);
    this.hint = make("span", { id: `${id}-hint`, className: "hint" }, this.says());
    this.input.setAttribute("aria-describedby", this.hint.id);
    // A long name breaks behind an underscore, and not inside a word.
    const words = column.name.split(/(?<=_)/).flatMap((word) => [word, make("wbr")]);
    const parts = [make("label", { htmlFor: id }, ...words)];
    if (column.missing) {
      this.lost = make("input", { type: "checkbox", id: `${id}-missing` });
      this.lost.addEventListener("change", () => {
        this.input.disabled = this.lost.checked;
        changed();
      });
      const label = make("label", { className: "lost-box" }, this.lost, "missing");
      this.lost.setAttribute("aria-label", `${column.name} is missing`);
      parts.push(label);
    }
    const box = make("div", { className: "entry" }, this.input);
    if (column.dtype === "bool") box.className = "entry tick";
    this.input.addEventListener("input", changed);
    this.node = make("div", { className: "field" }, ...parts, box, ...(this.list ? [this.list] : []), this.hint);
    this.reset();
  }

  entry(id) {
    const { dtype, categories, unseen, minimum, maximum } = this.column;
    if (dtype === "bool") return make("input", { type: "checkbox", id });
    if (categories?.length && !unseen) {
      return make("select", { id }, ...categories.map((each) => make("option", { value: each }, each)));
    }
    if (dtype === "string") {
      const input = make("input", { type: "text", id, autocomplete: "off", spellcheck: false });
      if (categories?.length) {
        this.list = make("datalist", { id: `${id}-list` }, ...categories.map((each) => make("option", { value: each })));
        input.setAttribute("list", this.list.id);
      }
      return input;
    }
    const input = make("input", { type: "number", id, step: dtype === "int64" ? "1" : "any", required: true, autocomplete: "off" });
    input.inputMode = dtype === "int64" && minimum >= 0 ? "numeric" : "decimal";
    if (!unseen && Number.isFinite(minimum)) input.min = minimum;
    if (!unseen && Number.isFinite(maximum)) input.max = maximum;
    return input;
  }

  /** What can be entered, in a few words. */
  says() {
    const { dtype, description, minimum, maximum, unseen, categories } = this.column;
    const low = Number.isFinite(minimum);
    const high = Number.isFinite(maximum);
    const seen = unseen ? "seen " : "";
    const range = low && high ? `${seen}${short(minimum)} to ${short(maximum)}` : low ? `${seen}from ${short(minimum)}` : high ? `${seen}up to ${short(maximum)}` : "";
    const known = unseen && categories?.length ? `${categories.slice(0, KNOWN).join(", ")}${categories.length > KNOWN ? ", …" : ""} or another` : "";
    const kind = { int64: "a whole number", bool: "", string: categories?.length ? known : "text" }[dtype] ?? "a number";
    return [description, [kind, range].filter(Boolean).join(", ")].filter(Boolean).join(" · ");
  }

  /** The typical value again. */
  reset() {
    const { typical, dtype } = this.column;
    if (dtype === "bool") this.input.checked = typical === true;
    else this.input.value = this.numeric ? short(typical) : (typical ?? "");
    if (this.lost) this.lost.checked = this.input.disabled = this.numeric ? typical === null : typical === "";
    this.blame("");
  }

  /** The value as JSON has it; undefined where it is missing. */
  value() {
    if (this.lost?.checked) return undefined;
    if (this.column.dtype === "bool") return this.input.checked;
    return this.numeric ? this.input.valueAsNumber : this.input.value;
  }

  /** Whether the browser finds nothing wrong with it; what it finds is said below the field. */
  check() {
    const fine = this.input.disabled || this.input.validity.valid;
    this.blame(fine ? "" : this.input.validationMessage);
    return fine;
  }

  /** Say what is wrong, or nothing. */
  blame(words) {
    this.input.setAttribute("aria-invalid", String(!!words));
    this.hint.classList.toggle("wrong", !!words);
    this.hint.textContent = words || this.says();
  }
}

/** A number as it is typed: 4.5, not 4.50000001. */
export function short(value) {
  return typeof value === "number" ? String(Number(value.toPrecision(7))) : "";
}
