// Events.
const unpacked = (told) => told.rows.map(([lane, start, end, launches, calls, stopped, parts, model]) => ({
  lane, start, end, launches, calls, stopped, model,
  parts: parts.map(([i, us]) => ({ template: told.templates[i], us })) }));
function take(told) {
  if (told.t < lastTick) { bars = []; skew = null; totals = []; }
  lastTick = told.t;
  lanes = told.stats.lanes ?? 1;
  const late = performance.now() * 1e3 - told.t;
  skew = skew === null ? late : Math.min(late, skew + 2e3);
  if (told.running) running = unpacked(told.running);
  if (told.bars) bars.push(...unpacked(told.bars));
  bars = bars.slice(Math.max(0, bars.findIndex((bar) => bar.end > told.t - KEEP_US)));
  if (told.roster) roster(told);
  state(told.state);
  const values = figures(told);
  if (told.roster && !told.rows) changed({ ...told, rows: [] });
  if (told.rows) { changed(told); curves(values); }
  names();
  if (told.roster || (calm.matches && told.rows)) draw();
}
function state(name, text) {
  const node = $("state");
  node.className = name;
  put(node, text ?? { ready: "ready", starting: "starting", ending: "ending" }[name]);
}
function join() {
  if (source || document.hidden) return;
  const own = source = new EventSource("page/events");
  const hear = (message) => take(JSON.parse(message.data));
  own.addEventListener("whole", hear);
  own.addEventListener("tick", hear);
  own.addEventListener("end", () => part("ending", "the server is ending"));
  own.addEventListener("error", () => part("lost", "connection lost, trying again"));
}
function part(name, text) {
  leave();
  state(name, text);
  setTimeout(join, RETRY_MS);
}
function leave() {
  source?.close();
  source = null;
  running = [];
}

canvas.addEventListener("pointermove", (e) => tell(barAt(e.offsetX, e.offsetY)));
canvas.addEventListener("pointerdown", (e) => tell(barAt(e.offsetX, e.offsetY)));
canvas.addEventListener("keydown", (e) => {
  if (e.key === " ") pause();
  else if (e.key === "Escape") tell(undefined);
  else if (e.key.startsWith("Arrow")) step(e.key);
  else return;
  e.preventDefault();
});
$("pause").addEventListener("click", pause);
$("window").addEventListener("change", () => { times(); draw(); });
$("find").addEventListener("input", () => groups.forEach(fill));
dark.addEventListener("change", () => { readColours(); draw(); });
document.addEventListener("visibilitychange", () => document.hidden ? leave() : join());
addEventListener("resize", draw);

readColours();
times();
take(JSON.parse($("data").textContent));
join();
requestAnimationFrame(loop);
