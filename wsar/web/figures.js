// Which figures there are on the page, and where each is found in what the server sends.

// Tables with a row for each of something; the others have one row.
const ROWS = new Set(['cpu', 'disk', 'net', 'workers', 'push', 'queues', 'refusals']);

export function value(tables, id) {
  const first = id.indexOf('.');
  const table = tables[id.slice(0, first)];
  if (!table) return null;
  const rest = id.slice(first + 1);
  if (!ROWS.has(id.slice(0, first))) return table[rest] ?? null;
  const last = rest.lastIndexOf('.');
  return table[rest.slice(0, last)]?.[rest.slice(last + 1)] ?? null;
}

const line = (id, label, colour) => ({ id, label, colour });
const keys = (object) => Object.keys(object ?? {});

export const queues = (tables) => keys(tables.queues);
// Loop devices and memory disks only hide the real ones.
const disks = (tables) => keys(tables.disk).filter((name) => !/^(loop|ram|zram|md)\d/.test(name)).slice(0, 6);
const cores = (tables) => keys(tables.cpu).filter((name) => name !== 'all').slice(0, 32);
const pushes = (tables) => keys(tables.push);
export const workers = (tables) => keys(tables.workers).filter((name) => name !== 'all');

// levels: [metric of a rule, its unit in that of the chart]: where the rule comes into force, a line is drawn.
// unit: see format.js. stack: areas on top of one another. lines may depend on what there is.
export const CHARTS = [
  { name: 'messages', place: 'server', title: 'Messages', note: 'a second', unit: 'rate', lines: [line('stanzas.messages_in', 'in', 1), line('stanzas.messages_out', 'out', 2)] },
  { name: 'sessions', place: 'server', title: 'Clients', note: 'connections, sessions', unit: 'number', lines: [line('server.connections', 'connections', 3), line('server.sessions', 'sessions', 1)] },
  { name: 'backlog', place: 'server', title: 'Waiting for slow readers', note: 'output queue, all clients', unit: 'bytes', lines: [line('queues.output.length', 'output', 5)] },
  { name: 'queues', place: 'server', title: 'How full queues are', note: 'the fullest worker, mailbox or client', unit: 'percent', max: 100, levels: [['full:held', 1]],
    lines: (tables) => queues(tables).map((q, n) => line(`queues.${q}.full`, q, (n % 7) + 1)) },
  { name: 'loop', place: 'server', title: 'Event loop', note: 'length of an iteration', levels: [['loop.latency:p99', 1]], unit: 'micros', log: true, lines: [line('workers.all.loop_p50', 'median', 1), line('workers.all.loop_p99', '99 %', 2), line('workers.all.loop_max', 'longest', 5)] },
  { name: 'delivery', place: 'server', title: 'Delivery of messages', note: 'from reception to the kernel, and to the acknowledgement', unit: 'micros', log: true,
    lines: [line('stanzas.delivery_p50', 'median', 1), line('stanzas.delivery_p99', '99 %', 2), line('stanzas.prompt_p99', '99 %, without those in turns', 5), line('stanzas.ack_p50', 'acknowledged, median', 3), line('stanzas.ack_p99', '99 %', 4)] },
  { name: 'commit', place: 'server', title: 'Commits of the log', note: 'mean time', levels: [['mean:log.commit_time/log.commits', 1]], unit: 'micros', lines: [line('stanzas.commit_mean', 'commit', 4)] },
  { name: 'pending', place: 'server', title: 'Pending messages', note: 'messages kept until acknowledged', unit: 'number', lines: [line('stanzas.pending', 'pending', 3)] },
  { name: 'bytes', place: 'server', title: 'Client traffic', note: 'a second', unit: 'byterate', lines: [line('server.bytes_in', 'in', 1), line('server.bytes_out', 'out', 2)] },
  { name: 'stanzas', place: 'server', title: 'Presence and IQ', note: 'a second', unit: 'rate', lines: [line('stanzas.presences_in', 'presence in', 1), line('stanzas.presences_out', 'presence out', 2), line('stanzas.iqs_in', 'IQ in', 3), line('stanzas.iqs_out', 'IQ out', 4)] },
  { name: 'logins', place: 'server', title: 'Logins and refusals', note: 'a second', levels: [['logins.failed', 1], ['refused', 1]], unit: 'rate', lines: [line('server.logins', 'logins', 1), line('server.logins_failed', 'failed', 2), line('server.refused', 'refused', 5)] },
  { name: 'archive', place: 'server', title: 'Archives', note: 'a second', unit: 'rate', lines: [line('archive.pages', 'pages', 1), line('archive.given', 'messages given', 2), line('archive.added', 'archived', 3), line('archive.lost', 'gone or damaged', 5)] },
  { name: 'paging', place: 'server', title: 'Archives, latency', note: 'from the query to the end of its page, which a slow reader decides', unit: 'micros', log: true, lines: [line('archive.page_p50', 'median', 1), line('archive.page_p99', '99 %', 2)] },
  { name: 'archived', place: 'server', title: 'Archives, size', note: 'bytes of the logs', unit: 'bytes', lines: [line('archive.bytes', 'archives', 3)] },
  { name: 'web', place: 'server', title: 'Clients in browsers', note: 'WebSocket, and of these BOSH', unit: 'number', lines: [line('web.websocket', 'WebSocket', 1), line('web.bosh', 'BOSH', 4)] },
  { name: 'files', place: 'server', title: 'Files', note: 'a second', unit: 'byterate', lines: [line('web.received', 'uploads', 1), line('web.sent', 'downloads', 2)] },
  { name: 'kept', place: 'server', title: 'Files kept', unit: 'bytes', lines: [line('web.bytes', 'files', 3)] },
  { name: 'push', place: 'server', title: 'Push', note: 'notifications a second: sent, given up or refused', levels: [['push.failed.overdue', 1]], unit: 'rate', lines: (tables) => pushes(tables).flatMap((p, n) => [line(`push.${p}.sent`, p, 2 * n + 1), line(`push.${p}.overdue`, `${p} late`, 2 * n + 2)]) },
  { name: 'pushing', place: 'server', title: 'Push, latency', note: 'from the message to the answer of the push service, 99 %', unit: 'micros', log: true, lines: (tables) => pushes(tables).map((p, n) => line(`push.${p}.latency_p99`, p, n + 1)) },
  { name: 'process', place: 'server', title: 'CPU of the server', note: 'of one core', unit: 'percent', stack: true, lines: [line('process.user', 'its code', 1), line('process.system', 'kernel', 3)] },
  { name: 'resident', place: 'server', title: 'Memory of the server', unit: 'bytes', lines: [line('process.resident', 'resident', 3), line('process.anonymous', 'allocated', 1)] },
  { name: 'cpu', place: 'machine', title: 'CPU', note: 'all cores', unit: 'percent', max: 100, stack: true, lines: [line('cpu.all.user', 'user', 1), line('cpu.all.nice', 'nice', 7), line('cpu.all.system', 'system', 3), line('cpu.all.softirq', 'soft irq', 4), line('cpu.all.iowait', 'iowait', 6), line('cpu.all.steal', 'steal', 5)] },
  { name: 'cores', place: 'machine', title: 'CPU of each core', note: 'neither idle nor waiting', unit: 'percent', max: 100, lines: (tables) => cores(tables).map((c, n) => line(`cpu.${c}.used`, `core ${c}`, (n % 7) + 1)) },
  { name: 'memory', place: 'machine', title: 'Memory', unit: 'bytes', lines: [line('memory.available', 'available', 1), line('memory.anonymous', 'programs', 2), line('memory.cached', 'file cache', 3), line('memory.slab', 'kernel', 4)] },
  { name: 'net', place: 'machine', title: 'Network', note: 'a second, all interfaces', unit: 'byterate', lines: [line('overview.in_bytes', 'received', 1), line('overview.out_bytes', 'sent', 2)] },
  { name: 'tcp', place: 'machine', title: 'TCP connections', note: 'sockets', unit: 'number', lines: [line('tcp.established', 'established', 1), line('sockets.tcp_time_wait', 'TIME-WAIT', 7)] },
  { name: 'trouble', place: 'machine', title: 'TCP trouble', note: 'a second', unit: 'rate', lines: [line('tcp.retransmits', 'retransmitted', 2), line('tcp.resets', 'resets', 5), line('tcp.listen_overflows', 'backlog full', 4)] },
  { name: 'disk', place: 'machine', title: 'Disks', note: 'written a second', unit: 'byterate', lines: (tables) => disks(tables).map((d, n) => line(`disk.${d}.written_bytes`, d, n + 1)) },
  { name: 'await', place: 'machine', title: 'Disk latency', note: 'mean time of a request', unit: 'micros', log: true, lines: (tables) => disks(tables).map((d, n) => line(`disk.${d}.await`, d, n + 1)) },
  { name: 'space', place: 'machine', title: 'Free space', note: 'disk of the data directory', unit: 'bytes', lines: [line('space.free', 'free', 1)] },
  { name: 'busy', place: 'machine', title: 'Disk utilisation', unit: 'percent', max: 100, lines: (tables) => disks(tables).map((d, n) => line(`disk.${d}.busy`, d, n + 1)) },
  { name: 'switches', place: 'machine', title: 'Switches and interrupts', note: 'a second', unit: 'rate', lines: [line('interrupts.context_switches', 'context switches', 3), line('interrupts.interrupts', 'interrupts', 1)] },
];

// tone: what colour a value has.
export const TILES = [
  { title: 'Connections', id: 'server.connections', unit: 'number' },
  { title: 'Messages in', id: 'stanzas.messages_in', unit: 'rate' },
  { title: 'Messages out', id: 'stanzas.messages_out', unit: 'rate' },
  { title: 'Delivery, 99 %', id: 'stanzas.delivery_p99', unit: 'micros', tone: (v) => (v > 1000000 ? 'bad' : v > 100000 ? 'warn' : '') },
  { title: 'Event loop, 99 %', id: 'workers.all.loop_p99', unit: 'micros', tone: (v) => (v > 50000 ? 'bad' : v > 10000 ? 'warn' : '') },
  { title: 'Commit, mean', id: 'stanzas.commit_mean', unit: 'micros', tone: (v) => (v > 100000 ? 'bad' : v > 50000 ? 'warn' : '') },
  { title: 'Fullest queue', id: 'overview.queue_fullest', unit: 'percent', tone: (v) => tone(v) },
  { title: 'CPU', id: 'overview.cpu', unit: 'percent', tone: (v) => (v > 95 ? 'bad' : v > 80 ? 'warn' : '') },
  { title: 'Refused', id: 'server.refused', unit: 'rate', tone: (v) => (v > 20 ? 'bad' : v > 0 ? 'warn' : '') },
  { title: 'Disk free', id: 'space.free_part', unit: 'percent', tone: (v) => (v < 10 ? 'bad' : v < 15 ? 'warn' : '') },
  { title: 'Certificate', id: 'process.certificate', unit: 'seconds', tone: (v) => (v < 14 * 86400 ? 'bad' : v < 20 * 86400 ? 'warn' : '') },
  { title: 'Descriptors used', id: 'process.files_part', unit: 'percent', tone: (v) => (v > 90 ? 'bad' : v > 80 ? 'warn' : '') },
  { title: 'Memory available', id: 'memory.available', unit: 'bytes' },
];

// Of a queue's fullness in percent: the levels at which the built-in alert clears and comes.
export function tone(full) {
  return full > 80 ? 'bad' : full > 50 ? 'warn' : '';
}

export const linesOf = (chart, tables) => (typeof chart.lines === 'function' ? chart.lines(tables) : chart.lines);

// Everything the page needs the past of.
export function ids(tables) {
  const all = new Set(TILES.map((tile) => tile.id));
  for (const chart of CHARTS) for (const { id } of linesOf(chart, tables)) all.add(id);
  for (const queue of queues(tables)) all.add(`queues.${queue}.length`);
  for (const worker of workers(tables).slice(0, 64)) {
    all.add(`workers.${worker}.busy`);
    all.add(`workers.${worker}.loop_p99`);
  }
  return [...all];
}
