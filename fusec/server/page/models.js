// Models, in groups of one architecture.
function labelOf(names) {
  if (names.length === 1) return names[0];
  let prefix = names[0];
  for (const name of names) while (!name.startsWith(prefix)) prefix = prefix.slice(0, -1);
  prefix = prefix.replace(/\d+$/, "");
  return prefix.length > 2 ? `${prefix}\u2026` : `${names[0]}, ${names[1]}${names.length > 2 ? ", \u2026" : ""}`;
}
function roster(told) {
  const logs = new Map(rows.map((row) => [row.key, row.log]));
  const open = new Map(groups.map((group) => [group.key, group.open]));
  for (const group of groups) group.body.remove();
  groupOf = new Map();
  groups = told.roster.groups.map((group, number) => {
    for (const template of group.templates) groupOf.set(template, number);
    return { key: group.templates[0] ?? "", ports: group.ports, rows: [] };
  });
  const idle = { key: null, ports: "", rows: [] };
  rows = told.roster.models.map(([name, version, group, state, why], i) => {
    const key = JSON.stringify([name, version]);
    const row = { key, name, version, state, why, log: logs.get(key) ?? [], counts: told.counts[i] };
    (groups[group] ?? idle).rows.push(row);
    return row;
  });
  if (groups.length <= COLOURS) groups.forEach(give);
  if (idle.rows.length) groups.push(idle);
  for (const group of groups) {
    const names = [...new Set(group.rows.map((row) => row.name))];
    group.label = group === idle ? "not serving" : labelOf(names);
    group.open = open.get(group.key) ?? rows.length <= 40;
    group.body = $("none").parentNode.appendChild(make("tbody"));
    header(group, names.length);
    fill(group);
  }
  $("none").hidden = rows.length > 0;
  const n = new Set(rows.map((row) => row.name)).size;
  const serving = groups.length - (idle.rows.length ? 1 : 0);
  put($("about"), `${many(n + told.roster.more, "model")} in ${many(serving, "group")}`);
  put($("more"), told.roster.more ? `${whole(told.roster.more)} more are not shown here.` : "");
  legend();
}
function header(group, n) {
  group.head = null;
  if (group.rows.length === 1 && group.key !== null) return;
  const row = group.head = make("tr", "group"), name = make("th");
  name.scope = "rowgroup";
  group.button = make("button");
  group.button.type = "button";
  group.chip = make("span", "chip");
  group.button.append(group.chip, make("span", "", group.label));
  group.button.addEventListener("click", () => { group.open = !group.open; fill(group); });
  const told = group.key === null ? many(n, "model") : `${many(n, "model")}: ${group.ports}`;
  name.append(group.button, make("small", "", told));
  row.append(name, ...cells(group));
  group.body.append(row);
}
function cells(owner) {
  owner.cells = ["wide", "", "", "wide", "", "wide"].map((css) => make("td", css));
  return owner.cells;
}
function fill(group) {
  const find = $("find").value.trim().toLowerCase();
  const found = group.rows.filter((row) => row.name.toLowerCase().includes(find));
  const open = !group.head || (find ? found.length > 0 : group.open);
  for (const row of group.rows) row.node = null;
  while (group.body.lastChild && group.body.lastChild !== group.head) group.body.lastChild.remove();
  group.body.hidden = find !== "" && !found.length;
  if (group.head) group.button.setAttribute("aria-expanded", String(open));
  for (const row of open ? found.slice(0, SHOWN) : []) {
    row.node = make("tr", "model");
    const name = make("th");
    name.scope = "row";
    const line = name.appendChild(make("div", "line"));
    if (!group.head) {
      row.node.className = "group alone";
      group.chip = line.appendChild(make("span", "chip"));
    }
    line.append(make("span", "", row.name));
    if (!group.head) name.append(make("small", "", group.ports));
    if (row.state !== "READY") name.append(make("small", "", `${row.state} ${row.why}`.trim()));
    row.node.append(name, ...cells(row));
    group.body.append(row.node);
  }
  if (open && found.length > SHOWN) {
    const cell = make("td", "", `${whole(found.length - SHOWN)} more; look for them by name.`);
    cell.colSpan = 7;
    group.body.appendChild(make("tr")).append(cell);
  }
  paint(group);
  table(group);
}
function rowRate(row, t) {
  const log = row.log;
  while (log.length > 1 && log[1][0] <= t - RATE_US) log.shift();
  if (log.length && log[0][0] < t - RATE_US && log.length > 1) log[0][0] = Math.max(log[0][0], t - RATE_US);
  const [at, answered, us] = log[0] ?? [t, row.counts[0], row.counts[3]];
  const n = row.counts[0] - answered, seconds = (t - at) / 1e6;
  return { n, us: row.counts[3] - us, rate: seconds > 0.9 ? n / seconds : 0 };
}
function table(group) {
  const sum = [0, 0, 0, 0], all = { n: 0, us: 0, rate: 0 };
  for (const row of group.rows) {
    const recent = rowRate(row, lastTick);
    row.counts.forEach((n, i) => { sum[i] += n; });
    for (const key of Object.keys(all)) all[key] += recent[key];
    if (row.node) show(row, row.version, row.counts, recent);
  }
  if (group.head) show(group, "", sum, all);
}
function show(owner, version, [answered, failed, pending, us], recent) {
  const mean = recent.n ? recent.us / recent.n : answered ? us / answered : null;
  const text = [version, recent.rate ? short(recent.rate) : "0", mean == null ? "\u2013" :
    short(mean / 1e3), whole(pending), whole(answered), whole(failed)];
  text.forEach((line, i) => put(owner.cells[i], line));
  owner.cells[5].classList.toggle("bad", failed > 0);
  if (owner.node) owner.node.classList.toggle("idle", !recent.n);
}
function changed(told) {
  const t = told.t;
  for (const [i, ...counts] of told.rows) {
    const row = rows[i];
    // Nothing had changed up to the look before this one.
    const before = [Math.max(t - 1.1e6, row.log.at(-1)?.[0] ?? 0), row.counts[0], row.counts[3]];
    if (!row.log.length || row.log.at(-1)[0] < before[0]) row.log.push(before);
    row.counts = counts;
    row.log.push([t, counts[0], counts[3]]);
  }
  const total = { t, answered: 0, us: 0 };
  for (const row of rows) { total.answered += row.counts[0]; total.us += row.counts[3]; }
  if (totals.length && total.answered < totals.at(-1).answered) totals = [];
  totals.push(total);
  while (totals.length > 2 && totals[0].t < t - RATE_US) totals.shift();
  took();
  for (const group of groups) table(group);
}

// Colours are given once: to groups in their order or, if they are too many, as they first run.
function colourOf(template) {
  const group = groups[groupOf.get(template)];
  if (!group) return "rest";
  if (!colours.has(group.key)) {
    give(group);
    paint(group);
    legend();
  }
  return colours.get(group.key);
}
function give(group) {
  if (!colours.has(group.key)) colours.set(group.key, colours.size < COLOURS ? `c${colours.size}` : "rest");
}
function paint(group) {
  if (group.chip) group.chip.className = `chip ${colours.get(group.key) ?? "rest"}`;
}
function legend() {
  const items = groups.filter((g) => (colours.get(g.key) ?? "rest") !== "rest").map((group) => {
    const item = make("li");
    item.append(make("i", colours.get(group.key)), group.label);
    return item;
  });
  if (items.length && groups.length > items.length) {
    const item = make("li");
    item.append(make("i", "rest"), "others");
    items.push(item);
  }
  $("legend").replaceChildren(...items);
}
const nameOf = (template) => groups[groupOf.get(template)]?.label ?? "others";
