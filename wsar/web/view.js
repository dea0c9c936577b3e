// What time is shown, and the figures of that time. The last minutes are kept here as they come; everything else is
// asked of the server, in as many points as a chart has pixels for.

import { ids, value } from './figures.js';
import * as source from './source.js';

const KEPT = 900000; // milliseconds of samples that are kept here
const HOLE = 15000; // a page that slept longer asks for what it missed
const POINTS = 600;
const SPAN_MIN = 10000;
export const DAY = 86400000;

const none = () => ({ times: [], mean: {}, max: {} });

export class View {
  constructor(changed) {
    this.changed = changed;
    this.live = none();
    this.past = none();
    this.before = none(); // the same time of yesterday
    this.compares = false;
    this.since = null; // since when anything is known
    this.now = null;
    this.error = '';
    this.asked = 0;
    this.askedAt = 0;
    this.fromHash();
  }

  fromHash() {
    const hash = new URLSearchParams(location.hash.slice(1));
    const number = (name) => (hash.has(name) ? Number(hash.get(name)) : NaN);
    if (number('from') < number('to')) this.mode = { kind: 'range', from: number('from'), to: number('to') };
    else if (number('last') > 0) this.mode = { kind: 'last', span: number('last') * 1000 };
    else this.mode = { kind: 'live', span: Math.min(KEPT, (number('live') || 300) * 1000) };
  }

  show(mode) {
    if (mode.kind === 'range' && mode.to - mode.from < SPAN_MIN) {
      const middle = (mode.from + mode.to) / 2;
      mode = { kind: 'range', from: middle - SPAN_MIN / 2, to: middle + SPAN_MIN / 2 };
    }
    // Whole seconds: what a pointer selects is not.
    if (mode.kind === 'range') mode = { kind: 'range', from: Math.floor(mode.from / 1000) * 1000, to: Math.ceil(mode.to / 1000) * 1000 };
    this.mode = mode;
    const { kind } = mode;
    const hash = kind === 'range' ? `from=${mode.from}&to=${mode.to}` : `${kind}=${mode.span / 1000}`;
    history.replaceState(null, '', `#${hash}`);
    this.past = none();
    this.before = none();
    this.error = '';
    if (kind === 'live') this.changed();
    else this.load();
  }

  // Begin and end of what is shown.
  bounds() {
    const { kind, span, from, to } = this.mode;
    if (kind === 'range') return [from, to];
    const end = this.now?.time ?? Date.now();
    return [end - span, end];
  }

  data() {
    return this.mode.kind === 'live' ? this.live : this.past;
  }

  // Shows the same time of yesterday beneath, or no more. What is live is too short for that: then the last hour is shown.
  compare(on) {
    this.compares = on;
    this.before = none();
    if (on && this.mode.kind === 'live') this.show({ kind: 'last', span: 3600000 });
    else if (on) this.load();
    this.changed();
  }

  // Shows everything that is known.
  async all() {
    const end = this.now?.time ?? Date.now();
    const { since } = await source.history(['overview.cpu'], end - SPAN_MIN, end, 1);
    if (since) this.show({ kind: 'range', from: Math.min(since, end - SPAN_MIN), to: end });
  }

  // Moves by a part of what is shown, or zooms.
  move(how) {
    const [from, to] = this.bounds();
    const span = to - from;
    const end = this.now?.time ?? Date.now();
    const shifted = { back: [-0.5, -0.5], on: [0.5, 0.5], in: [0.25, -0.25], out: [-0.5, 0.5] }[how];
    const range = { kind: 'range', from: from + shifted[0] * span, to: to + shifted[1] * span };
    if (range.to > end) {
      range.from -= how === 'on' ? range.to - end : 0;
      range.to = end;
    }
    this.show(range);
  }

  async load() {
    const asked = (this.asked += 1);
    this.askedAt = Date.now();
    const [from, to] = this.bounds();
    document.body.classList.toggle('waiting', this.past.times.length === 0);
    try {
      const wanted = ids(this.now?.tables ?? {});
      const found = await source.history(wanted, from, to, POINTS);
      const before = this.compares ? await source.history(wanted, from - DAY, to - DAY, POINTS) : null;
      // Something else may have been asked for meanwhile.
      if (asked !== this.asked) return;
      this.past = columns(found);
      this.before = before ? columns(before) : none();
      this.since = found.since;
      this.troubles = found.troubles;
      this.error = '';
    } catch (error) {
      if (asked !== this.asked) return;
      this.error = error.message;
    }
    document.body.classList.remove('waiting');
    this.changed();
  }

  // Fills what is kept here with the minutes before.
  async fill() {
    const end = this.now.time;
    const found = columns(await source.history(ids(this.now.tables), end - KEPT, end, KEPT / 1000));
    const since = found.times.at(-1) ?? 0;
    const later = this.live.times.findIndex((time) => time > since);
    if (later >= 0) {
      found.times.push(...this.live.times.slice(later));
      for (const id of Object.keys(found.mean)) {
        const more = this.live.mean[id]?.slice(later) ?? new Array(this.live.times.length - later).fill(null);
        found.mean[id].push(...more);
      }
    }
    found.max = found.mean;
    this.live = found;
    this.changed();
  }

  async push(now) {
    const last = this.live.times.at(-1);
    const first = this.now === null;
    this.now = now;
    if (last === undefined || now.time > last) {
      const { times, mean } = this.live;
      times.push(now.time);
      for (const id of ids(now.tables)) mean[id] ??= new Array(times.length - 1).fill(null);
      for (const id of Object.keys(mean)) mean[id].push(value(now.tables, id));
      const old = times.findIndex((time) => time >= now.time - KEPT);
      if (old > 60) for (const list of [times, ...Object.values(mean)]) list.splice(0, old);
      this.live.max = mean;
    }
    if (first || now.time - last > HOLE) await this.fill().catch((error) => { this.error = error.message; });
    if (first && this.mode.kind !== 'live') await this.load();
    else if (this.mode.kind === 'last' && Date.now() - this.askedAt > Math.max(5000, this.mode.span / POINTS)) this.load();
    this.changed();
  }
}

function columns({ times, series, troubles }) {
  const data = { times, mean: {}, max: {}, troubles };
  for (const [id, { mean, max }] of Object.entries(series)) {
    data.mean[id] = mean;
    data.max[id] = max;
  }
  return data;
}
