// The row of numbers at the top, each with its last two minutes.

import { TILES } from './figures.js';
import { element, parts } from './format.js';

const SECONDS = 120;
const [WIDTH, HEIGHT] = [120, 30];

const svg = (name, attributes) => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

export function spark(width = WIDTH, height = HEIGHT) {
  const node = svg('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  node.append(svg('path', { class: 'spark-area' }), svg('path', { class: 'spark-line' }));
  return node;
}

// Draws the last values from the right; `top` is the value at the upper edge when nothing is larger.
export function drawSpark(node, values, top = 0) {
  const [, , width, height] = node.getAttribute('viewBox').split(' ').map(Number);
  const last = values.slice(-SECONDS);
  // What was not known before the first value is not drawn as nothing.
  while (last.length && last[0] == null) last.shift();
  const max = Math.max(top, ...last.map((v) => v ?? 0)) || 1;
  const step = width / (SECONDS - 1);
  const start = width - (last.length - 1) * step;
  const points = last.map((v, n) => `${(start + n * step).toFixed(1)},${(height - 1 - ((v ?? 0) / max) * (height - 3)).toFixed(1)}`);
  const line = points.length > 1 ? `M${points.join('L')}` : '';
  node.lastChild.setAttribute('d', line);
  node.firstChild.setAttribute('d', line && `${line}V${height}H${start.toFixed(1)}Z`);
}

export class Tiles {
  constructor(parent) {
    this.tiles = TILES.map((tile) => {
      const [number, unit] = [document.createTextNode('–'), element('small')];
      const line = spark();
      const node = element('article', { class: 'tile', id: `tile-${tile.id}` }, element('h3', { text: tile.title }), element('p', {}, number, unit), line);
      parent.append(node);
      return { tile, node, number, unit, line };
    });
  }

  update({ mean }) {
    for (const { tile, node, number, unit, line } of this.tiles) {
      const values = mean[tile.id] ?? [];
      const value = values.at(-1);
      [number.data, unit.textContent] = parts(value, tile.unit);
      node.className = `tile ${(value != null && tile.tone?.(value)) || ''}`;
      drawSpark(line, values, tile.unit === 'percent' ? 100 : 0);
    }
  }
}
