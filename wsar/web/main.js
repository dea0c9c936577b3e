// Puts the page together.

import { Charts } from './charts.js';
import { lasting, moment } from './format.js';
import { Queues } from './queues.js';
import * as source from './source.js';
import { Status } from './status.js';
import { Tiles } from './tiles.js';
import { View } from './view.js';
import { Workers } from './workers.js';

const at = (id) => document.getElementById(id);
const status = new Status();
const view = new View(() => draw());
const page = {
  bounds: () => view.bounds(),
  data: () => view.data(),
  rules: () => view.now?.alerts.rules ?? [],
  restarts: () => view.now?.restarts ?? [],
  live: () => view.show({ kind: 'live', span: 300000 }),
  zoom: (from, to) => view.show({ kind: 'range', from, to }),
};
const charts = new Charts(page);
const tiles = new Tiles(at('tiles'));
const queues = new Queues(at('queues'));
const workers = new Workers(at('workers'), page.bounds);
const ranges = [...document.querySelectorAll('[data-live], [data-last]')];

function draw() {
  if (!view.now || document.hidden) return;
  const { tables } = view.now;
  tiles.update(view.live);
  queues.update(tables, view.live);
  workers.update(tables, view.data());
  charts.update(tables);
  shown();
}

// What time is shown, in words.
function shown() {
  const { kind, span } = view.mode;
  for (const button of ranges) {
    const { live, last } = button.dataset;
    button.setAttribute('aria-pressed', String((kind === 'live' && Number(live) * 1000 === span) || (kind === 'last' && Number(last) * 1000 === span)));
  }
  // Of a server that never was there is nothing to show, unless it is in the recording.
  document.body.classList.toggle('live', kind === 'live');
  const [from, to] = view.bounds();
  at('workers-time').textContent = kind === 'live' ? `last ${lasting(span)}` : `${moment(from)} to ${moment(to)}`;
  let text = kind === 'live' ? '' : `${moment(from)} to ${moment(to)} (${lasting(to - from)})`;
  if (view.error) text = `${text}: ${view.error}`;
  else if (kind !== 'live' && view.asked && !document.body.classList.contains('waiting') && view.past.times.length === 0) {
    text += ': nothing was recorded then. wsar record records.';
  } else if (kind !== 'live' && view.troubles?.length) text += `. ${view.troubles[0]}`;
  if (at('shown').textContent !== text) at('shown').textContent = text;
}

for (const button of ranges) {
  const { live, last } = button.dataset;
  button.addEventListener('click', () => view.show(live ? { kind: 'live', span: live * 1000 } : { kind: 'last', span: last * 1000 }));
}
for (const button of document.querySelectorAll('[data-move]')) button.addEventListener('click', () => view.move(button.dataset.move));
at('help-button').addEventListener('click', () => at('help').showModal());

const KEYS = { ArrowLeft: 'back', ArrowRight: 'on', '+': 'in', '=': 'in', '-': 'out' };
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at('help').open) return;
  if (KEYS[event.key]) view.move(KEYS[event.key]);
  else if (event.key === 'l') page.live();
  else if (event.key === '?') at('help').showModal();
  else if (/^[1-6]$/.test(event.key)) ranges[event.key - 1].click();
  else return;
  event.preventDefault();
});
window.addEventListener('hashchange', () => {
  view.fromHash();
  view.show(view.mode);
});
document.addEventListener('visibilitychange', draw);

source.follow((now) => {
  status.update(now);
  view.push(now);
}, (why) => status.lost(why));
