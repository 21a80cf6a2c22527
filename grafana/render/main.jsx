// Draws a dashboard's document with Grafana's own panel components and numbers that Prometheus gave.
// `window.draw({board, answers, start, end})`: `answers` are Prometheus' series by panel id and query letter,
// times are Unix seconds. Sets `data-drawn` on <body> when everything stands.

import { useEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { FieldType, ThemeContext, createTheme, dateTime, getDisplayProcessor } from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';

import { Heatmap, Timeline } from './approximate.jsx';

const theme = createTheme({ colors: { mode: 'dark' } });
const COLUMN = 64; // pixels of one of the 24 columns
const ROW = 38;
const GAP = 8;
const STEP = 1000; // milliseconds between two points of an answer

const slot = (time, range) => Math.round((time - range.from.valueOf()) / STEP);

function colorOf(name, overrides) {
  // As in Grafana the last override that matches wins.
  let color = null;
  for (const { matcher, properties } of overrides) {
    if (new RegExp(matcher.options.slice(1, -1)).test(name)) {
      color = properties.find((each) => each.id === 'color').value;
    }
  }
  return color;
}

function named(legend, labels) {
  return legend.replace(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? '');
}

function field(panel, name, type, values, state) {
  const { defaults, overrides } = panel.fieldConfig;
  const config = { ...defaults, custom: { ...defaults.custom }, displayName: name };
  config.thresholds = {
    ...defaults.thresholds,
    steps: defaults.thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity })),
  };
  config.color = colorOf(name, overrides) ?? defaults.color;
  const made = { name, type, values, config, state };
  made.display = getDisplayProcessor({ field: made, theme });
  return made;
}

function seriesOf(panel, answers) {
  return panel.targets.flatMap((target) =>
    (answers[target.refId] ?? []).map((each) => ({ ...each, name: named(target.legendFormat, each.metric) }))
  );
}

function framesOf(panel, answers, range) {
  const times = [];
  for (let time = range.from.valueOf(); time <= range.to.valueOf(); time += STEP) {
    times.push(time);
  }
  return seriesOf(panel, answers).map((each, index) => {
    // A point for every step, so that a gap stays a gap.
    const known = new Map(each.values.map(([seconds, text]) => [slot(seconds * 1000, range), Number(text)]));
    const numbers = times.map((_, place) => (Number.isFinite(known.get(place)) ? known.get(place) : null));
    const state = { seriesIndex: index, displayName: each.name };
    return {
      refId: each.name,
      length: times.length,
      fields: [
        { name: 'time', type: FieldType.time, values: times, config: { interval: STEP } },
        field(panel, each.name, FieldType.number, numbers, state),
      ],
    };
  });
}

function Graph({ panel, answers, range, width, height }) {
  const frames = framesOf(panel, answers, range);
  if (frames.length === 0) {
    return <Nothing text="No data" />;
  }
  return (
    <TimeSeries
      frames={frames}
      timeRange={range}
      timeZone="utc"
      width={width}
      height={height}
      legend={panel.options.legend}
      options={panel.options}
    />
  );
}

function Nothing({ text }) {
  return <div style={{ display: 'grid', placeItems: 'center', height: '100%', opacity: 0.7 }}>{text}</div>;
}

function Stat({ panel, answers, width, height }) {
  const found = seriesOf(panel, answers);
  const shown = found.length > 0 ? found : [{ name: panel.title, value: [0, null] }];
  const each = width / shown.length;
  return (
    <div style={{ display: 'flex' }}>
      {shown.map(({ name, value }) => {
        const made = field(panel, name, FieldType.number, [value[1] === null ? null : Number(value[1])], {});
        const display = { ...made.display(made.values[0]), title: name };
        if (made.values[0] === null) {
          display.text = panel.fieldConfig.defaults.noValue ?? 'No data';
        }
        return (
          <BigValue
            key={name}
            value={display}
            colorMode={panel.options.colorMode}
            graphMode={panel.options.graphMode}
            justifyMode={panel.options.justifyMode}
            textMode={panel.options.textMode}
            theme={theme}
            width={each}
            height={height}
          />
        );
      })}
    </div>
  );
}

const DRAWN = { stat: Stat, timeseries: Graph, heatmap: Heatmap, 'state-timeline': Timeline };

function Panel({ panel, answers, range }) {
  const Shape = DRAWN[panel.type];
  const { w, h } = panel.gridPos;
  const series = seriesOf(panel, answers).map((each) => ({
    ...each,
    color: theme.visualization.getColorByName(colorOf(each.name, panel.fieldConfig.overrides)?.fixedColor ?? 'blue'),
  }));
  return (
    <PanelChrome title={panel.title} width={w * COLUMN - GAP} height={h * ROW - GAP} padding="md">
      {(width, height) => (
        <Shape panel={panel} answers={answers} series={series} range={range} width={width} height={height} />
      )}
    </PanelChrome>
  );
}

function Board({ board, answers, range }) {
  useEffect(() => {
    requestAnimationFrame(() => requestAnimationFrame(() => (document.body.dataset.drawn = 'yes')));
  }, []);
  const bottom = Math.max(...board.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <div style={{ position: 'relative', width: 24 * COLUMN, height: bottom * ROW, fontFamily: 'sans-serif' }}>
      {board.panels.map((panel) => (
        <div
          key={panel.id}
          style={{ position: 'absolute', left: panel.gridPos.x * COLUMN, top: panel.gridPos.y * ROW }}
        >
          {panel.type === 'row' ? (
            <div style={{ fontSize: 16, fontWeight: 500, padding: '8px 4px' }}>{panel.title}</div>
          ) : (
            <Panel panel={panel} answers={answers[panel.id]} range={range} />
          )}
        </div>
      ))}
    </div>
  );
}

window.draw = ({ board, answers, start, end }) => {
  const [from, to] = [dateTime(start * 1000), dateTime(end * 1000)];
  const range = { from, to, raw: { from, to } };
  document.body.style.background = theme.colors.background.canvas;
  document.body.style.color = theme.colors.text.primary;
  createRoot(document.getElementById('board')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Board board={board} answers={answers} range={range} />
    </ThemeContext.Provider>
  );
};
