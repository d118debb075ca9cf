// Pictures come in: chosen, dropped, pasted, or one of the samples.

import { ask, byId, keyed, make, Refusal, showPicture } from "./common.js";

/** Listen everywhere a picture can come from; `take(blob, name)` gets it, `refuse(problem)` the rest. */
export function listen(take, refuse) {
  const offer = (file) => {
    if (!file) return;
    if (file.type && !file.type.startsWith("image/")) {
      refuse(new Refusal(`${file.name || "That"} is not a picture (${file.type}).`, 415));
    } else {
      take(file, file.name || "picture");
    }
  };
  const input = byId("file");
  byId("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    offer(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  addEventListener("paste", (event) => {
    if (/^(input|textarea)$/i.test(event.target.tagName)) return;
    offer([...(event.clipboardData?.files ?? [])][0]);
  });
  listenToDrops(offer, refuse);
}

function listenToDrops(offer, refuse) {
  let depth = 0;
  const mark = (over) => byId("sheet").classList.toggle("over", over);
  addEventListener("dragenter", (event) => {
    event.preventDefault();
    depth += 1;
    mark(true);
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    mark(depth > 0);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    mark(false);
    const [file] = event.dataTransfer?.files ?? [];
    if (file) offer(file);
    else refuse(new Refusal("What was dropped is not a picture file.", 415));
  });
}

const MOST = 24; // thumbnails

/** Thumbnails of the model's samples; a click takes one. */
export function fillSamples(samples, take, refuse) {
  const box = byId("samples");
  box.hidden = !samples?.length;
  const buttons = (samples ?? []).slice(0, MOST).map(({ name, url }) => {
    const image = make("img", { alt: name, loading: "lazy" });
    showPicture(image, url);
    const button = make("button", { type: "button", className: "thumb", title: name }, image);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", async () => {
      try {
        const response = await fetch(url, { headers: keyed() });
        if (!response.ok) throw new Refusal(`The sample ${name} is not there (${response.status}).`, response.status);
        take(await response.blob(), name);
        pressSample(button);
      } catch (problem) {
        if (problem instanceof Refusal) refuse(problem);
        else ask("/api/models").catch(refuse);
      }
    });
    return button;
  });
  box.replaceChildren(make("span", { className: "hint" }, "Or try one of these"), ...buttons);
}

/** Mark one thumbnail as the one shown, or none. */
export function pressSample(pressed) {
  for (const button of byId("samples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button === pressed));
  }
}
