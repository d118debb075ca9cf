// What every page uses: elements, the server's words, and what to do while it is silent.
// Data from the server is only ever put into the page as text.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element: properties are assigned, children are nodes or text. */
export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** The model that this page is about, from /models/NAME[/VERSION]. */
export function route() {
  const [name = "", version = ""] = location.pathname.replace(/^\/models\//, "").split("/").map(decode);
  const path = [name, version].filter(Boolean).map(encodeURIComponent).join("/");
  return { name, version, api: `/api/models/${path}`, predict: `/predict/${path}` };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** A refusal by the server (`status`) or silence (`status` 0), in words that can be shown. */
export class Refusal extends Error {
  constructor(message, status, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Request headers with the key that the visitor gave, if any; it is kept for this tab alone. */
export function keyed(headers = {}) {
  const key = sessionStorage.getItem("key");
  return key ? { Authorization: `Bearer ${key}`, ...headers } : headers;
}

/** Ask the visitor for a key, below what was complained of; the page starts anew with it. */
function askForKey() {
  if (byId("door")) return; // the page has its own
  const input = make("input", { type: "password", id: "key", autocomplete: "off", required: true });
  const form = make(
    "form",
    { id: "door", className: "panel door" },
    make("label", { htmlFor: "key" }, "This server asks for a key. It is kept until this tab is closed."),
    input,
    make("button", { type: "submit" }, "Use it"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", input.value.trim());
    location.reload();
  });
  byId("oops").after(form);
  input.focus();
}

const PATIENCE = 30_000; // milliseconds until a request counts as unanswered

/** Fetch JSON from the server; throws Refusal, or AbortError where `signal` says so. */
export async function ask(path, { signal, ...options } = {}) {
  const patience = new AbortController();
  const giveUp = () => patience.abort();
  const timer = setTimeout(giveUp, PATIENCE);
  signal?.addEventListener("abort", giveUp);
  let response;
  let data;
  try {
    response = await fetch(path, { ...options, headers: keyed(options.headers), signal: patience.signal });
    data = await response.json().catch((problem) => {
      if (problem instanceof SyntaxError) return null;
      throw problem;
    });
  } catch (problem) {
    if (signal?.aborted) throw problem;
    connection.lost();
    throw new Refusal("The server does not answer.", 0);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  }
  if (data === null && response.status >= 502 && response.status <= 504) {
    // A proxy in front speaks for a server that is silent.
    connection.lost();
    throw new Refusal("The server does not answer.", 0);
  }
  if (response.status === 401) askForKey();
  if (!response.ok || data === null) {
    const said = typeof data?.error === "string" ? data.error : data?.error?.message;
    throw new Refusal(
      said || `The server answered ${response.status} ${response.statusText}`.trim() + ".",
      response.status,
      Number(response.headers.get("retry-after")) || 0,
    );
  }
  connection.found();
  return data;
}

/** POST a body and time it: the answer, and the milliseconds until it was here. */
export async function post(path, body, type, signal) {
  const start = performance.now();
  const answer = await ask(path, { method: "POST", body, headers: { "Content-Type": type }, signal });
  return [answer, performance.now() - start];
}

/** Whether the server answers; while it does not, it is asked again every few seconds. */
export const connection = {
  listeners: [],
  silent: false,
  timer: 0,

  /** Call `listener` each time the server is back. */
  onBack(listener) {
    this.listeners.push(listener);
  },

  lost() {
    if (this.silent) return;
    this.silent = true;
    const box = byId("lost");
    box.textContent = navigator.onLine
      ? "The server does not answer. This page tries again by itself."
      : "This device is offline. This page tries again by itself.";
    box.hidden = false;
    this.retry(1000);
  },

  found() {
    clearTimeout(this.timer);
    if (!this.silent) return;
    this.silent = false;
    byId("lost").hidden = true;
    for (const listener of this.listeners) listener();
  },

  retry(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      const answered = await fetch("/api/models", { cache: "no-store" }).then((r) => r.status < 500, () => false);
      if (answered) this.found();
      else this.retry(Math.min(wait * 1.5, 5000));
    }, wait);
  },
};

addEventListener("online", () => connection.silent && connection.retry(0));

/** Show what went wrong, or nothing. */
export function complain(problem) {
  const box = byId("oops");
  // Silence has its own banner.
  const words = problem && problem.status !== 0 ? problem.message : "";
  if (box.textContent !== words) box.textContent = words;
  box.hidden = !words;
}

/** Fetch the model's description, fill the title, and hand it to `fill`, now and after an outage. */
export function loadModel(fill) {
  const model = route();
  byId("name").textContent = model.name;
  document.title = `${model.name} – Modelport`;
  const load = async () => {
    try {
      const info = await ask(model.api);
      fillTitle(model, info);
      const words = { failed: "could not be loaded", "not loaded": "is not loaded" }[info.state];
      complain(words ? new Refusal(`This version ${words}${info.reason && `: ${info.reason}`}`, 500) : null);
      fill(info);
    } catch (problem) {
      complain(problem);
    }
  };
  connection.onBack(load);
  load();
  return model;
}

function fillTitle(model, info) {
  byId("lead").textContent = info.description || taskInWords(info.task);
  const versions = info.versions?.length ? info.versions : [info.version];
  byId("versions").replaceChildren(
    versions.length > 1 ? "versions" : "version",
    ...versions.map((version) => {
      if (versions.length === 1) return make("span", {}, version);
      const link = make("a", { href: `/models/${encodeURIComponent(model.name)}/${encodeURIComponent(version)}` }, version);
      if (version === info.version) link.setAttribute("aria-current", "page");
      return link;
    }),
  );
}

/** `digit-classification` as a person writes it. */
export function taskInWords(task) {
  const words = String(task ?? "").replace(/[-_]+/g, " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** `float32[3, 224, 224]` */
export function signature(spec) {
  return `${spec.dtype}[${(spec.shape ?? []).join(", ")}]`;
}

/** Show a picture of the server's; an `img` alone would send no key. */
export async function showPicture(image, url) {
  if (!sessionStorage.getItem("key")) {
    image.src = url;
    return;
  }
  const response = await fetch(url, { headers: keyed() }).catch(() => null);
  if (!response?.ok) return;
  const address = URL.createObjectURL(await response.blob());
  image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
  image.src = address;
}

/** Hand a file to the person at the browser. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * Sends only what is newest: one request in flight, and after it the newest thing that waits.
 *
 * `send(item, signal)` does the work. A newer item does not interrupt the one in flight, or a person who
 * draws without pause would never see an answer; `cancel` does, and its answer is never shown. Refusals
 * with `retryAfter` are tried again, a few times, unless something newer came.
 */
export class Latest {
  constructor(send, failed, region, gap = 60) {
    this.send = send;
    this.failed = failed;
    this.region = region; // the element that says whether an answer is on its way
    this.gap = gap; // milliseconds between two requests at least, so a fast server is not flooded either
    this.waiting = null;
    this.flight = null;
    this.timer = 0;
    this.free = 0;
  }

  push(item) {
    this.waiting = { item, tries: 0 };
    this.tell();
    this.next();
  }

  cancel() {
    this.waiting = null;
    clearTimeout(this.timer);
    this.flight?.abort();
    this.flight = null;
    this.tell();
  }

  tell() {
    this.region.ariaBusy = String(!!(this.flight || this.waiting));
  }

  next(wait = this.free - performance.now()) {
    clearTimeout(this.timer);
    if (!this.waiting || this.flight) return;
    if (wait > 0) this.timer = setTimeout(() => this.next(), wait);
    else this.fly();
  }

  async fly() {
    const job = this.waiting;
    const flight = new AbortController();
    this.waiting = null;
    this.flight = flight;
    this.free = performance.now() + this.gap;
    let wait;
    try {
      await this.send(job.item, flight.signal);
    } catch (problem) {
      if (flight.signal.aborted) return;
      this.failed(problem);
      if (problem.retryAfter && !this.waiting && job.tries < 5) {
        this.waiting = { item: job.item, tries: job.tries + 1 };
        wait = Math.min(problem.retryAfter, 10) * 1000;
      }
    }
    if (this.flight !== flight) return;
    this.flight = null;
    this.tell();
    this.next(wait);
  }
}
