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

  alarm({ time, alerts }) {
    const key = JSON.stringify([alerts.in_force.map((a) => [a.rule, a.figure]), alerts.changes[0], Math.floor(time / 10000)]);
    if (key === this.alarmed) return;
    this.alarmed = key;
    const open = this.alerts.querySelector('details')?.open ?? false;
    const nodes = alerts.in_force.map(({ rule, figure, since }) => element('p', { class: 'alert', role: 'alert' },
      element('b', { text: rule }), element('span', { class: 'num', text: `now ${figures.format(figure)}` }),
      element('span', { class: 'quiet num', text: `for ${lasting(time - since)}, since ${clock(since)}` })));
    const calm = nodes.length ? 'Alerts before' : 'No alerts in force';
    if (alerts.changes.length) {
      const past = alerts.changes.map((c) => element('li', {}, element('span', { class: 'num', text: moment(c.time) }),
        element('b', { text: c.state }), element('span', { text: c.rule }), element('span', { class: 'num', text: figures.format(c.figure) })));
      const details = element('details', { class: 'past' }, element('summary', { text: `${calm}; ${alerts.changes.length} ${alerts.changes.length === 1 ? 'change' : 'changes'}` }), element('ol', {}, ...past));
      details.open = open;
      nodes.push(details);
    } else {
      nodes.push(element('p', { class: 'calm', text: calm }));
    }
    this.alerts.replaceChildren(...nodes);
  }
}
