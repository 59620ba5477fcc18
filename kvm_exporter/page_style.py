"""How the landing page looks: two palettes, one style, and the hash by which its Content-Security-Policy knows it.

System fonts, no script, no outside resource. Every state has a word; colour and shape only repeat it.
"""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256

LIGHT = {
    "ground": "#f6f7f9",
    "sheet": "#ffffff",
    "ink": "#1c2127",
    "muted": "#59626d",
    "line": "#dce0e5",
    "link": "#0b57b0",
    "ok": "#1a6636",
    "ok-tint": "#eaf6ee",
    "note": "#1c5394",
    "note-tint": "#ebf3fc",
    "warning": "#7d4a00",
    "warning-tint": "#fdf4e0",
    "critical": "#a3151f",
    "critical-tint": "#fdeeee",
}
DARK = {
    "ground": "#121518",
    "sheet": "#1a1e22",
    "ink": "#e3e6ea",
    "muted": "#a0a9b3",
    "line": "#333a41",
    "link": "#82bbff",
    "ok": "#7cd499",
    "ok-tint": "#16271c",
    "note": "#8fc1fb",
    "note-tint": "#17253a",
    "warning": "#efc06a",
    "warning-tint": "#2d2412",
    "critical": "#ff9c9c",
    "critical-tint": "#371a1c",
}


_RULES = """
* { box-sizing: border-box; }
html { font: 100%/1.5 system-ui, sans-serif; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: anywhere; }
header, main, footer { max-width: 75rem; margin: 0 auto; padding: 0 1.5rem; }
h1, h2, p, ul, dl, dd { margin: 0; }
a { color: var(--link); text-underline-offset: .2em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 3px; border-radius: 2px; }
code, time { font-variant-numeric: tabular-nums; }
code { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .9em; }

header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem 2rem; padding-block: 1.25rem; }
header p { font-weight: 600; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; padding: 0; list-style: none; }
footer { padding-block: 2rem; color: var(--muted); font-size: .875rem; }

.ok { --tone: var(--ok); --tint: var(--ok-tint); }
.note { --tone: var(--note); --tint: var(--note-tint); }
.warning { --tone: var(--warning); --tint: var(--warning-tint); }
.critical { --tone: var(--critical); --tint: var(--critical-tint); }

.status { padding: 1.25rem 1.5rem 1.25rem 1.1875rem; border-left: .375rem solid var(--tone); border-radius: .375rem;
  background: var(--tint); }
.status h1 { font-size: 1.625rem; font-weight: 600; line-height: 1.25; }
.status h1 > * { display: inline-block; text-wrap: balance; }
.status .level { display: block; margin-bottom: .375rem; color: var(--tone); font-size: .8125rem;
  letter-spacing: .08em; }
.status ul { margin-top: .75rem; padding-left: 1.25rem; }
.status li { margin-top: .25rem; padding-left: .25rem; }
.status li::marker { color: var(--tone); }
.when { margin-top: .75rem; color: var(--muted); font-size: .9375rem; }

h2 { margin: 2.25rem 0 .75rem; font-size: 1.125rem; font-weight: 600; line-height: 1.3; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1rem 2rem;
  padding: 1.25rem 1.5rem; }
dl, .failed { border: 1px solid var(--line); border-radius: .375rem; background: var(--sheet); }
.failed { padding: 1rem 1.5rem 1rem 2.5rem; }
dt, dd + dd { color: var(--muted); font-size: .875rem; }

.sheet { border: 1px solid var(--line); border-radius: .375rem; background: var(--sheet); }
table { width: 100%; border-collapse: collapse; font-size: .9375rem; }
caption { padding: .75rem 1.5rem; border-bottom: 1px solid var(--line); color: var(--muted); font-size: .875rem;
  text-align: left; }
th, td { padding: .4375rem 1.25rem .4375rem 0; text-align: left; vertical-align: baseline; }
th:first-child { padding-left: 1.5rem; }
thead th { color: var(--muted); font-size: .8125rem; font-weight: 600; white-space: nowrap; }
tbody tr { border-top: 1px solid var(--line); }
tbody th { font-weight: 500; overflow-wrap: normal; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.meaning { min-width: 12rem; color: var(--muted); white-space: normal; }
.no, .same, .unknown, .bit { color: var(--muted); }
tr.note, tr.warning { background: var(--tint); }
td.note, td.warning { color: var(--tone); font-weight: 600; }
.offered::before { content: ""; display: inline-block; width: .5em; height: .5em; margin-right: .5em;
  border: 1px solid currentcolor; border-radius: 50%; }
.offered.yes::before { border-color: var(--ok); background: var(--ok); }

@media screen and (max-width: 56rem) {
  header, main, footer { padding-inline: 1rem; }
  .status { padding-inline: .6875rem 1rem; }
  dl, caption { padding-inline: 1rem; }
  .status h1 { font-size: 1.375rem; }
  table, caption, tbody { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  tbody tr { display: flex; flex-wrap: wrap; align-items: baseline; gap: .125rem 1rem; padding: .75rem 1rem; }
  tbody tr:first-child { border-top: 0; }
  tbody th:first-child, tbody td { padding: 0; font-size: .875rem; }
  tbody th:first-child { font-size: 1rem; font-weight: 600; }
  td.offered { display: flex; align-items: baseline; margin-left: auto; }
  td.offered::after { order: -1; margin-right: .75em; }
  td.meaning { order: 1; flex: 1 0 100%; }
  td:not(.bit, .offered, .meaning) { order: 2; }
  td.offered::after, td:not(.bit, .offered, .meaning)::before { content: attr(data-title) " ";
    content: attr(data-title) " " / ""; color: var(--muted); font-weight: 400; }
}
@media print {
  html { font-size: 8pt; }
  body { background: none; }
  header, main, footer { max-width: none; padding-inline: 0; }
  nav { display: none; }
  tr, li, dl, .status { break-inside: avoid; }
  h2, caption { break-after: avoid; }
}
"""


def _properties(palette: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())


STYLE = f"""
:root {{ color-scheme: light; {_properties(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ color-scheme: dark; {_properties(DARK)} }} }}
{_RULES}"""

STYLE_HASH = f"sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}"
