// What comes from the server: each sample as it is taken, and times gone by.

const LATER = 10000;

async function ask(path) {
  const answer = await fetch(path, { headers: { accept: 'application/json' } });
  if (answer.status === 401) {
    location.assign('login');
    throw new Error('log in');
  }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error ?? answer.statusText);
  return body;
}

export const now = () => ask('api/now');

export const explain = () => ask('api/explain');

// Figures from `from` to `to` (milliseconds): {times, series: {id: {mean, max}}, since}.
export function history(ids, from, to, points) {
  const query = new URLSearchParams({ series: ids.join(','), from: Math.round(from), to: Math.round(to), points });
  return ask(`api/history?${query}`);
}

// Calls `sample` with each sample, and `lost` with why when none come.
export function follow(sample, lost) {
  const stream = new EventSource('api/events');
  stream.onmessage = (event) => sample(JSON.parse(event.data));
  stream.onerror = async () => {
    if (stream.readyState !== EventSource.CLOSED) {
      lost('wsar does not answer');
      return;
    }
    // Refused, not cut off: because too many pages are open, or because the token is gone.
    stream.close();
    try {
      sample(await now());
      lost('too many live pages are open');
    } catch {
      lost('wsar does not answer');
    }
    setTimeout(() => follow(sample, lost), LATER);
  };
}
