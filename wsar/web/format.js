// Numbers and times as people read them: the same steps as `wsar` uses in the terminal.

function scaled(value, base, suffixes) {
  let at = 0;
  while (Math.abs(value) >= base * 0.9995 && at + 1 < suffixes.length) {
    value /= base;
    at += 1;
  }
  const size = Math.abs(value);
  const digits = size === Math.trunc(size) && (at === 0 || size < 100) ? 0 : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  return [value.toFixed(digits), suffixes[at]];
}

const YEAR = 365.25 * 86400; // seconds

// Value and unit apart, for large print.
export function parts(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return ['–', ''];
  switch (unit) {
    case 'percent': return [value.toFixed(value > 0 && value < 9.95 ? 1 : 0), '%'];
    case 'bytes': return scaled(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']);
    case 'byterate': return scaled(value, 1024, ['B/s', 'KiB/s', 'MiB/s', 'GiB/s', 'TiB/s', 'PiB/s']);
    case 'rate': return [scaled(value, 1000, ['', 'k', 'M', 'G']).join(''), '/s'];
    case 'seconds': {
      if (value >= 2 * YEAR) return [(value / YEAR).toFixed(1), 'years'];
      return Math.abs(value) >= 86400 ? [Math.floor(value / 86400).toFixed(0), 'days'] : [(value / 3600).toFixed(1), 'h'];
    }
    case 'micros': {
      if (Math.abs(value) >= 999950) return [(value / 1e6).toFixed(1), 's'];
      if (Math.abs(value) >= 999.5) return [(value / 1e3).toFixed(1), 'ms'];
      return [value.toFixed(0), 'µs'];
    }
    default: return [scaled(value, 1000, ['', 'k', 'M', 'G', 'T']).join(''), ''];
  }
}

export function human(value, unit) {
  const [number, suffix] = parts(value, unit);
  return suffix ? `${number} ${suffix}` : number;
}

// For axes: short, and with the unit; of a number of things the title names it.
export function tick(value, unit) {
  if (unit === 'rate') return `${parts(value, 'number')[0]}/s`;
  if (unit === 'percent') return `${value}%`;
  return human(value, unit);
}

const two = (n) => String(n).padStart(2, '0');
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

export function clock(ms, seconds = true) {
  const d = new Date(ms);
  return `${two(d.getHours())}:${two(d.getMinutes())}${seconds ? `:${two(d.getSeconds())}` : ''}`;
}

export function day(ms) {
  const d = new Date(ms);
  return `${d.getDate()} ${months[d.getMonth()]}`;
}

// As an input of date and time has it.
export function local(ms) {
  const d = new Date(ms);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}T${clock(ms)}`;
}

export const moment = (ms) => `${day(ms)} ${clock(ms)}`;

export function lasting(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'class') node.className = value;
    else if (key === 'text') node.textContent = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}
