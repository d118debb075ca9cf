// Differences of counts, percentiles of buckets, and numbers as people read them. Touches no page.

/** Add numbers up. */
export const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

const total = (counts) => sum(Object.values(counts ?? {}));

/** What one version has counted so far, as one flat object of sums. */
function counted({ figures }) {
  const stages = Object.entries(figures.stages).map(([name, { seconds }]) => [name, seconds]);
  return {
    answered: figures.answered,
    refused: total(figures.refused),
    failed: total(figures.failed),
    rows: figures.rows,
    executions: figures.executions,
    counts: figures.latency.counts,
    shadow: figures.shadow,
    shadowUnmet: figures.shadow_unmet,
    stages: Object.fromEntries(stages),
    batches: Object.fromEntries(figures.batches.map(({ rows, count }) => [rows, count])),
  };
}

/** One answer of the server, as far as differences need it. */
export function sampleOf(data) {
  return {
    time: data.time,
    started: data.started,
    cpu: sum(data.processes.map((p) => p.cpu_seconds)),
    refused: total(data.refused),
    versions: new Map(data.versions.map((v) => [keyOf(v), counted(v)])),
  };
}

/** A version's key on this page. */
export const keyOf = ({ figures }) => `${figures.name}\n${figures.version}`;

const NOTHING = { answered: 0, refused: 0, failed: 0, rows: 0, executions: 0, counts: [], shadow: [], shadowUnmet: 0, stages: {}, batches: {} };

const minus = (now, then) =>
  Object.fromEntries(Object.entries(now).map(([key, value]) => [key, value - (then[key] ?? 0)]));

const less = (now, then) => now.map((count, i) => count - (then[i] ?? 0));

/** What one version did between two samples; counts that fell began again at zero. */
export function between(now, then, key) {
  const late = now.versions.get(key) ?? NOTHING;
  let early = then?.versions.get(key) ?? NOTHING;
  if (early.answered > late.answered || early.executions > late.executions) early = NOTHING;
  return {
    answered: late.answered - early.answered,
    refused: Math.max(late.refused - early.refused, 0),
    failed: Math.max(late.failed - early.failed, 0),
    rows: late.rows - early.rows,
    executions: late.executions - early.executions,
    counts: less(late.counts, early.counts),
    shadow: less(late.shadow, early.shadow),
    shadowUnmet: Math.max(late.shadowUnmet - early.shadowUnmet, 0),
    stages: minus(late.stages, early.stages),
    batches: minus(late.batches, early.batches),
  };
}

/** What callers got between two samples: of all versions, less what was asked as a shadow. */
export function everything(now, then) {
  const parts = [...now.versions.keys()].map((key) => between(now, then, key));
  const add = (field) => sum(parts.map((part) => part[field]));
  const before = Math.max(now.refused - (then?.refused ?? 0), 0); // a version was known
  const seen = parts.map((part) => less(part.counts, part.shadow));
  const counts = (seen[0] ?? []).map((_, i) => sum(seen.map((each) => each[i])));
  return { answered: sum(counts), unmet: add("refused") + add("failed") - add("shadowUnmet") + before, counts };
}

/** The duration in seconds that `share` of all were at most, null where there were none. */
export function quantile(counts, bounds, share) {
  const rank = share * sum(counts);
  let running = 0;
  for (const [i, count] of counts.entries()) {
    if (count > 0 && running + count >= rank) {
      if (i === bounds.length) return bounds.at(-1);
      const low = i ? bounds[i - 1] : 0;
      return low + ((bounds[i] - low) * (rank - running)) / count;
    }
    running += count;
  }
  return null;
}

/** A measured number: three digits that matter, but no whole number cut. */
export function short(number) {
  const digits = number >= 100 || number === 0 ? 0 : number >= 10 ? 1 : 2;
  return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A number of things. */
export const whole = (number) => number.toLocaleString("en", { maximumFractionDigits: 0 });

/** How far answers are apart; null is what JSON makes of an infinite difference. */
export function apart(difference) {
  if (difference === null) return "off by more than a number says";
  if (difference === 0) return "to the last digit";
  return `off by at most ${difference >= 1e-3 ? Number(difference.toPrecision(2)) : difference.toExponential(1)}`;
}

/** `1 request`, `2 requests`. */
export const things = (number, thing) => `${whole(number)} ${thing}${number === 1 ? "" : "s"}`;

/** A duration in seconds, as [number, unit]. */
export function duration(seconds) {
  if (seconds == null) return ["–", ""];
  if (seconds < 1e-3) return [short(seconds * 1e6), "µs"];
  if (seconds < 1) return [short(seconds * 1e3), "ms"];
  return [short(seconds), "s"];
}

/** Bytes, as [number, unit]. */
export function bytes(size) {
  return size >= 1e9 ? [short(size / 1e9), "GB"] : [short(size / 1e6), "MB"];
}

/** A share, as [number, unit]. */
export function percent(share) {
  if (share == null) return ["–", ""];
  if (share === 0) return ["0", "%"];
  if (share < 0.0001) return ["<0.01", "%"];
  // 99.87 % and 0.032 % both say something in their last digit.
  return [(share * 100).toLocaleString("en", { maximumSignificantDigits: share > 0.99 ? 4 : share > 0.1 ? 3 : 2 }), "%"];
}

/** Seconds as `3 h 12 min`. */
export function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = Math.max(parts.findIndex(([size]) => seconds >= size), 0);
  if (seconds < 1) return "0 s";
  const [size, unit] = parts[first];
  const [next, nextUnit] = parts[first + 1] ?? [];
  const rest = next ? Math.floor((seconds % size) / next) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${nextUnit}` : ""}`;
}

/** A reason as it stands in the figures (`queue_full`), as words. */
export const words = (reason) => reason.replaceAll("_", " ");
