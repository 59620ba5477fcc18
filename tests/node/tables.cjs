// Tables as Grafana makes them of Prometheus' answers, with Grafana's own code: node tables.cjs < [{panel, answers}, …]
// prints [[{title: text, …}, …], …]. NODE_PATH is where @grafana/data is.
//
// What the data source for Prometheus does first is done here: transformDFToTable of
// packages/grafana-prometheus/src/result_transformer.ts.

// All that the library wants of a browser.
globalThis.window = globalThis;
globalThis.navigator ??= { language: 'en', languages: ['en'] };

const { readFileSync } = require('node:fs');
const grafana = require('@grafana/data');

const transformers = new Map(Object.values(grafana.standardTransformers).map((one) => [one.id, one]));
grafana.standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((one) => ({ id: one.id, name: one.name, transformation: one, editor: () => null }))
);

const property = (id) => ({
  id,
  path: id.replace('custom.', ''),
  name: id,
  isCustom: id.startsWith('custom.'),
  process: (value) => value,
  shouldApply: () => true,
});
const STANDARD = ['unit', 'mappings', 'thresholds', 'links', 'noValue'];
grafana.standardFieldConfigEditorRegistry.setInit(() => STANDARD.map(property));
const properties = new grafana.FieldConfigOptionsRegistry();
[...STANDARD, 'custom.width', 'custom.cellOptions', 'custom.align', 'custom.filterable', 'custom.inspect'].forEach((id) =>
  properties.register(property(id))
);

function frame(refId, answer, valueName) {
  const labels = [...new Set(answer.flatMap((series) => Object.keys(series.metric).sort()))];
  return {
    refId,
    length: answer.length,
    fields: [
      { name: 'Time', type: 'time', config: {}, values: answer.map((series) => series.value[0] * 1000) },
      ...labels.map((name) => ({
        name,
        type: 'string',
        config: { filterable: true },
        values: answer.map((series) => series.metric[name] ?? ''),
      })),
      { name: valueName, type: 'number', config: {}, values: answer.map((series) => Number(series.value[1])) },
    ],
  };
}

function transformed(panel, answers) {
  const several = panel.targets.length > 1;
  const frames = panel.targets.map(({ refId }) => frame(refId, answers[refId], several ? `Value #${refId}` : 'Value'));
  let result;
  grafana
    .transformDataFrame(panel.transformations, frames, { interpolate: (text) => text })
    .subscribe((frames) => (result = frames));
  return grafana.applyFieldOverrides({
    data: result,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: properties,
    replaceVariables: (text) => text,
    theme: grafana.createTheme(),
    timeZone: 'utc',
  });
}

function rows(frames) {
  const [only] = frames;
  if (frames.length !== 1) {
    throw new Error(`a table of ${frames.length} frames: Grafana would ask which to show`);
  }
  return Array.from({ length: only.length }, (_, row) =>
    Object.fromEntries(
      only.fields.map((field) => [
        grafana.getFieldDisplayName(field, only, frames),
        grafana.formattedValueToString(field.display(field.values[row])),
      ])
    )
  );
}

const tables = JSON.parse(readFileSync(0, 'utf8'));
console.log(JSON.stringify(tables.map(({ panel, answers }) => rows(transformed(panel, answers)))));
