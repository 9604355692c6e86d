// What all parts of the page's script share, and the figures at its top.
//
// figures.js, models.js, lanes.js and main.js are one script. Events tell it all it knows:
//   whole  everything: stats, roster, counts of all rows
//   tick   stats, bars that ended, what runs, rows of models that changed
// Text gets into the page by textContent only, so names of models can be anything.
const $ = (id) => document.getElementById(id);
const RATE_US = 5e6; // rates are of the last seconds
const KEEP_US = 12e6; // bars that are kept
const LAG_US = 600e3; // the right edge: by then, what ended has been told
const LINE = 40; // points of small curves, one a second
const COLOURS = 8;
const SHOWN = 200; // rows of a group
const RETRY_MS = 3000;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

let samples = []; // of the runtime's counters, one an event
let lines = { rate: [], attained: [], queued: [], busy: [] };
let bars = [], running = [], lanes = 1;
let groups = [], rows = [], groupOf = new Map(); // template -> group
let totals = [], colours = new Map();
let skew = null, lastTick = 0, source = null, paused = null, chosen = null;

// Numbers for people.
const whole = (n) => Math.round(n).toLocaleString("en-US");
const short = (n) => n >= 100 ? whole(n) : n >= 10 ? n.toFixed(1) : n.toFixed(2);
const percent = (x) => x == null ? "\u2013" : `${(100 * x).toFixed(x < 1 && x > 0.9995 ? 3 : 1)} %`;
const many = (n, what) => `${whole(n)} ${what}${n === 1 ? "" : "s"}`;
const ms = (us) => `${us >= 1e5 ? whole(us / 1e3) : us >= 1e4 ? (us / 1e3).toFixed(1) : (us / 1e3).toFixed(2)} ms`;
const share = (a, b) => b > 0 ? Math.min(1, Math.max(0, a / b)) : null;

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
function make(tag, css, text) {
  const node = document.createElement(tag);
  if (css) node.className = css;
  if (text != null) node.textContent = text;
  return node;
}

// Figures: what was counted, and what that is a second.
function sample(told) {
  const s = told.stats, outcomes = s.outcomes ?? {};
  const now = { t: told.t, done: outcomes.done ?? 0, promised: s.promised ?? 0, kept: s.kept ?? 0,
    asked: s.submitted ?? 0, busy: (s.busy_ns ?? 0) / 1e3 };
  for (const bar of running) now.busy += told.t - bar.start;
  const last = samples.at(-1);
  if (last && (now.t <= last.t || now.done < last.done)) samples = []; // another server
  samples.push(now);
  while (samples.length > 2 && samples[0].t < now.t - 2 * RATE_US) samples.shift();
  return now;
}
function since(us) {
  const now = samples.at(-1);
  return samples.find((s) => s.t >= now.t - us) ?? now;
}
function figures(told) {
  const s = told.stats, now = sample(told), was = since(RATE_US), before = since(2 * RATE_US);
  const seconds = (now.t - was.t) / 1e6, known = seconds > 0.9;
  const rate = (now.done - was.done) / seconds, outcomes = s.outcomes ?? {};
  const busy = share(now.busy - was.busy, (now.t - was.t) * lanes);
  put($("rate"), known ? short(rate) : "\u2013");
  put($("rate-more"), known ? `${short((now.asked - was.asked) / seconds)} asked a second` : "");
  const late = share(now.kept - before.kept, now.promised - before.promised);
  put($("attained"), percent(share(now.kept, now.promised)));
  put($("attained-more"), now.promised ? `of ${whole(now.promised)}` + (late === null ? "" :
    `; ${percent(late)} in the last ${Math.round(2 * RATE_US / 1e6)} s`) : "none was named");
  put($("queued"), whole(s.queued ?? 0));
  put($("queued-more"), `${whole(s.in_flight ?? 0)} in flight`);
  put($("busy"), known ? percent(busy) : "\u2013");
  put($("busy-more"), s.lanes == null ? "" : `${s.running_lanes} of ${s.lanes} running now`);
  put($("batch"), s.launches ? short(s.mean_batch) : "\u2013");
  put($("batch-more"), s.launches ?
    `${percent(s.batch_fill)} full, ${short(s.mean_pack)} packs a launch` : "");
  put($("done"), whole(outcomes.done ?? 0));
  put($("done-more"), `${many(s.launches ?? 0, "launch").replace(/launchs$/, "launches")}, ` +
    `${whole(s.preemptions ?? 0)} stopped early`);
  const missed = Object.entries(outcomes).filter(([how, n]) => how !== "done" && n);
  put($("missed"), whole(missed.reduce((sum, [, n]) => sum + n, 0)));
  put($("missed-more"), missed.map(([how, n]) => `${whole(n)} ${how}`).join(", "));
  reasons(s.reasons ?? []);
  return { rate: known ? rate : null, attained: late, queued: s.queued ?? 0, busy: known ? busy : null };
}
function took() {
  const now = totals.at(-1), was = totals[0];
  const n = now.answered - was.answered;
  put($("took"), n > 0 ? ms((now.us - was.us) / n) : "\u2013");
  put($("took-more"), now.answered ? `${ms(now.us / now.answered)} since the start` : "");
}
function curves(values) {
  for (const [key, points] of Object.entries(lines)) {
    points.push(values[key]);
    if (points.length > LINE) points.shift();
    const top = key === "attained" || key === "busy" ? 1 : Math.max(1, ...points);
    let d = "";
    points.forEach((value, i) => {
      if (value == null) return;
      const x = 100 * (i + LINE - points.length) / (LINE - 1);
      d += `${d && points[i - 1] != null ? "L" : "M"}${x.toFixed(1)} ${(30 - 28 * value / top).toFixed(1)}`;
    });
    const svg = $(`${key}-line`);
    if (!svg.firstChild) {
      svg.setAttribute("viewBox", "0 0 100 30");
      svg.setAttribute("preserveAspectRatio", "none");
      svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    }
    svg.firstChild.setAttribute("d", d);
  }
}
function reasons(list) {
  $("reasons").hidden = !list.length;
  const text = list.map(([why, n]) => `${whole(n)}: ${why}`);
  const shown = $("why");
  while (shown.children.length > text.length) shown.lastChild.remove();
  text.forEach((line, i) => put(shown.children[i] ?? shown.appendChild(make("li")), line));
}
