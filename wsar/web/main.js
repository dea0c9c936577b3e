// Puts the page together.

import { Charts } from './charts.js';
import { Events } from './events.js';
import { lasting, local, moment } from './format.js';
import { Incident } from './incident.js';
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
  before: () => (view.mode.kind === 'live' ? null : view.before),
  rules: () => view.now?.alerts.rules ?? [],
  restarts: () => view.now?.restarts ?? [],
  live: () => view.show({ kind: 'live', span: 300000 }),
  zoom: (from, to) => view.show({ kind: 'range', from, to }),
};
const charts = new Charts(page);
const tiles = new Tiles(at('tiles'));
const queues = new Queues(at('queues'));
const workers = new Workers(at('workers'), page.bounds);
const incident = new Incident(at('incident'));
const events = new Events(at('events'), page.bounds);
const ranges = [...document.querySelectorAll('[data-live], [data-last]')];

function draw() {
  if (!view.now || document.hidden) return;
  const { tables } = view.now;
  tiles.update(view.live);
  queues.update(tables, view.live);
  workers.update(tables, view.data());
  incident.update(view.now);
  events.update(view.now.events);
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
  at('compare').setAttribute('aria-pressed', String(view.compares && kind !== 'live'));
  const [from, to] = view.bounds();
  at('workers-time').textContent = kind === 'live' ? `last ${lasting(span)}` : `${moment(from)} to ${moment(to)}`;
  let text = kind === 'live' ? '' : `${moment(from)} to ${moment(to)} (${lasting(to - from)})`;
  if (view.error) text = `${text}: ${view.error}`;
  else if (kind !== 'live' && view.asked && !document.body.classList.contains('waiting') && view.past.times.length === 0) {
    text += view.since ? `: nothing is there; recorded since ${moment(view.since)}.` : ': nothing was recorded. wsar record records.';
  } else if (kind !== 'live' && view.troubles?.length) text += `. ${view.troubles[0]}`;
  if (at('shown').textContent !== text) at('shown').textContent = text;
}

for (const button of ranges) {
  const { live, last } = button.dataset;
  button.addEventListener('click', () => view.show(live ? { kind: 'live', span: live * 1000 } : { kind: 'last', span: last * 1000 }));
}
for (const button of document.querySelectorAll('[data-move]')) button.addEventListener('click', () => view.move(button.dataset.move));
// Any time, as a person writes it: local, as everything on the page.
at('picker').addEventListener('submit', (event) => {
  event.preventDefault();
  const [from, to] = ['picker-from', 'picker-to'].map((id) => new Date(at(id).value).getTime());
  at('picker-to').setCustomValidity(from < to ? '' : 'The end must be after the begin.');
  if (!at('picker').reportValidity()) return;
  at('any').open = false;
  view.show({ kind: 'range', from, to });
});
for (const id of ['picker-from', 'picker-to']) at(id).addEventListener('input', () => at('picker-to').setCustomValidity(''));
at('any').addEventListener('toggle', () => {
  if (!at('any').open) return;
  const [from, to] = view.bounds();
  [at('picker-from').value, at('picker-to').value] = [from, to].map(local);
});
at('picker-all').addEventListener('click', () => {
  at('any').open = false;
  view.all().catch((error) => { at('shown').textContent = error.message; });
});
at('compare').addEventListener('click', () => view.compare(!view.compares || view.mode.kind === 'live'));
// On a phone, sections fold.
for (const button of document.querySelectorAll('.fold')) {
  button.addEventListener('click', () => {
    const folded = button.closest('[data-folds]').classList.toggle('folded');
    button.textContent = folded ? '+' : '−';
    button.setAttribute('aria-expanded', String(!folded));
    charts.resize();
  });
}
at('help-button').addEventListener('click', () => at('help').showModal());

const KEYS = { ArrowLeft: 'back', ArrowRight: 'on', '+': 'in', '=': 'in', '-': 'out' };
document.addEventListener('keydown', (event) => {
  if (event.target instanceof HTMLInputElement || document.querySelector('dialog[open]') || event.ctrlKey || event.metaKey || event.altKey) return;
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
