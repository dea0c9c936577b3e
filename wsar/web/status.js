// How the server and this page stand: the pill in the head, notices, alerts, the footer.

import { clock, element, lasting, moment } from './format.js';

const RESTART_TOLD = 300000;
const figures = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

export class Status {
  constructor() {
    this.pill = document.getElementById('server');
    this.notices = document.getElementById('notices');
    this.alerts = document.getElementById('alerts');
    this.footer = document.getElementById('footer');
    this.lostSince = null;
  }

  // No samples come.
  lost(why) {
    this.lostSince ??= Date.now();
    document.body.classList.add('stale');
    this.say('bad', `${why} since ${clock(this.lostSince)}; trying again`);
  }

  say(tone, text) {
    this.pill.className = `pill ${tone}`;
    if (this.pill.textContent !== text) this.pill.textContent = text;
  }

  update(now) {
    this.lostSince = null;
    document.body.classList.remove('stale');
    const { server } = now;
    const notices = [];
    document.body.classList.toggle('alone', server.state === 'absent');
    if (server.state === 'running') {
      this.say('good', `running, up ${lasting(now.time - server.started)}`);
      this.pill.title = `process ${server.pid}, since ${moment(server.started)}`;
      const restart = now.restarts.at(-1);
      if (restart && now.time - restart < RESTART_TOLD) {
        notices.push(['warn', `The server was started again at ${clock(restart)} (process ${server.pid}).`]);
      }
    } else if (server.state === 'ended') {
      this.say('bad', 'server has ended');
      notices.push(['bad', `The server (process ${server.pid}) has ended. The machine's figures go on; the server's come back when it does.`]);
    } else {
      this.say('warn', 'no server');
      notices.push(['warn', 'No server has run in this data directory yet. The machine is shown alone; when a server starts, it appears here.']);
    }
    document.title = now.alerts.in_force.length ? `(${now.alerts.in_force.length}) Whimbrel` : 'Whimbrel';
    this.notify(notices);
    this.alarm(now);
    const about = [`last sample ${clock(now.time)}`, ...now.problems];
    const links = [['api', 'API'], ['metrics', 'metrics']].map(([href, text]) => element('a', { href, text }));
    this.footer.replaceChildren(...about.map((text) => element('span', { class: 'num', text })), ...links);
  }

  notify(notices) {
    const key = JSON.stringify(notices);
    // Writing the same again would make screen readers say it again.
    if (key === this.noticed) return;
    this.noticed = key;
    this.notices.replaceChildren(...notices.map(([tone, text]) => element('p', { class: `notice ${tone}`, text })));
  }

  // One line that says how things stand, the rules in force, and what changed before.
  alarm({ time, alerts, server }) {
    const key = JSON.stringify([alerts.in_force.map((a) => [a.rule, a.figure]), alerts.changes[0], server.state, Math.floor(time / 10000)]);
    if (key === this.alarmed) return;
    this.alarmed = key;
    const open = this.alerts.querySelector('details')?.open ?? false;
    const [tone, text] = verdict(alerts.in_force, server);
    const nodes = [element('p', { class: `verdict ${tone}`, role: 'status', text })];
    const figure = (v) => (v === null ? 'no figure' : figures.format(v));
    for (const { rule, figure: now, since } of alerts.in_force) {
      const cure = alerts.rules.find((r) => r.rule === rule)?.cure;
      nodes.push(element('p', { class: 'alert', role: 'alert' }, element('b', { text: rule }), element('span', { class: 'num', text: `now ${figure(now)}` }),
        element('span', { class: 'quiet num', text: `for ${lasting(time - since)}, since ${clock(since)}` }), ...(cure ? [element('span', { text: cure })] : [])));
    }
    if (alerts.changes.length) {
      const past = alerts.changes.map((c) => element('li', {}, element('span', { class: 'num', text: moment(c.time) }),
        element('b', { text: c.state }), element('span', { text: c.rule }), element('span', { class: 'num', text: figure(c.figure) })));
      const count = `${alerts.changes.length} ${alerts.changes.length === 1 ? 'change' : 'changes'}`;
      const details = element('details', { class: 'past' }, element('summary', { text: `${count} of alerts` }), element('ol', {}, ...past));
      details.open = open;
      nodes.push(details);
    }
    this.alerts.replaceChildren(...nodes);
  }
}

function verdict(inForce, { state }) {
  if (state === 'ended') return ['bad', 'The server is down.'];
  if (state === 'absent') return ['bad', 'No server runs in this data directory.'];
  if (inForce.length === 0) return ['good', 'All is well: the server runs, and every rule is within its level.'];
  return ['warn', `The server runs; ${inForce.length === 1 ? 'one rule is' : `${inForce.length} rules are`} out of bounds.`];
}
