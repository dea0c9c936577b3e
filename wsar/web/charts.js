// The charts: one uPlot for each entry of CHARTS, with cursors that move together and axes that line up.

/* global uPlot */
import { CHARTS, linesOf } from './figures.js';
import { clock, day, element, human, tick } from './format.js';
import { extent, Tooltip } from './tooltip.js';
import { DAY } from './view.js';

const HEIGHT = 170;
const AXIS = 70; // the same for all, so that one time is at one place in a column of charts
const dark = matchMedia('(prefers-color-scheme: dark)');
const POWERS = Array.from({ length: 51 }, (_, n) => 2 ** n);
// A chart of nothing, or of next to nothing, still has round figures on its axis.
const LEAST = { rate: 5, number: 5, bytes: 4096, byterate: 4096, micros: 100, percent: 10 };
const LOG_TOP = 10000; // microseconds that a logarithmic axis reaches at least

// The lines of a logarithmic axis: so few that their labels have room.
function powersOfTen(min, max) {
  const [from, to] = [Math.round(Math.log10(min)), Math.round(Math.log10(max))];
  const step = to - from > 5 ? 2 : 1;
  const found = [];
  for (let n = from; n <= to; n += step) found.push(10 ** n);
  return found;
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800].map((s) => s * 1000);

let colours = {};
function css(name) {
  return (colours[name] ??= getComputedStyle(document.documentElement).getPropertyValue(name).trim());
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
function mix(a, b, part) {
  const [x, y] = [channels(a), channels(b)];
  return `rgb(${x.map((v, n) => Math.round(v * part + y[n] * (1 - part))).join(' ')})`;
}

const times = (u, splits, axis, space, step) => {
  let last = '';
  return splits.map((split) => {
    // A split may miss its second by less than a millisecond, which must not make it the second before.
    const ms = Math.round(split);
    const date = day(ms);
    const text = step >= 86400000 || (last && date !== last) ? date : clock(ms, step < 60000);
    last = date;
    return text;
  });
};

// Points that have no neighbours would be no line at all.
function alone(u, series) {
  const values = u.data[series];
  const found = [];
  for (let n = 0; n < values.length; n += 1) {
    if (values[n] != null && values[n - 1] == null && values[n + 1] == null) found.push(n);
  }
  return found;
}

class Chart {
  constructor(chart, page) {
    this.chart = chart;
    this.page = page;
    this.plot = element('div', { class: 'plot' });
    const title = element('h3', { text: chart.title });
    if (chart.note) title.append(element('small', { text: chart.note }));
    const caption = element('figcaption', {}, title);
    this.caption = caption;
    this.node = element('figure', { class: 'card chart', id: `chart-${chart.name}` }, caption, this.plot);
    this.key = null;
  }

  build(lines) {
    this.uplot?.destroy();
    this.lines = lines;
    const { chart, page } = this;
    for (const old of this.caption.querySelectorAll('.key')) old.remove();
    this.values = lines.map(({ label, colour }) => {
      const value = element('b', { text: '–' });
      this.caption.append(element('span', { class: 'key' }, element('i', { class: `c${colour}` }), label, value));
      return value;
    });
    const series = [{}];
    const bands = [];
    const stroke = (colour) => () => css(`--s${colour}`);
    if (chart.stack) {
      for (const { colour } of [...lines].reverse()) {
        series.push({ stroke: stroke(colour), width: 1, fill: () => mix(css(`--s${colour}`), css('--card'), 0.45), points: { show: false } });
      }
    } else {
      lines.forEach(({ colour }, n) => {
        const points = { show: true, size: 4, fill: stroke(colour), filter: alone };
        const fill = lines.length === 1 ? () => `${css(`--s${colour}`)}22` : undefined;
        series.push({ stroke: stroke(colour), width: 1.5, fill, points });
        series.push({ stroke: () => `${css(`--s${colour}`)}00`, width: 0, points: { show: false } });
        bands.push({ series: [2 * n + 2, 2 * n + 1], fill: () => `${css(`--s${colour}`)}33` });
      });
    }
    // Yesterday's lines come last.
    if (!chart.stack) for (const { colour } of lines) series.push({ stroke: stroke(colour), width: 1, dash: [3, 4], points: { show: false } });
    const grid = { stroke: () => css('--grid'), width: 1 };
    const axis = { stroke: () => css('--quiet'), font: '11.5px system-ui, sans-serif', grid, ticks: { show: false } };
    const options = {
      width: Math.max(200, this.plot.clientWidth), height: HEIGHT, ms: 1, legend: { show: false }, padding: [8, 20, 0, 0], series, bands,
      scales: {
        x: { time: true, range: () => page.bounds() },
        y: chart.log
          ? { distr: 3, range: (u, min, max) => [10, 10 ** Math.ceil(Math.log10(Math.max(LOG_TOP, max ?? 0)))] }
          : { range: (u, min, max) => [0, chart.max ?? Math.max(LEAST[chart.unit], (max ?? 0) * 1.08)] },
      },
      axes: [
        { ...axis, values: times, incrs: STEPS, space: 74, size: 28, gap: 6 },
        { ...axis, size: AXIS, gap: 6, space: 34, values: (u, splits) => splits.map((v) => tick(v, chart.unit)),
          ...(chart.log ? { splits: (u, n, min, max) => powersOfTen(min, max) } : {}),
          ...(chart.unit.startsWith('byte') ? { incrs: POWERS } : {}) },
      ],
      cursor: {
        points: { show: false }, y: false,
        drag: { x: true, y: false, setScale: false },
        sync: { key: 'wsar', setSeries: false, filters: { pub: (type) => type === 'mousemove' || type === 'mouseleave' } },
        bind: { dblclick: () => () => page.live() },
      },
      hooks: {
        setCursor: [() => {
          this.legend();
          this.tell();
        }],
        setSelect: [(u) => {
          const { left, width } = u.select;
          if (width < 6) return;
          const [from, to] = [u.posToVal(left, 'x'), u.posToVal(left + width, 'x')];
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          page.zoom(from, to);
        }],
        draw: [(u) => this.marks(u)],
      },
    };
    this.uplot = new uPlot(options, this.columns(), this.plot);
    this.tooltip = new Tooltip();
    this.uplot.over.append(this.tooltip.node);
    this.uplot.over.addEventListener('mouseenter', () => { this.under = true; });
    this.uplot.over.addEventListener('mouseleave', () => {
      this.under = false;
      this.tooltip.hide();
    });
  }

  // The values of a line as they are drawn: on a logarithmic axis nothing lies below its foot.
  drawn(values, length) {
    if (!values) return new Array(length).fill(null);
    return this.chart.log ? values.map((v) => (v == null ? null : Math.max(10, v))) : values;
  }

  columns() {
    const { times: when, mean, max } = this.page.data();
    const list = (of, id) => this.drawn(of[id], when.length);
    if (this.chart.stack) {
      const sums = [];
      this.lines.forEach(({ id }, n) => {
        const below = sums[n - 1];
        sums.push(list(mean, id).map((v, at) => (v === null && !below ? null : (v ?? 0) + (below?.[at] ?? 0))));
      });
      return [when, ...sums.reverse()];
    }
    return [when, ...this.lines.flatMap(({ id }) => [list(mean, id), list(max, id)]), ...this.yesterday(when)];
  }

  // The values of a day before, at the times of now: of each time the last point before it, unless that is far away.
  yesterday(when) {
    const before = this.page.before();
    if (!before?.times.length) return this.lines.map(() => this.drawn(null, when.length));
    const [from, to] = this.page.bounds();
    const far = Math.max(15000, (to - from) / 100);
    let at = 0;
    const places = when.map((time) => {
      while (at + 1 < before.times.length && before.times[at + 1] <= time - DAY) at += 1;
      return Math.abs(before.times[at] - (time - DAY)) <= far ? at : -1;
    });
    return this.lines.map(({ id }) => this.drawn(places.map((place) => before.mean[id]?.[place] ?? null), when.length));
  }

  // Of the rules that watch what is shown: where each comes into force, and where it goes.
  levels() {
    const found = [];
    for (const [metric, scale] of this.chart.levels ?? []) {
      for (const rule of this.page.rules().filter((r) => r.metric === metric && !r.of)) {
        found.push([(rule.above ?? rule.below) * scale, '--bad']);
        if (rule.clear != null && rule.clear !== (rule.above ?? rule.below)) found.push([rule.clear * scale, '--warn']);
      }
    }
    return found;
  }

  // Levels of rules, and restarts of the server.
  marks(u) {
    const { ctx } = u;
    const { left, top, width, height } = u.bbox;
    const line = (colour, x0, y0, x1, y1) => {
      ctx.strokeStyle = css(colour);
      ctx.beginPath();
      ctx.moveTo(x0, y0);
      ctx.lineTo(x1, y1);
      ctx.stroke();
    };
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const [level, colour] of this.levels()) {
      const y = u.valToPos(level, 'y', true);
      if (y >= top && y <= top + height) line(colour, left, y, left + width, y);
    }
    const [from, to] = this.page.bounds();
    for (const time of this.page.restarts().filter((t) => t > from && t < to)) {
      const x = u.valToPos(time, 'x', true);
      line('--quiet', x, top, x, top + height);
    }
    ctx.restore();
  }

  // The values under the cursor; without one, the last.
  legend() {
    const { times: when, mean } = this.page.data();
    const at = this.uplot?.cursor.idx ?? when.length - 1;
    this.lines.forEach(({ id }, n) => {
      const text = human(mean[id]?.[at], this.chart.unit);
      if (this.values[n].textContent !== text) this.values[n].textContent = text;
    });
  }

  // The tooltip, in the chart that the pointer is in; the others show where its time is.
  tell() {
    const { idx, left } = this.uplot?.cursor ?? {};
    if (!this.under || idx == null || left < 0) {
      this.tooltip?.hide();
      return;
    }
    const { times: when, mean, max } = this.page.data();
    const [from, to] = this.page.bounds();
    const first = when.findIndex((time) => time >= from);
    const last = when.findLastIndex((time) => time <= to);
    const rows = this.lines.map(({ id, label, colour }) => ({
      label, colour, values: { here: mean[id]?.[idx], ...extent(mean[id] ?? [], max[id] ?? [], first, last) },
    }));
    this.tooltip.show(when[idx], rows, this.chart.unit, left, this.uplot.over.clientWidth);
  }

  update(tables) {
    const lines = linesOf(this.chart, tables);
    const key = lines.map((line) => line.id).join();
    if (key !== this.key || !this.uplot) {
      this.key = key;
      this.build(lines);
    } else {
      this.uplot.setData(this.columns());
    }
    this.legend();
    this.tell();
  }

  resize() {
    const width = this.plot.clientWidth;
    if (this.uplot && width && width !== this.uplot.width) this.uplot.setSize({ width, height: HEIGHT });
  }
}

export class Charts {
  // page: bounds(), data(), before(), restarts(), live(), zoom(from, to).
  constructor(page) {
    this.charts = CHARTS.map((chart) => new Chart(chart, page));
    for (const chart of this.charts) document.getElementById(`charts-${chart.chart.place}`).append(chart.node);
    new ResizeObserver(() => this.charts.forEach((chart) => chart.resize())).observe(document.getElementById('main'));
    dark.addEventListener('change', () => {
      colours = {};
      this.charts.forEach((chart) => chart.uplot?.redraw());
    });
  }

  resize() {
    for (const chart of this.charts) chart.resize();
  }

  update(tables) {
    for (const chart of this.charts) chart.update(tables);
  }
}
