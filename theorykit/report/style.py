"""The style sheet of the HTML report: light and dark, wide and narrow, no file or font from elsewhere."""

from __future__ import annotations

from theorykit.report.figures import COLOURS

_LIGHT = "".join(f"--{name}: {colour};" for name, colour in COLOURS.items())

TABLE_CSS = """
.tk-table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .85rem; }
.tk-table th, .tk-table td { padding: .35rem .5rem; white-space: nowrap; text-align: left; vertical-align: top; }
.tk-table th { border-bottom: 2px solid var(--faint, #b9bec7); font-weight: 600; }
.tk-table td { border-bottom: 1px solid var(--line, #e3e6ea); }
.tk-table .verdict { font-weight: 600; }
.supported { color: var(--good, #0a7040); } .refuted { color: var(--bad, #b42318); }
.inconclusive { color: var(--unsure, #8a5a00); } .not-applicable { color: inherit; }
.unexpected { font-weight: 700; text-decoration: underline; }
"""

PAGE_CSS = (
    ":root { color-scheme: light dark; --paper: #ffffff; --panel: #f6f7f9; --line: #e3e6ea; --soft: #525a66;"
    " --link: #1a56b0; --good: #0a7040; --bad: #b42318; --unsure: #8a5a00;"
    + _LIGHT
    + """ }
@media (prefers-color-scheme: dark) { :root { --paper: #15181d; --panel: #1d2127; --line: #30363f; --soft: #a7b0bd;
  --link: #8ab8ff; --good: #5fd39a; --bad: #ff8f80; --unsure: #f0bf5a; --ink: #e8eaee; --faint: #5c6470;
  --measured: #7fb0ff; --theory: #5fd39a; --control: #ff9a5c; --fit: #c0a0ff; --fifth: #f0bf5a; --sixth: #a7b0bd; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 80rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
a { color: var(--link); }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1.1rem; margin: 0 0 .3rem; } h4 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
h1, h2, h3, h4, p, dd, li, code { overflow-wrap: anywhere; }
p, dl, ul { max-width: 46rem; } .soft { color: var(--soft); }
.headline { font-size: 1.1rem; padding: .7rem 1rem; border-left: 5px solid var(--good); background: var(--panel);
  max-width: none; }
.headline.code-1, .headline.code-130 { border-color: var(--bad); } .headline.code-3 { border-color: var(--unsure); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1rem; margin: .6rem 0; }
dt { font-weight: 600; } dd { margin: 0; }
.claim { border-top: 2px solid var(--faint); margin-top: 2.4rem; padding-top: 1.2rem; }
.result { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1rem 0; }
.result h4 { margin-top: 0; }
.verdict { font-weight: 600; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
figure { margin: 0; flex: 0 1 27rem; min-width: 0; } figcaption { font-size: .875rem; color: var(--soft); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: inherit !important; }
table.cards { width: 100%; }
.scroll { overflow-x: auto; } .scroll:focus-visible { outline: 2px solid var(--link); }
details { margin: 0; } summary { cursor: pointer; padding: .25rem 0; }
pre { background: var(--panel); border: 1px solid var(--line); padding: .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; border-radius: 6px; }
"""
    + TABLE_CSS
    + """
@media (max-width: 640px) {
  body { padding: 1rem .8rem 3rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  .result { padding: .8rem; }
  .cards thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .cards, .cards tbody, .cards td { display: block; width: auto; }
  .cards tr { display: grid; grid-template-columns: 1fr 1fr; border: 1px solid var(--line); border-radius: 8px;
    padding: .4rem .2rem; margin: .7rem 0; }
  .cards td { border: 0; padding: .15rem .5rem; white-space: normal; overflow-wrap: anywhere; }
  .cards td:first-child { grid-column: 1 / -1; font-weight: 600; }
  .cards td::before { content: attr(data-label) ": "; color: var(--soft); font-weight: 400; }
}
@media (min-width: 641px) and (max-width: 1150px) {
  .cards { font-size: .78rem; } .cards th, .cards td { white-space: normal; padding: .3rem .3rem; }
  .cards .verdict, .cards td:nth-child(2) { white-space: nowrap; }
}
@media print { details > * { display: block; } .result { break-inside: avoid; } }
"""
)
