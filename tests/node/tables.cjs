// Tables as Grafana makes them of Prometheus' answers, with Grafana's own code: node tables.cjs < [{panel, answers}, …]
// prints [[{title: text, …}, …], …]. NODE_PATH is where @grafana/data is.

// All that the library wants of a browser.
globalThis.window = globalThis;
globalThis.navigator ??= { language: 'en', languages: ['en'] };

const { readFileSync } = require('node:fs');
const grafana = require('@grafana/data');
const { shown } = require('./panels.cjs')(grafana);

function rows(frames) {
  const [only] = frames;
  if (frames.length > 1) {
    throw new Error(`a table of ${frames.length} frames: Grafana would ask which to show`);
  }
  return Array.from({ length: only?.length ?? 0 }, (_, row) =>
    Object.fromEntries(
      only.fields.map((field) => [
        grafana.getFieldDisplayName(field, only, frames),
        grafana.formattedValueToString(field.display(field.values[row])).trim(),
      ])
    )
  );
}

const theme = grafana.createTheme();
const tables = JSON.parse(readFileSync(0, 'utf8'));
console.log(JSON.stringify(tables.map(({ panel, answers }) => rows(shown(panel, answers, theme)))));
