"""The style sheet of report.html: light and dark, from 320 pixels up."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b1d22;--quiet:#666c78;--page:#fff;--card:#f5f6f8;--line:#dfe2e8;--accent:#0072b2;
--hot:#b3400a;--hot-page:#fff1e8}
@media(prefers-color-scheme:dark){:root{--ink:#e9ebef;--quiet:#9aa1ad;--page:#15171b;--card:#1f2228;--line:#343943;
--accent:#56b4e9;--hot:#ffab7a;--hot-page:#3a2315}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:20px 16px 48px}
h1{margin:0;font-size:1.7rem;line-height:1.2;overflow-wrap:anywhere}
h2{margin:2.2rem 0 .6rem;font-size:1.15rem}
p{margin:.3rem 0}
.kind{margin:0;color:var(--quiet);font-size:.85rem}
.score b{font-size:2.3rem;font-variant-numeric:tabular-nums;margin-right:.3rem}
.quiet{color:var(--quiet);font-weight:400;font-size:.88rem}
.warning{background:var(--hot-page);color:var(--hot);border-left:4px solid var(--hot);padding:.6rem .8rem;
margin:1rem 0 0;overflow-wrap:anywhere}
.plot{display:block;width:100%;max-width:900px;height:auto;margin-top:1rem;border-radius:8px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.42rem .5rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:baseline}
th{font-weight:500}
th:first-child{text-align:left;padding-left:0}
td:last-child,th:last-child{padding-right:0}
thead th{color:var(--quiet);font-size:.85rem}
.strong{font-weight:700}
td.note{text-align:left;color:var(--quiet);font-size:.88rem;overflow-wrap:anywhere}
.part{white-space:nowrap}
.tag{display:inline-block;margin-left:.4rem;padding:0 .4rem;border:1px solid var(--line);border-radius:4px;
color:var(--quiet);font-size:.75rem;white-space:nowrap}
.tag.hot{color:var(--hot);border-color:var(--hot)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));gap:12px}
figure{margin:0}
.charts figure{background:var(--card);border-radius:8px;padding:10px;max-width:520px}
figcaption{font-size:.85rem;font-weight:600;overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto;font:11px system-ui,sans-serif;fill:var(--quiet)}
svg .bar{fill:var(--accent)}
svg .axis{stroke:var(--quiet);fill:none}
svg .mean{stroke:var(--ink);stroke-dasharray:3 3;fill:none}
svg .strong{fill:var(--ink)}
.faces{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:12px;margin-top:.6rem}
.face{background:var(--card);border-radius:8px;padding:10px;max-width:420px}
.face>div{display:flex;gap:6px;margin-top:6px}
.faces.large{grid-template-columns:repeat(auto-fill,minmax(min(100%,560px),1fr))}
.large .face{max-width:840px}
.large .face>div{flex-wrap:wrap}
.large .cell{flex:1 1 150px;max-width:256px}
.cell{flex:1 1 0;min-width:0;text-align:center;line-height:1.3}
.cell span{display:block;font-variant-numeric:tabular-nums}
.cell img{display:block;width:100%;height:auto;border-radius:4px;margin-bottom:3px;background:var(--line)}
.cell .low{image-rendering:pixelated}
dl{margin:.6rem 0 0;font-size:.88rem}
dt{color:var(--quiet);margin-top:.5rem}
dd{margin:0;overflow-wrap:anywhere}
@media(max-width:600px){.wide{display:none}th,td{padding:.42rem .35rem}.tag{margin-left:.25rem}}
@media(min-width:800px){dl{display:grid;grid-template-columns:15rem 1fr;gap:.35rem 1rem}dt{margin-top:0}}
@media print{main{max-width:none}.face,.charts figure{break-inside:avoid}}
"""
