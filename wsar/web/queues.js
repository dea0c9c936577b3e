// The board of queues: the fullest first, with colours and words for what is too full.

import { tone } from './figures.js';
import { element, human } from './format.js';
import { show } from './incident.js';
import { drawSpark, spark } from './tiles.js';

const BYTES = new Set(['output', 'held', 'mailbox_bytes']);

// Queues of which the limit is that of one client: what is shown is its fullest client.
const OF_ONE = { output: 'slow readers', commit: 'for the disk' };

function judge(name, row) {
  const part = row.full ?? 0;
  const state = { bad: 'nearly full', warn: 'filling', '': row.length > 0 ? OF_ONE[name] ?? 'fine' : 'empty' }[tone(part)];
  return { part, tone: tone(part), state };
}

export class Queues {
  constructor(parent) {
    this.parent = parent;
    this.rows = new Map();
    this.body = element('tbody');
    const head = ['queue', 'how full', 'waits', 'most', 'limit', 'last 2 min', ''];
    const classes = ['', 'fill', 'length', 'high', '', 'trend', 'state'];
    const cells = head.map((text, n) => element('th', { scope: 'col', class: classes[n], text }));
    this.table = element('table', { class: 'board' }, element('thead', {}, element('tr', {}, ...cells)), this.body);
    this.empty = element('p', { class: 'empty', text: 'No server runs in this data directory: there are no queues.' });
  }

  row(name) {
    const bar = element('i');
    const cells = ['length', 'high', 'limit', 'state'].map((key) => [key, element('td', { class: key === 'limit' ? '' : key })]);
    const made = { bar, line: spark(84, 20), ...Object.fromEntries(cells) };
    made.full = element('span', { class: 'num' });
    made.track = element('div', { class: 'track', role: 'img' }, bar);
    const button = element('button', { type: 'button', class: 'link', text: name, title: 'What it means and what to do' });
    button.addEventListener('click', () => show('queues', name, made.figures));
    made.node = element('tr', { id: `queue-${name}` }, element('th', { scope: 'row' }, button), element('td', { class: 'fill' }, element('div', {}, made.track, made.full)),
      made.length, made.high, made.limit, element('td', { class: 'trend' }, made.line), made.state);
    return made;
  }

  update(tables, { mean }) {
    const found = Object.entries(tables.queues ?? {}).map(([name, row]) => ({ name, row, ...judge(name, row) }));
    found.sort((a, b) => b.part - a.part || b.row.length - a.row.length || a.name.localeCompare(b.name));
    this.parent.replaceChildren(found.length ? this.table : this.empty);
    const nodes = found.map(({ name, row, part, tone: colour, state }) => {
      if (!this.rows.has(name)) this.rows.set(name, this.row(name));
      const made = this.rows.get(name);
      const unit = BYTES.has(name) ? 'bytes' : 'number';
      made.node.className = colour;
      made.bar.style.width = `${part > 0 ? Math.max(2, part) : 0}%`;
      made.track.setAttribute('aria-label', `${part.toFixed(0)} percent full`);
      made.full.textContent = human(row.full, 'percent');
      made.length.textContent = human(row.length, unit);
      made.high.textContent = human(row.high_water, unit);
      made.limit.textContent = row.limit > 0 ? human(row.limit, unit) : '–';
      made.limit.title = OF_ONE[name] ? 'of one client' : '';
      made.state.textContent = state;
      made.figures = [['waits', made.length.textContent], ['full', made.full.textContent], ['most that ever waited', made.high.textContent], ['limit', made.limit.textContent]];
      drawSpark(made.line, mean[`queues.${name}.length`] ?? []);
      return made.node;
    });
    // Moving a row that is in its place already would cost the focus and the selection.
    nodes.forEach((node, n) => {
      if (this.body.children[n] !== node) this.body.insertBefore(node, this.body.children[n] ?? null);
    });
    while (this.body.children.length > nodes.length) this.body.lastChild.remove();
  }
}
