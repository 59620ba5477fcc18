// Draws a dashboard with Grafana's own table, stat, time series and frame of a panel. window.STATE has the dashboard, the
// answers to its queries by panel and query, the range of time, the theme, and whether collapsed rows are opened.
//
// A state timeline is in none of Grafana's packages: Lanes draws its names, words, colours and the height of its rows.

import 'uplot/dist/uPlot.min.css';

import * as grafana from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, Table, TimeSeries, VizRepeater } from '@grafana/ui';
import { createRoot } from 'react-dom/client';

import panels from './panels.cjs';

const CELL = 30;
const GAP = 8;
const COLUMNS = 24;

// Narrower than this, Grafana places every panel below the one before, as wide as the screen.
const STACKED = 769;

grafana.patchArrayVectorProrotypeMethods?.();

const { dashboard, answers, range, mode, opened } = window.STATE;
Date.now = () => range.to;
window.__grafana_public_path__ = 'public/';

const theme = grafana.createTheme({ colors: { mode } });
const { shown, fieldsOf } = panels(grafana);
const timeRange = { from: grafana.dateTime(range.from), to: grafana.dateTime(range.to), raw: range };
const same = (text) => text;

// What PanelDataErrorView of Grafana says of a panel without data.
const Empty = ({ panel, width, height }) => (
  <div className="empty" style={{ width, height }}>
    {panel.fieldConfig.defaults.noValue ?? 'No data'}
  </div>
);

const Stat = ({ panel, data, width, height }) => (
  <VizRepeater
    autoGrid
    orientation="auto"
    source={data}
    width={width}
    height={height}
    getValues={() =>
      grafana.getFieldDisplayValues({
        data,
        theme,
        fieldConfig: fieldsOf(panel),
        reduceOptions: panel.options.reduceOptions,
        replaceVariables: same,
      })
    }
    renderValue={({ value, alignmentFactors, width: ofOne, height: high, count }) => (
      <BigValue
        {...{ theme, count, alignmentFactors, value: value.display, width: ofOne, height: high }}
        colorMode={panel.options.colorMode}
        graphMode={panel.options.graphMode}
        justifyMode={panel.options.justifyMode}
        textMode={panel.options.textMode}
      />
    )}
  />
);

const Rows = ({ panel, data, width, height }) => (
  <Table
    data={data[0]}
    width={width}
    height={height}
    initialSortBy={panel.options.sortBy}
    cellHeight={panel.options.cellHeight}
    fieldConfig={panel.fieldConfig}
  />
);

const Lines = ({ panel, data, width, height }) => (
  <TimeSeries
    frames={data}
    timeRange={timeRange}
    timeZone="utc"
    width={width}
    height={height}
    legend={panel.options.legend}
    options={panel.options}
  />
);

const LEGEND = 26;
const PAGER = 34;
const AXIS = 24;

function Lanes({ panel, data, width, height }) {
  const fields = data.flatMap((frame) => frame.fields.slice(1).map((field) => ({ frame, field })));
  const paged = fields.slice(0, panel.options.perPage);
  const pager = fields.length > paged.length ? PAGER : 0;
  const left = Math.min(0.4 * width, 6 + Math.max(...paged.map(({ frame, field }) => widthOf(nameOf(frame, field)))));
  const each = (height - AXIS - LEGEND - pager) / paged.length;
  const x = (time) => ((time - range.from) / (range.to - range.from)) * (width - left);
  const words = panel.fieldConfig.defaults.mappings.flatMap(({ type, options }) =>
    type === 'value' ? Object.values(options) : []
  );
  return (
    <div className="lanes" data-row={each} data-rows={fields.length} style={{ width, height }}>
      {paged.map(({ frame, field }, number) => (
        <div className="lane" key={number} style={{ height: each }}>
          <span className="name" style={{ width: left }}>
            {nameOf(frame, field)}
          </span>
          {statesOf(frame, field).map(({ from, to, text, color }) => (
            <span
              className="state"
              key={from}
              style={{
                left: left + x(from),
                width: x(to) - x(from),
                height: 0.9 * each,
                background: color,
                color: theme.colors.getContrastText(color),
              }}
            >
              {text}
            </span>
          ))}
        </div>
      ))}
      <div className="legend" style={{ marginTop: AXIS, height: LEGEND }}>
        {words.map(({ text, color }) => (
          <span key={text}>
            <i style={{ background: theme.visualization.getColorByName(color) }} /> {text}
          </span>
        ))}
      </div>
      {pager > 0 && <div className="pager">1 of {Math.ceil(fields.length / panel.options.perPage)}</div>}
    </div>
  );
}

const nameOf = (frame, field) => grafana.getFieldDisplayName(field, frame);

const canvas = document.createElement('canvas').getContext('2d');
function widthOf(text) {
  canvas.font = '12px Inter';
  return canvas.measureText(text).width;
}

// Merged states of one series; one that is not followed by another within the step and a half ends there.
function statesOf(frame, field) {
  const times = frame.fields[0].values;
  const states = [];
  field.values.forEach((value, place) => {
    const { text, color } = field.display(value);
    const last = states.at(-1);
    const to = Math.min(times[place] + range.step, range.to);
    if (last && last.text === text && times[place] - last.to <= range.step / 2) {
      last.to = to;
    } else {
      states.push({ from: times[place], to, text, color });
    }
  });
  return states;
}

const KINDS = { stat: Stat, table: Rows, timeseries: Lines, 'state-timeline': Lanes };

function Panel({ panel, width, height }) {
  const data = shown(panel, answers[panel.id], theme);
  const isEmpty = panel.type !== 'stat' && !data.some((frame) => frame.fields.length > 0);
  const Kind = isEmpty ? Empty : KINDS[panel.type];
  return (
    <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
      {(inner, high) => <Kind panel={panel} data={data} width={inner} height={high} />}
    </PanelChrome>
  );
}

// Every panel with its place; rows that are opened move what is below them.
function* placed() {
  let below = 0;
  for (const panel of dashboard.panels) {
    yield { panel, y: panel.gridPos.y + below };
    if (opened && panel.panels?.length) {
      const end = Math.max(...panel.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
      yield* panel.panels.map((one) => ({ panel: one, y: one.gridPos.y + below }));
      below += end - panel.gridPos.y - 1;
    }
  }
}

function* stacked() {
  let y = 0;
  for (const { panel } of placed()) {
    yield { panel: { ...panel, gridPos: { ...panel.gridPos, x: 0, w: COLUMNS } }, y };
    y += panel.gridPos.h;
  }
}

function Dashboard() {
  const screen = document.documentElement.clientWidth;
  const grid = (screen - 2 * 16 + GAP) / COLUMNS;
  const places = [...(screen < STACKED ? stacked() : placed())];
  const end = Math.max(...places.map(({ panel, y }) => y + panel.gridPos.h));
  return (
    <div className="board" style={{ height: end * (CELL + GAP) }}>
      {places.map(({ panel, y }) => {
        const { x, w, h } = panel.gridPos;
        const [width, height] = [w * grid - GAP, h * (CELL + GAP) - GAP];
        return (
          <section
            key={panel.id}
            data-title={panel.title}
            data-kind={panel.type}
            style={{ left: x * grid, top: y * (CELL + GAP), width, height }}
          >
            {panel.type === 'row' ? (
              <h2>
                {panel.collapsed && !opened ? '▸' : '▾'} {panel.title}
              </h2>
            ) : (
              <Panel panel={panel} width={width} height={height} />
            )}
          </section>
        );
      })}
    </div>
  );
}

const STYLE = `
  body { margin: 0; padding: 16px; overflow: visible; height: auto; background: ${theme.colors.background.canvas}; }
  .board { position: relative; }
  section { position: absolute; }
  h2 { font-size: 16px; margin: 0; line-height: 30px; }
  .empty { display: flex; align-items: center; justify-content: center; text-align: center; color: ${theme.colors.text.secondary}; }
  .lanes { overflow: hidden; font-size: 12px; letter-spacing: 0; }
  .lane { position: relative; }
  .name { position: absolute; display: block; overflow: hidden; white-space: nowrap; direction: rtl; text-align: right; }
  .state { position: absolute; overflow: hidden; white-space: nowrap; padding-left: 3px; box-sizing: border-box; }
  .legend { display: flex; gap: 16px; align-items: center; }
  .legend i { display: inline-block; width: 14px; height: 4px; }
  .pager { text-align: center; }
`;

// Texts are measured in the font that they are drawn in.
Promise.all(['400 12px Inter', '500 14px Inter'].map((font) => document.fonts.load(font))).then(() =>
  createRoot(document.getElementById('root')).render(
    <grafana.ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <style>{STYLE}</style>
      <Dashboard />
    </grafana.ThemeContext.Provider>
  )
);
