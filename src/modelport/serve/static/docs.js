// What this server answers, from its own description.

import { ask, byId, complain, connection, make } from "./common.js";

const LIMITS = { minimum: "≥", exclusiveMinimum: ">", maximum: "≤", pattern: "pattern" };
const PLACE = { path: "in the path", query: "in the query", header: "header" };

async function load() {
  try {
    show(await ask("/openapi.json", { cache: "no-store" }));
    complain(null);
  } catch (problem) {
    complain(problem);
  }
}

function show({ info, tags, paths, components }) {
  byId("lead").replaceChildren(`${info.title} ${info.version}. `, ...prose(info.description));
  const calls = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );
  const sections = tags.map(({ name }) => {
    const own = calls.filter((call) => call.tags.includes(name)).map(callPanel);
    return section(name, own);
  });
  const shapes = Object.entries(components.schemas).sort(([a], [b]) => (a < b ? -1 : 1));
  sections.push(section("Shapes", shapes.map(shapePanel)));
  byId("contents").replaceChildren(
    ...sections.map((each) => make("a", { href: `#${each.id}` }, each.firstChild.textContent)),
  );
  const all = byId("all");
  all.removeAttribute("aria-busy");
  all.replaceChildren(...sections);
  follow();
}

function section(name, panels) {
  return make("section", { id: slug(name) }, make("h2", {}, name), ...panels);
}

function callPanel(call) {
  return make(
    "details",
    { className: "call panel", id: call.operationId },
    make(
      "summary",
      {},
      make("span", { className: "method" }, call.method),
      make("span", { className: "path" }, call.path),
      make("span", { className: "about" }, call.summary),
    ),
    make("div", { className: "inside" }, ...callParts(call)),
  );
}

function callParts(call) {
  const parts = [];
  if (call.description) parts.push(make("p", {}, ...prose(call.description)));
  const needs = call["x-modelport-scope"];
  if (needs) {
    const always = call.security.every((each) => Object.keys(each).length);
    const words = always ? "Needs a key with the scope " : "On a server with keys: a key with the scope ";
    parts.push(make("p", { className: "hint" }, words, make("code", {}, needs)));
  }
  if (call.parameters) {
    const rows = call.parameters.map((each) => [
      make("code", {}, each.name),
      `${PLACE[each.in]}${each.required ? "" : ", optional"}`,
      [...prose(each.description ?? ""), " ", shape(each.schema)],
    ]);
    parts.push(make("h3", {}, "Parameters"), table(["Name", "Where", "What"], rows));
  }
  if (call.requestBody) {
    const { description, content, required } = call.requestBody;
    parts.push(make("h3", {}, required ? "Body" : "Body, optional"));
    if (description) parts.push(make("p", {}, ...prose(description)));
    parts.push(table(["Content-Type", "What"], kinds(content)));
  }
  const rows = Object.entries(call.responses).map(([status, reply]) => [
    make("code", {}, status),
    [...prose(reply.description), ...headers(reply.headers)],
    kinds(reply.content ?? {}).map(([kind, what]) => make("div", {}, kind, " ", what)),
  ]);
  parts.push(make("h3", {}, "Replies"), table(["Status", "When", "What"], rows));
  return parts;
}

function headers(all = {}) {
  return Object.entries(all).flatMap(([name, { description }]) => [
    make("br"),
    make("code", {}, name),
    ": ",
    ...prose(description),
  ]);
}

const kinds = (content) =>
  Object.entries(content).map(([kind, { schema }]) => [make("code", {}, kind), shape(schema)]);

function shapePanel([name, schema]) {
  const { description, ...rest } = schema;
  return make(
    "details",
    { className: "shape panel", id: `shape-${name}` },
    make("summary", {}, name),
    make(
      "div",
      { className: "inside" },
      ...(description ? [make("p", {}, ...prose(description))] : []),
      make("pre", { tabIndex: 0 }, ...lines(rest, "")),
    ),
  );
}

/** A schema in one line. */
function shape(schema) {
  return make("code", {}, ...lines(schema ?? {}, null));
}

/** A schema as text and links; broken into lines from `indent` on, or not at all where that is null. */
function lines(schema, indent) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [make("a", { href: `#shape-${name}` }, name)];
  }
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((each) => JSON.stringify(each)).join(" | ")];
  if (schema.anyOf) return joined(schema.anyOf.map((each) => lines(each, indent)), " | ");
  if (schema.properties) return object(schema, indent);
  if (schema.items) return ["[", ...lines(schema.items, indent), "]"];
  const kind = [schema.type ?? (schema.description ? "" : "bytes")].flat().join(" | ");
  const limits = Object.keys(LIMITS).filter((key) => key in schema);
  const words = [kind, ...limits.map((key) => `${LIMITS[key]} ${schema[key]}`)].filter(Boolean);
  return [words.join(" "), ...(schema.description ? [words.length ? " — " : "", schema.description] : [])];
}

function object({ properties, required = [] }, indent) {
  const inner = indent === null ? null : `${indent}  `;
  const fields = Object.entries(properties).map(([name, value]) => [
    inner === null ? "" : `\n${inner}`,
    `${name}${required.includes(name) ? "" : "?"}: `,
    ...lines(value, inner),
  ]);
  const [open, between, close] = indent === null ? ["{ ", ", ", " }"] : ["{", ",", `\n${indent}}`];
  return [open, ...joined(fields, between), close];
}

const joined = (lists, between) => lists.flatMap((each, index) => (index ? [between, ...each] : each));

function table(names, rows) {
  const cells = (row, tag) => row.map((cell) => make(tag, {}, ...[cell].flat()));
  return make(
    "div",
    { className: "scroll" },
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...cells(names, "th"))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row, "td")))),
    ),
  );
}

/** Text with `code` in it. */
const prose = (text) => text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));

const slug = (name) => name.toLowerCase().replace(/\W+/g, "-");

/** Open what the address points to. */
function follow() {
  const target = byId(location.hash.slice(1));
  if (!target) return;
  target.open = true;
  target.scrollIntoView();
}

addEventListener("hashchange", follow);
connection.onBack(load);
load();
