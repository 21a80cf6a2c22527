// State timeline and heatmap: Grafana keeps these panels in its server, not in the component library. Drawn here by
// hand from the same answers, so that the picture shows where they stand and what is in them.

const LABELS = 250;

function nearBy(values, step) {
  // Runs of points without a gap: [first, last] in seconds.
  const runs = [];
  for (const [seconds] of values) {
    const last = runs[runs.length - 1];
    if (last && seconds - last[1] <= step * 1.5) {
      last[1] = seconds;
    } else {
      runs.push([seconds, seconds + step]);
    }
  }
  return runs;
}

export function Timeline({ series, range, width, height }) {
  const [start, end] = [range.from.valueOf() / 1000, range.to.valueOf() / 1000];
  const tall = Math.min(26, height / Math.max(series.length, 1));
  const place = (seconds) => ((seconds - start) / (end - start)) * (width - LABELS);
  return (
    <svg width={width} height={height}>
      {series.map(({ name, color, values }, row) => (
        <g key={name} transform={`translate(0, ${row * tall})`}>
          <text x={LABELS - 8} y={tall / 2 + 4} textAnchor="end" fontSize={Math.min(12, tall - 2)} fill="currentColor">
            {name}
          </text>
          {nearBy(values, 1).map(([first, last]) => (
            <rect
              key={first}
              x={LABELS + place(first)}
              y={1}
              width={Math.max(place(last) - place(first), 2)}
              height={tall - 2}
              fill={color}
            />
          ))}
        </g>
      ))}
    </svg>
  );
}

export function Heatmap({ series, range, width, height }) {
  const rows = series
    .map(({ metric, values }) => ({ le: Number(metric.le.replace('+Inf', 'Infinity')), values }))
    .sort((one, other) => one.le - other.le);
  const [start, end] = [range.from.valueOf() / 1000, range.to.valueOf() / 1000];
  const cells = rows.flatMap(({ values }, row) => {
    const below = new Map(row > 0 ? rows[row - 1].values : []);
    return values.map(([seconds, count]) => ({ seconds, row, count: Number(count) - Number(below.get(seconds) ?? 0) }));
  });
  const most = Math.max(...cells.map(({ count }) => count), 1e-9);
  const [left, bottom] = [48, 8];
  const tall = (height - bottom) / Math.max(rows.length, 1);
  const wide = (width - left) / (end - start);
  return (
    <svg width={width} height={height}>
      {rows.map(({ le }, row) => (
        <text key={le} x={left - 6} y={height - bottom - row * tall} textAnchor="end" fontSize={11} fill="currentColor">
          {Number.isFinite(le) ? `${le} s` : '∞'}
        </text>
      ))}
      {cells
        .filter(({ count }) => count > 1e-9)
        .map(({ seconds, row, count }) => (
          <rect
            key={`${seconds} ${row}`}
            x={left + (seconds - start) * wide}
            y={height - bottom - (row + 1) * tall}
            width={wide + 0.5}
            height={tall - 1}
            fill={`hsl(30 90% ${20 + 50 * Math.sqrt(count / most)}%)`}
          />
        ))}
    </svg>
  );
}
