// What answers an incident: the accounts and addresses that cause most, and what was refused, with what to do about it.

import { element, human, lasting } from './format.js';
import * as source from './source.js';

const BY = [['messages', 'Messages'], ['bytes', 'Bytes'], ['backlog', 'Waiting'], ['failed', 'Failed logins']];
const OF = [['accounts', 'accounts'], ['addresses', 'addresses']];
const STALE = 60000; // a list this old is of another time

// What a refusal or a queue means; asked for once.
let asked = null;
export const explain = () => (asked ??= source.explain().catch((error) => {
  asked = null;
  throw error;
}));

// Opens the dialog that explains a refusal or a queue.
export async function show(kind, name, figures) {
  const dialog = document.getElementById('explain');
  const found = (await explain())[kind][name];
  const [title, text, list] = ['explain-title', 'explain-meaning', 'explain-list'].map((id) => document.getElementById(id));
  title.textContent = kind === 'queues' ? `Queue ${name}` : `Refused: ${name}`;
  text.textContent = found?.meaning ?? 'This version of wsar does not know it.';
  const rows = [...figures];
  if (found?.keys.length) rows.push(['configuration', found.keys.join(', ')]);
  if (found) rows.push(['what to do', found.cure]);
  list.replaceChildren(...rows.flatMap(([term, value]) => [element('dt', { text: term }), element('dd', { text: value })]));
  dialog.showModal();
}

export class Incident {
  constructor(parent) {
    this.parent = parent;
    this.by = 'messages';
    this.tabs = BY.map(([by, text]) => {
      const tab = element('button', { type: 'button', 'data-by': by, text });
      tab.addEventListener('click', () => {
        this.by = by;
        this.key = '';
        this.draw();
      });
      return tab;
    });
    this.lists = element('div', { class: 'tops' });
    this.note = element('p', { class: 'quiet note' });
    this.refusals = element('div', { class: 'refusals' });
    parent.append(element('div', { class: 'group', role: 'group', 'aria-label': 'What is listed' }, ...this.tabs), this.lists, this.note, this.refusals);
  }

  update(now) {
    this.now = now;
    this.draw();
  }

  draw() {
    for (const tab of this.tabs) tab.setAttribute('aria-pressed', String(tab.dataset.by === this.by));
    const { busiest, server, tables, time } = this.now ?? {};
    const refused = Object.entries(tables?.refusals ?? {}).filter(([, row]) => row.total > 0);
    refused.sort((a, b) => b[1].rate - a[1].rate || b[1].total - a[1].total || a[0].localeCompare(b[0]));
    const note = this.words(server?.state, busiest, time);
    const key = JSON.stringify([this.by, busiest?.time, note, refused]);
    if (key === this.key) return;
    this.key = key;
    if (this.note.textContent !== note) this.note.textContent = note;
    this.lists.replaceChildren(...(busiest ? OF.map(([of, text]) => list(busiest, of, text, this.by)) : []));
    this.refused(refused, server?.state);
  }

  // What the figures are of, in words.
  words(state, busiest, time) {
    if (!busiest) return state === 'running' ? 'The server tells them ten seconds after its start.' : 'No server has told any.';
    const age = time - busiest.time;
    const over = { messages: `sent a second, over ${busiest.window_seconds} s`, bytes: `sent a second, over ${busiest.window_seconds} s`,
      backlog: 'bytes that wait for clients that read slowly', failed: `failed logins in the last ${busiest.failed_seconds} s` }[this.by];
    const old = state !== 'running' || age > STALE ? `; told ${lasting(age)} ago` : '';
    return `${over[0].toUpperCase()}${over.slice(1)}${old}.`;
  }

  refused(rows, state) {
    const title = element('h3', { text: 'Refused since the start' });
    if (rows.length === 0) {
      const text = state === 'running' ? 'Nothing: no limit was reached.' : 'No server runs.';
      this.refusals.replaceChildren(title, element('p', { class: 'empty', text }));
      return;
    }
    const lines = rows.map(([name, row]) => {
      const button = element('button', { type: 'button', class: 'link', text: name, title: 'What it means and what to do' });
      const figures = [['a second', human(row.rate, 'rate')], ['since the start', human(row.total, 'number')]];
      button.addEventListener('click', () => show('refusals', name, figures));
      return element('tr', { class: row.rate > 0 ? 'warn' : '' }, element('th', { scope: 'row' }, button),
        element('td', { class: 'length', text: human(row.rate, 'rate') }), element('td', { text: human(row.total, 'number') }));
    });
    const head = ['reason', 'now', 'in all'].map((text) => element('th', { scope: 'col', text }));
    const table = element('table', { class: 'board' }, element('thead', {}, element('tr', {}, ...head)), element('tbody', {}, ...lines));
    this.refusals.replaceChildren(title, table);
  }
}

function list(busiest, of, title, by) {
  const table = busiest.tables.find((t) => t.of === of && t.by === by) ?? { rows: [], total: 0, unit: 'number' };
  const rows = table.rows.map(({ name, figure, over }) => {
    const part = table.total > 0 ? Math.min(100, (figure * 100) / table.total) : 0;
    const bar = element('i');
    bar.style.width = `${part}%`;
    const value = element('b', { class: 'num', text: human(figure, table.unit) });
    if (over > 0) value.title = `at most ${human(over, table.unit)} too large`;
    return element('li', {}, element('span', { class: 'name', title: name, text: name }), element('div', { class: 'track', role: 'img', 'aria-label': `${part.toFixed(0)} percent of all` }, bar), value);
  });
  const body = rows.length ? element('ol', {}, ...rows) : element('p', { class: 'empty', text: 'none' });
  return element('div', { class: `top ${of}` }, element('h3', { text: title }), body);
}
