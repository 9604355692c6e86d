// The timeline.
const THIN = 2; // pixels
const canvas = $("lanes"), pen = canvas.getContext("2d");
let ink = {}, drawn = 0, edge = 0;
function readColours() {
  const css = getComputedStyle(document.documentElement);
  for (const key of ["ink", "card", "line", "rest", ...Array.from({ length: COLOURS }, (_, i) => `c${i}`)]) {
    ink[key] = css.getPropertyValue(`--${key}`).trim();
  }
}
const pitch = () => Math.max(10, Math.min(44, 360 / lanes));
const span = () => Number($("window").value) * 1e6;
function draw() {
  const width = canvas.clientWidth, row = pitch(), height = Math.ceil(row * lanes), dots = devicePixelRatio;
  if (canvas.width !== Math.round(width * dots) || canvas.height !== Math.round(height * dots)) {
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    canvas.style.height = `${height}px`;
  }
  edge = paused ?? Math.min(performance.now() * 1e3 - (skew ?? 0) - LAG_US, lastTick);
  const left = edge - span(), scale = width / span(), gap = row > 14 ? 4 : 2;
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.clearRect(0, 0, width, height);
  for (let lane = 0; lane < lanes; lane++) {
    pen.fillStyle = ink.card;
    pen.fillRect(0, lane * row + gap / 2, width, row - gap);
  }
  pen.fillStyle = ink.line;
  for (let i = 1; i < 4; i++) pen.fillRect(Math.round(width * i / 4), 0, 1, height);
  const tall = row - gap, thin = new Map();
  for (const bar of [...bars, ...running]) {
    const end = Math.min(edge, bar.end), x = Math.max(0, (bar.start - left) * scale);
    if (bar.start >= edge || end <= left) continue;
    const wide = (end - left) * scale - x;
    if (wide < THIN) {
      columns(thin, bar, 1 / scale);
      continue;
    }
    stack(bar.parts.map(({ template, us }) => [colourOf(template), us]),
      x, wide, (bar.lane + 1) * row - gap / 2, tall / Math.max(1, bar.end - bar.start));
    if (bar.stopped && wide > 5) {
      pen.fillStyle = ink.ink;
      pen.fillRect(x + wide - 1.5, bar.lane * row + gap / 2, 1.5, tall);
    }
  }
  for (const { lane, column, us } of thin.values()) {
    stack(us, (column / scale - left) * scale, 1, (lane + 1) * row - gap / 2, tall * scale);
  }
  if (chosen) {
    const x = (chosen.start - left) * scale, wide = Math.max(2, (chosen.end - chosen.start) * scale);
    pen.strokeStyle = ink.ink;
    pen.lineWidth = 1.5;
    pen.strokeRect(x, chosen.lane * row + gap / 2, wide, tall);
  }
}
// Bars too thin to draw share columns that stay with their time, so that nothing flickers.
function columns(thin, bar, wide) {
  const length = Math.max(1, bar.end - bar.start);
  for (let column = Math.floor(bar.start / wide); column * wide < bar.end; column++) {
    const inside = Math.min(bar.end, (column + 1) * wide) - Math.max(bar.start, column * wide);
    const key = column * lanes + bar.lane;
    if (!thin.has(key)) thin.set(key, { lane: bar.lane, column, us: new Map() });
    const { us } = thin.get(key);
    for (const part of bar.parts) {
      const colour = colourOf(part.template);
      us.set(colour, (us.get(colour) ?? 0) + part.us * inside / length);
    }
  }
}
function stack(parts, x, wide, bottom, scale) {
  let y = bottom;
  for (const [colour, us] of parts) {
    const high = Math.max(1, us * scale);
    pen.fillStyle = ink[colour];
    pen.fillRect(x, y - high, wide, high);
    y -= high;
  }
}
function loop(now) {
  if (source && !calm.matches && paused === null && now - drawn > 30) {
    drawn = now;
    draw();
  }
  requestAnimationFrame(loop);
}
function names() {
  const list = $("names"), from = Math.max(lastTick - RATE_US, samples[0]?.t ?? 0);
  while (list.children.length > lanes) list.lastChild.remove();
  while (list.children.length < lanes) {
    const item = list.appendChild(make("li")), name = make("span", "", "lane ");
    item.append(make("label"), make("b"));
    item.firstChild.append(name, String(list.children.length - 1));
  }
  const busy = Array(lanes).fill(0);
  for (const bar of [...bars, ...running]) {
    if (bar.end <= from) continue;
    const inside = (bar.end - Math.max(from, bar.start)) / Math.max(1, bar.end - bar.start);
    for (const { us } of bar.parts) busy[bar.lane] += us * inside;
  }
  [...list.children].forEach((item, i) => {
    item.style.height = `${pitch()}px`;
    put(item.lastChild, lastTick > from ? `${Math.round(100 * (share(busy[i], lastTick - from) ?? 0))} %` : "");
  });
}
function times() {
  const marks = [4, 3, 2, 1, 0].map((i) => make("span", "", i ? `\u2212${i * span() / 4e6} s` : "now"));
  $("times").replaceChildren(...marks);
}
function tell(bar) {
  chosen = bar;
  if (bar) {
    const length = Math.max(1, bar.end - bar.start);
    const who = bar.parts.map(({ template, us }) => bar.launches === 1 && bar.parts.length === 1 ?
      nameOf(template) : `${nameOf(template)} ${percent(us / length)}`).join(", ");
    const what = bar.launches === 1 ?
      `${many(bar.calls, "request")}, the first of ${bar.model}` :
      `${whole(bar.launches)} launches, ${many(bar.calls, "request")}`;
    const stopped = bar.stopped ? `; ${bar.stopped === bar.launches ? "" : `${bar.stopped} `}stopped early` : "";
    put($("told"), `Lane ${bar.lane}, ${ms(length)}: ${who}; ${what}${stopped}.`);
  }
  draw();
}
function barAt(x, y) {
  const at = edge - span() + x / canvas.clientWidth * span(), lane = Math.floor(y / pitch());
  const near = span() / canvas.clientWidth * 2;
  return [...running, ...bars].findLast((b) => b.lane === lane && b.start - near <= at && at <= b.end + near);
}
function step(key) {
  const all = bars.filter((bar) => bar.end > edge - span() && bar.start < edge);
  if (!all.length) return;
  const now = chosen ?? all.at(-1);
  const turn = { ArrowUp: -1, ArrowDown: 1 }[key] ?? 0;
  const lane = (now.lane + turn + lanes) % lanes, own = all.filter((bar) => bar.lane === lane);
  if (!own.length) return;
  const place = own.findLastIndex((bar) => bar.start <= now.start);
  const next = chosen ? place + ({ ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0) : own.length - 1;
  tell(own[Math.max(0, Math.min(own.length - 1, next))]);
}
function pause() {
  paused = paused === null ? edge : null;
  $("pause").setAttribute("aria-pressed", String(paused !== null));
  draw();
}
