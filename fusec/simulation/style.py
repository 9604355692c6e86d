"""How the page of a simulated run looks, in light and dark."""

__all__ = ["STYLE"]

STYLE = """
:root{--ink:#1c2330;--soft:#5b6678;--line:#d9dee7;--back:#fff;--card:#f5f7fa;
--c0:#2f6fde;--c1:#e07b00;--c2:#129a6c;--c3:#c2378f;--c4:#7a52d1;--c5:#0f95b0;--c6:#a8790a;
--c7:#c8402f;--rest:#8a94a6}
@media(prefers-color-scheme:dark){:root{--ink:#e7ebf2;--soft:#9aa6b8;--line:#344054;--back:#12161d;
--card:#1b212b;--c0:#6ea2ff;--c1:#ffa13d;--c2:#3ecb98;--c3:#ee74c1;--c4:#ac8cf5;--c5:#4cc8e0;
--c6:#d9ad3f;--c7:#f2776a}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:22px;margin:0 0 16px}h2{font-size:17px;margin:32px 0 4px}
p{margin:0 0 8px;color:var(--soft)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:8px;margin:0}
.figures div{background:var(--card);border-radius:6px;padding:8px 12px}
dt{color:var(--soft);font-size:13px}dd{margin:0;font-size:19px;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{font-weight:600}th:first-child{text-align:left;position:sticky;left:0;background:var(--back)}
thead th{color:var(--soft);font-size:13px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:0 0 8px;padding:0;
font-size:13px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:6px}
.chart{display:grid;grid-template-columns:auto minmax(0,1fr);column-gap:8px}
.ys{display:flex;flex-direction:column;justify-content:space-between;text-align:right;margin:-9px 0}
.ys,.xs{color:var(--soft);font-size:12px;line-height:18px;white-space:nowrap}
.xs{grid-column:2;display:flex;justify-content:space-between;margin-top:4px}
.rows .ys{justify-content:space-around;margin:0}
svg.plot{width:100%;height:240px;overflow:visible}
svg.strip{width:100%;height:calc(32px*var(--rows));background:var(--card);border-radius:4px}
.grid{stroke:var(--line);vector-effect:non-scaling-stroke;fill:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round;vector-effect:non-scaling-stroke}
.fill{fill:var(--c0);opacity:.14}
.worst{stroke:var(--ink);stroke-width:2;vector-effect:non-scaling-stroke}
""" + "".join(
    f".{c}{{fill:var(--{c});background:var(--{c})}}.line.{c}{{stroke:var(--{c});fill:none}}"
    for c in (*(f"c{i}" for i in range(8)), "rest")
)
