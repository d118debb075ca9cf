// The model card: facts from the bundle, and a small safe subset of Markdown. Builds nodes, never HTML text.

import { byId, make, signature, taskInWords } from "./common.js";

const LONGEST = 100_000; // characters of a card that are rendered

/** Fill the section `#about`. */
export function fillAbout(info) {
  const facts = [
    ["Task", taskInWords(info.task)],
    ["Takes", list(info.inputs)],
    ["Gives", list(info.outputs)],
    ["Made with", origin(info.source)],
    ["Answers by", answerer(info)],
    ["Golden cases", golden(info.golden)],
    ["Digest", info.digest ? make("code", { title: info.digest }, `${info.digest.slice(0, 16)}…`) : ""],
  ].filter(([, value]) => value);
  const table = make("dl", { className: "facts" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const card = make("div", { className: "card" }, ...markdown(info.card ?? ""));
  byId("about").replaceChildren(byId("about-title"), table, card);
}

function golden(found) {
  if (!found) return "";
  return `${found.cases}, recorded from ${found.source}${found.generated ? " with made-up inputs" : ""}`;
}

function answerer({ variant, runtime }) {
  if (!variant) return "";
  return `${variant === "packed" ? "the network as packed" : `variant ${variant}`} on ${runtime}`;
}

function origin(source) {
  const { framework = "", format = "" } = source ?? {};
  return framework.toLowerCase().includes(format.toLowerCase()) ? framework : [framework, format].filter(Boolean).join(", ");
}

function list(specs) {
  return (specs ?? []).map((spec) => `${spec.name} ${signature(spec)}`).join(", ");
}

/** Markdown to nodes: headings, paragraphs, lists, quotes, tables, code, emphasis, links. */
export function markdown(text) {
  const lines = text.slice(0, LONGEST).replace(/\r\n?/g, "\n").replace(/^---\n[^]*?\n---(\n|$)/, "").split("\n");
  const nodes = [];
  for (let at = 0; at < lines.length; ) {
    const [node, next] = block(lines, at);
    if (node) nodes.push(node);
    at = next;
  }
  return nodes;
}

const FENCE = /^\s*(```|~~~)/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^\s*([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^\s*>\s?(.*)$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** One block that begins at line `at`, and the line after it. */
function block(lines, at) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  const fence = FENCE.exec(line);
  if (fence) {
    let end = at + 1;
    while (end < lines.length && !lines[end].trim().startsWith(fence[1])) end += 1;
    return [make("pre", { tabIndex: 0 }, make("code", {}, lines.slice(at + 1, end).join("\n"))), end + 1];
  }
  const heading = HEADING.exec(line);
  // The page has the first two levels, so the card's begin at the third.
  if (heading) return [make(`h${Math.min(heading[1].length + 2, 5)}`, {}, ...inline(heading[2])), at + 1];
  if (RULE.test(line)) return [make("hr"), at + 1];
  if (line.includes("|") && DIVIDER.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) return table(lines, at);
  if (ITEM.test(line)) return items(lines, at);
  if (QUOTE.test(line)) {
    let end = at;
    while (end < lines.length && QUOTE.test(lines[end])) end += 1;
    const words = lines.slice(at, end).map((quoted) => QUOTE.exec(quoted)[1]).join(" ");
    return [make("blockquote", {}, ...inline(words)), end];
  }
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !starts(lines[end])) end += 1;
  return [make("p", {}, ...inline(lines.slice(at, end).join(" "))), end];
}

function starts(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line) || QUOTE.test(line);
}

function items(lines, at) {
  const tag = /^\s*\d/.test(lines[at]) ? "ol" : "ul";
  const texts = [];
  let end = at;
  for (; end < lines.length && lines[end].trim(); end += 1) {
    const item = ITEM.exec(lines[end]);
    if (item) texts.push(item[2]);
    else if (starts(lines[end])) break;
    else texts.push(`${texts.pop()} ${lines[end].trim()}`);
  }
  return [make(tag, {}, ...texts.map((words) => make("li", {}, ...inline(words)))), end];
}

function table(lines, at) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (tag, line) => make("tr", {}, ...cells(line).map((cell) => make(tag, {}, ...inline(cell))));
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const body = make("tbody", {}, ...lines.slice(at + 2, end).map((line) => row("td", line)));
  return [make("div", { className: "scroll" }, make("table", {}, make("thead", {}, row("th", lines[at])), body)), end];
}

// Every alternative stops at a bound, so no text makes the matching slow.
const INLINE = /`([^`]{1,400})`|\*\*([^*]{1,400})\*\*|\*([^*\s][^*]{0,400})\*|!?\[([^\][]{0,400})\]\(([^()\s]{1,800})\)|<(https?:\/\/[^<>\s]{1,800})>/g;

function inline(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    const [whole, code, strong, emphasis, label, target, bare] = match;
    if (code !== undefined) nodes.push(make("code", {}, code));
    else if (strong !== undefined) nodes.push(make("strong", {}, strong));
    else if (emphasis !== undefined) nodes.push(make("em", {}, emphasis));
    // A picture would be a request; its description is enough.
    else if (whole.startsWith("!")) nodes.push(label);
    else nodes.push(link(label ?? bare, target ?? bare));
  }
  nodes.push(text.slice(from));
  return nodes.filter((node) => node !== "");
}

/** A link, where the address is http or https; else its text. */
function link(label, target) {
  if (!/^https?:\/\//i.test(target)) return label;
  return make("a", { href: target, rel: "noopener noreferrer", target: "_blank" }, label || target);
}
