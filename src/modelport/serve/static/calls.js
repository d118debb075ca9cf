// How a program asks the same thing: curl, Python and JavaScript to copy, and the last answer as JSON.

import { pretty } from "./answer.js";
import { byId, make } from "./common.js";

/** Quote for a POSIX shell. */
export function shellQuote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * Calls that send a picture; `sample` is the address of one, so that they run as they stand.
 *
 * With `boxes` the answer is a list of objects, and there is a call for the picture with its boxes.
 */
export function pictureCalls(predict, file, sample, boxes = false) {
  const url = new URL(predict, location.href).href;
  const type = file.endsWith(".png") ? "image/png" : "image/jpeg";
  const fetchSample = sample ? `curl -so ${file} ${shellQuote(new URL(sample, location.href).href)}\n` : "";
  const curl = `${fetchSample}curl -F file=@${file} ${boxes ? "\\\n  " : ""}${shellQuote(url)}`;
  const annotated = `\n# the picture with its boxes\ncurl -F file=@${file} -H 'Accept: image/jpeg' -o boxes.jpg \\\n  ${shellQuote(url)}`;
  const python = `    best = json.load(response)["answer"][0]\nprint(best["label"], best["score"])`;
  const pythonBoxes = `    for found in json.load(response)["answer"]:\n        print(found["label"], found["score"], found["box"])`;
  return {
    curl: curl + (boxes ? annotated : ""),
    Python: `import json
import urllib.request

with open("${file}", "rb") as picture:
    call = urllib.request.Request(
        ${JSON.stringify(url)},
        data=picture.read(),
        headers={"Content-Type": "${type}"},
    )
with urllib.request.urlopen(call) as response:
${boxes ? pythonBoxes : python}`,
    JavaScript: `const response = await fetch(${JSON.stringify(url)}, {
  method: "POST",
  body: picture, // a Blob or File
});
const { answer } = await response.json();
${boxes ? "for (const { label, score, box } of answer) console.log(label, score, ...box);" : "console.log(answer[0].label, answer[0].score);"}`,
  };
}

/** Calls that send tensors; `body` is the request as JSON text, sent from a file where it is long. */
export function tensorCalls(predict, body) {
  const url = new URL(predict, location.href).href;
  const short = body.length <= 600;
  const python = short ? `json.loads(${JSON.stringify(body)})` : 'json.load(open("request.json"))';
  return {
    curl: `curl -H 'Content-Type: application/json' \\
  -d ${short ? shellQuote(body) : "@request.json"} \\
  ${shellQuote(url)}`,
    Python: `import json
import urllib.request

request = ${python}
call = urllib.request.Request(
    ${JSON.stringify(url)},
    data=json.dumps(request).encode(),
    headers={"Content-Type": "application/json"},
)
with urllib.request.urlopen(call) as response:
    print(json.load(response)["answer"])`,
    JavaScript: `const response = await fetch(${JSON.stringify(url)}, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(request),
});
console.log((await response.json()).answer);`,
  };
}

/** The section `#calls`: tabs with code, and the last answer. */
export class Calls {
  constructor(names = ["curl", "Python", "JavaScript"]) {
    this.texts = {};
    this.tabs = names.map((name, index) => {
      const tab = make("button", { type: "button", id: `tab-${index}`, onclick: () => this.select(index) }, name);
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", "code");
      return tab;
    });
    const list = make("div", { className: "tabs", onkeydown: (event) => this.key(event) }, ...this.tabs);
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Language");
    this.code = make("code");
    this.json = make("pre", { id: "json", tabIndex: 0, textContent: "Nothing has been asked yet." });
    const head = make("div", { className: "code-head" }, list, copyButton(() => this.code.textContent));
    const panel = make("div", { className: "code", id: "code" }, make("pre", { tabIndex: 0 }, this.code));
    panel.setAttribute("role", "tabpanel");
    this.panel = panel;
    byId("calls").append(head, panel, make("details", { className: "json" }, make("summary", {}, "The last answer as JSON"), this.json));
    this.select(0);
  }

  /** Set the texts by tab name. */
  fill(texts) {
    this.texts = texts;
    this.select(this.chosen);
  }

  /** Show the server's last answer as it came. */
  last(answer) {
    this.json.textContent = pretty(answer);
  }

  select(index) {
    this.chosen = index;
    this.tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === index));
      tab.tabIndex = at === index ? 0 : -1;
    });
    this.panel.setAttribute("aria-labelledby", this.tabs[index].id);
    this.code.textContent = this.texts[this.tabs[index].textContent] ?? "";
  }

  key(event) {
    const last = this.tabs.length - 1;
    const to = {
      ArrowRight: this.chosen === last ? 0 : this.chosen + 1,
      ArrowLeft: this.chosen === 0 ? last : this.chosen - 1,
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.select(to);
    this.tabs[to].focus();
  }
}

/** A button that copies what `text()` returns and says so. */
export function copyButton(text) {
  const button = make("button", { type: "button", className: "copy" }, "Copy");
  button.setAttribute("aria-live", "polite");
  let timer = 0;
  button.addEventListener("click", async () => {
    clearTimeout(timer);
    button.textContent = (await copy(text())) ? "Copied" : "Select it";
    timer = setTimeout(() => (button.textContent = "Copy"), 1800);
  });
  return button;
}

async function copy(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => copyOldWay(text));
  }
  // Plain http on another machine is not a secure context and has no clipboard object.
  return copyOldWay(text);
}

function copyOldWay(text) {
  const box = make("textarea", { value: text, className: "unseen", readOnly: true });
  const focused = document.activeElement;
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  focused?.focus();
  return done;
}
