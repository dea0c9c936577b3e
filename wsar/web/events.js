// The lane of events: what happened in the time that is shown, each where its time is, and in words below.

import { clock, element, moment } from './format.js';

const TONES = { end: 'bad', alert: 'bad', refusal: 'warn', start: 'good', upgrade: 'good', reload: '', clear: '' };
const SHOWN = 12; // in words; the others stay in the lane

export class Events {
  constructor(parent, bounds) {
    this.bounds = bounds;
    this.lane = element('div', { class: 'lane', role: 'img' });
    this.list = element('ol', { class: 'events' });
    this.empty = element('p', { class: 'calm', text: 'Nothing happened in this time while wsar serve watched.' });
    parent.append(this.lane, this.list, this.empty);
    this.key = '';
  }

  update(events) {
    const [from, to] = this.bounds();
    const seen = events.filter(({ time }) => time >= from && time <= to);
    const part = (time) => ((time - from) / (to - from)) * 100;
    this.lane.replaceChildren(...seen.map(({ time, kind, text }) => element('i', { class: TONES[kind] ?? '', title: `${clock(time)} ${text}` })));
    // Set by script: the policy of the page forbids styles in attributes.
    [...this.lane.children].forEach((node, n) => { node.style.left = `${part(seen[n].time)}%`; });
    this.lane.setAttribute('aria-label', `${seen.length} events`);
    this.empty.hidden = seen.length > 0;
    const key = JSON.stringify(seen);
    if (key === this.key) return;
    this.key = key;
    this.list.replaceChildren(...seen.slice(-SHOWN).reverse().map(({ time, kind, text }) => element('li', {},
      element('span', { class: 'num', text: moment(time) }), element('b', { class: TONES[kind] ?? '', text: kind }), element('span', { text }))));
  }
}
