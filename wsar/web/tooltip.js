// What stands beside the cursor in a chart: the time, and each line by its value, the largest first, with the least, the mean
// and the largest of what is seen.

import { element, human, moment } from './format.js';

const APART = 14; // pixels between the cursor and its tooltip

// {min, mean, max} of the values from index `first` to `last`; the largest is of `peaks`, which short ones are in.
export function extent(means, peaks, first, last) {
  let [min, max, sum, count] = [Infinity, -Infinity, 0, 0];
  for (let n = first; n <= last; n += 1) {
    const v = means[n];
    if (v == null) continue;
    min = Math.min(min, v);
    max = Math.max(max, peaks[n] ?? v);
    sum += v;
    count += 1;
  }
  return count ? { min, mean: sum / count, max } : { min: null, mean: null, max: null };
}

export class Tooltip {
  constructor() {
    this.time = element('caption', { class: 'num' });
    this.body = element('tbody');
    const head = ['', 'here', 'min', 'mean', 'max'].map((text) => element('th', { scope: 'col', text }));
    const table = element('table', {}, this.time, element('thead', {}, element('tr', {}, ...head)), this.body);
    this.node = element('div', { class: 'tooltip', role: 'presentation' }, table);
    this.hide();
  }

  hide() {
    this.node.hidden = true;
  }

  // rows: [{label, colour, values: {here, min, mean, max}}]; left: pixels from the left edge of `width`.
  show(time, rows, unit, left, width) {
    this.time.textContent = moment(time);
    const sorted = [...rows].sort((a, b) => (b.values.here ?? -1) - (a.values.here ?? -1));
    this.body.replaceChildren(...sorted.map(({ label, colour, values }) => element('tr', {},
      element('th', { scope: 'row' }, element('i', { class: `c${colour}` }), label),
      ...['here', 'min', 'mean', 'max'].map((key) => element('td', { text: human(values[key], unit) })))));
    this.node.hidden = false;
    const own = this.node.offsetWidth;
    const right = left + APART + own <= width;
    this.node.style.left = `${right ? left + APART : Math.max(0, left - APART - own)}px`;
  }
}
