// The heat map of workers: a row for each event loop, time from left to right.

import { workers } from './figures.js';
import { clock, element, human } from './format.js';

const GUTTER = 70;
const VALUES = 64;
const CELL = 5; // pixels of a cell at least
const ROWS_MAX = 64;

const MAPS = [
  { key: 'busy', title: 'Utilisation', unit: 'percent', levels: [5, 25, 50, 75, 90], words: ['0', '5', '25', '50', '75', '90 %'] },
  { key: 'loop_p99', title: 'Latency of the event loop, 99 %', unit: 'micros', levels: [100, 1000, 5000, 20000, 50000], words: ['0', '0.1', '1', '5', '20', '50 ms'] },
];

const COLUMNS = [
  ['busy now', 'busy', 'percent', ''], ['median', 'loop_p50', 'micros', 'wide'], ['99 %', 'loop_p99', 'micros', ''],
  ['longest', 'loop_max', 'micros', ''], ['wakes', 'iterations', 'rate', 'wide'], ['clients', 'connections', 'number', ''],
  ['messages', 'messages_in', 'rate', ''],
];

export class Workers {
  constructor(parent, bounds) {
    const head = COLUMNS.map(([text, , , name]) => element('th', { scope: 'col', class: name, text }));
    this.body = element('tbody');
    const table = element('table', { class: 'board' }, element('thead', {}, element('tr', {}, element('th', { scope: 'col', text: 'worker' }), ...head)), this.body);
    this.table = element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Figures of each worker' }, table);
    this.parent = parent;
    this.bounds = bounds;
    this.maps = MAPS.map((map) => {
      const scale = element('span', { class: 'scale' }, ...map.words.flatMap((word, n) => [element('i', { class: `k${n}` }), word]));
      const canvas = element('canvas', { role: 'img', id: `heat-${map.key}` });
      const told = element('span', { class: 'num' });
      const title = element('h3', {}, element('span', {}, `${map.title} `, told), scale);
      const made = { ...map, canvas, told, node: element('div', { class: 'heat' }, title, canvas) };
      canvas.addEventListener('pointermove', (event) => this.tell(made, event));
      canvas.addEventListener('pointerleave', () => { told.textContent = ''; });
      return made;
    });
    this.empty = element('p', { class: 'empty', text: 'No server runs in this data directory: there are no workers.' });
  }

  update(tables, data) {
    const names = workers(tables).slice(0, ROWS_MAX);
    this.data = data;
    this.names = names.length ? names : this.recorded(data);
    if (this.names.length === 0) {
      this.parent.replaceChildren(this.empty);
      return;
    }
    if (!this.maps[0].node.isConnected) this.parent.replaceChildren(...this.maps.map((map) => map.node), this.table);
    const style = getComputedStyle(document.documentElement);
    this.css = (name) => style.getPropertyValue(name).trim();
    for (const map of this.maps) this.draw(map);
    this.rows(tables.workers ?? {});
  }

  rows(found) {
    const names = Object.keys(found);
    while (this.body.children.length > names.length) this.body.lastChild.remove();
    names.forEach((name, n) => {
      if (!this.body.children[n]) {
        const cells = COLUMNS.map(([, , , kind]) => element('td', { class: kind }));
        this.body.append(element('tr', {}, element('th', { scope: 'row' }), ...cells));
      }
      const [title, ...cells] = this.body.children[n].children;
      title.textContent = name;
      COLUMNS.forEach(([, key, unit], at) => { cells[at].textContent = human(found[name][key], unit); });
    });
  }

  // Without a server, those that the figures shown are of.
  recorded({ mean }) {
    const names = Object.keys(mean).filter((id) => id.startsWith('workers.') && id.endsWith('.busy') && mean[id].some((v) => v !== null));
    return names.map((id) => id.split('.')[1]).filter((name) => name !== 'all');
  }

  draw(map) {
    const { canvas, key } = map;
    const width = canvas.clientWidth || 400;
    const rows = this.names.length;
    const tall = rows <= 4 ? 24 : rows <= 16 ? 16 : 9;
    const height = rows * tall;
    const ratio = devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    canvas.style.height = `${height}px`;
    const ctx = canvas.getContext('2d');
    ctx.scale(ratio, ratio);
    ctx.font = `${tall < 12 ? 9 : 12}px system-ui, sans-serif`;
    ctx.textBaseline = 'middle';
    const area = width - GUTTER - VALUES;
    const cells = Math.max(1, Math.floor(area / CELL));
    const [from, to] = this.bounds();
    const said = [];
    this.names.forEach((name, row) => {
      const values = this.data.max[`workers.${name}.${key}`] ?? [];
      const top = row * tall;
      const worst = new Array(cells).fill(null);
      this.data.times.forEach((time, n) => {
        const cell = Math.floor(((time - from) / (to - from)) * cells);
        if (values[n] != null && cell >= 0 && cell <= cells) worst[Math.min(cell, cells - 1)] = Math.max(values[n], worst[Math.min(cell, cells - 1)] ?? 0);
      });
      // A point is as wide as the time to the next one.
      const step = Math.max(1, Math.ceil(cells / Math.max(1, ((to - from) / ((this.data.times[1] - this.data.times[0]) || 1000)))));
      let last = -Infinity;
      for (let cell = 0; cell < cells; cell += 1) {
        let v = worst[cell];
        if (v !== null) last = cell;
        else if (cell - last < step) v = worst[last];
        ctx.fillStyle = v === null ? this.css('--none') : this.css(`--h${map.levels.filter((level) => v >= level).length}`);
        ctx.fillRect(GUTTER + (cell * area) / cells, top + 1, area / cells + 0.4, tall - 2);
      }
      const latest = values.findLast((v) => v != null);
      if (tall >= 12 || row % 2 === 0) {
        ctx.fillStyle = this.css('--quiet');
        ctx.textAlign = 'left';
        ctx.fillText(`worker ${name}`, 0, top + tall / 2);
        ctx.fillStyle = this.css('--text');
        ctx.textAlign = 'right';
        ctx.fillText(human(latest, map.unit), width, top + tall / 2);
      }
      said.push(`worker ${name} ${human(latest, map.unit)}`);
    });
    canvas.setAttribute('aria-label', `${map.title}: ${said.join(', ')}`);
  }

  tell(map, event) {
    const box = map.canvas.getBoundingClientRect();
    const name = this.names[Math.floor(((event.clientY - box.top) / box.height) * this.names.length)];
    const part = (event.clientX - box.left - GUTTER) / (box.width - GUTTER - VALUES);
    if (name === undefined || part < 0 || part > 1) return;
    const [from, to] = this.bounds();
    const time = from + part * (to - from);
    const { times } = this.data;
    let nearest = 0;
    times.forEach((t, n) => { if (Math.abs(t - time) < Math.abs(times[nearest] - time)) nearest = n; });
    if (times.length === 0) return;
    const value = this.data.max[`workers.${name}.${map.key}`]?.[nearest];
    map.told.textContent = ` · worker ${name}, ${clock(times[nearest])}: ${human(value, map.unit)}`;
  }
}
