// What a panel is given: Grafana's own code transforms Prometheus' answers and applies the panel's field options.
//
// What the data source for Prometheus does first is done here: transformDFToTable of
// packages/grafana-prometheus/src/result_transformer.ts, and its frames of series. An answer without a result is one
// frame without fields, as pkg/promlib/querydata/response.go makes it.

const STANDARD = ['unit', 'decimals', 'min', 'max', 'color', 'mappings', 'thresholds', 'links', 'noValue'];
const OF_PANELS = [
  ...['align', 'cellOptions', 'filterable', 'hidden', 'inspect', 'minWidth', 'width'],
  ...['axisColorMode', 'axisPlacement', 'drawStyle', 'fillOpacity', 'hideFrom', 'lineInterpolation', 'lineWidth'],
  ...['pointSize', 'scaleDistribution', 'showPoints', 'spanNulls', 'stacking'],
];

// As Grafana's plugins do where a panel says nothing.
const DEFAULTS = {
  stat: { color: { mode: 'thresholds' } },
  table: { color: { mode: 'thresholds' } },
  timeseries: {
    color: { mode: 'palette-classic' },
    custom: {
      ...{ drawStyle: 'line', showPoints: 'auto', pointSize: 5, axisPlacement: 'auto', hideFrom: {} },
      scaleDistribution: { type: 'linear' },
    },
  },
  'state-timeline': { color: { mode: 'continuous-GrYlRd' } },
};

const same = (text) => text;

module.exports = function panels(grafana) {
  const property = (id) => ({
    id,
    path: id.replace('custom.', ''),
    name: id,
    isCustom: id.startsWith('custom.'),
    process: same,
    shouldApply: () => true,
  });
  const transformers = new Map(Object.values(grafana.standardTransformers).map((one) => [one.id, one]));
  grafana.standardTransformersRegistry.setInit(() =>
    [...transformers.values()].map((one) => ({ id: one.id, name: one.name, transformation: one, editor: () => null }))
  );
  grafana.standardFieldConfigEditorRegistry.setInit(() => STANDARD.map(property));
  const properties = new grafana.FieldConfigOptionsRegistry();
  [...STANDARD, ...OF_PANELS.map((id) => `custom.${id}`)].forEach((id) => properties.register(property(id)));

  function tableOf(target, answer, valueName) {
    if (answer.length === 0) {
      return { refId: target.refId, length: 0, fields: [] };
    }
    const labels = [...new Set(answer.flatMap((series) => Object.keys(series.metric).sort()))];
    return {
      refId: target.refId,
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

  function seriesOf(target, series) {
    const points = series.values ?? [series.value];
    const legend = target.legendFormat ?? '';
    const name = legend.replace(/\{\{(\w+)\}\}/g, (_, label) => series.metric[label] ?? '');
    return {
      refId: target.refId,
      length: points.length,
      fields: [
        { name: 'Time', type: 'time', config: {}, values: points.map(([time]) => time * 1000) },
        {
          name: 'Value',
          type: 'number',
          labels: series.metric,
          config: { displayNameFromDS: name || undefined },
          values: points.map(([, value]) => Number(value)),
        },
      ],
    };
  }

  function framesOf(panel, answers) {
    const several = panel.targets.length > 1;
    return panel.targets.flatMap((target) =>
      target.format === 'table'
        ? [tableOf(target, answers[target.refId], several ? `Value #${target.refId}` : 'Value')]
        : answers[target.refId].map((series) => seriesOf(target, series))
    );
  }

  function fieldsOf(panel) {
    const { defaults, overrides } = panel.fieldConfig;
    const usual = DEFAULTS[panel.type];
    return { defaults: { ...usual, ...defaults, custom: { ...usual.custom, ...defaults.custom } }, overrides };
  }

  function shown(panel, answers, theme) {
    let frames = framesOf(panel, answers);
    grafana
      .transformDataFrame(panel.transformations ?? [], frames, { interpolate: same })
      .subscribe((transformed) => (frames = transformed));
    return grafana.applyFieldOverrides({
      data: frames,
      fieldConfig: fieldsOf(panel),
      fieldConfigRegistry: properties,
      replaceVariables: same,
      theme,
      timeZone: 'utc',
    });
  }

  return { shown, fieldsOf };
};
