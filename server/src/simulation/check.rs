//! The rules for a world at rest (presence, rosters, answers), for every moment (bounds), and for an empty one (leaks).

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_storage::directory::Subscription;

use super::client::{Stage, Wanted};
use super::oracle;
use super::world::{World, bare, full, local, user_of};
use crate::metrics;
use crate::user::{record, share};
use crate::xml::{CLIENT, Element};

/// What one `apply` may add to a backlog before its limit is looked at, in bytes: one iteration's output.
const ITERATION_BYTES: usize = 1 << 20;

/// Work units of one iteration at most: the shares of its parts, and in each what was begun and had to be finished.
const ITERATION_UNITS: u64 = 12_288;

/// Bytes of one batch at most: a mailbox that is empty takes it, whatever its limit.
const PARCEL_BYTES_MAX: usize = 128 << 10;

/// The same of its envelopes and recipients.
const PARCEL_WEIGHT_MAX: usize = 512;

/// Parcels that wait for room in a mailbox; far more than any iteration makes.
const WAITING_PARCELS_MAX: usize = 256;

/// Bytes that an account may hold past `limits.account_memory_kib`: what one stanza adds before it is asked about again, a
/// queue that grows, and what one poll reads of each of its connections.
const ACCOUNT_BYTES: usize = 64 << 10;

/// What one iteration may add to what waits for subscriptions before the limit is looked at, in bytes.
const HELD_BYTES: usize = 1 << 18;

/// Both directions of a subscription as one user's roster has it.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
struct Half {
    to: bool,
    from: bool,
}

impl World {
    /// No queue is longer than its limit.
    pub(super) fn check_bounds(&mut self) {
        for lane in &self.lanes {
            if lane.high_water() > lane.limit() {
                let (high, limit) = (lane.high_water(), lane.limit());
                self.failure.get_or_insert_with(|| format!("{high} batches in a mailbox for {limit}"));
            }
            let (_, high, limit) = lane.bytes();
            let (_, heaviest, most) = lane.weight();
            if heaviest > most.max(PARCEL_WEIGHT_MAX) {
                self.failure.get_or_insert_with(|| format!("{heaviest} recipients in a mailbox for {most}"));
            }
            if high > limit.max(PARCEL_BYTES_MAX) {
                self.failure.get_or_insert_with(|| format!("{high} bytes in a mailbox for {limit}"));
            }
        }
        let limit = self.settings.output_backlog_bytes as usize + ITERATION_BYTES;
        for index in 0..self.workers.len() {
            let longest = self.workers[index].core().env().metrics().work_longest.get();
            if longest > ITERATION_UNITS {
                self.fail(format!("an iteration of worker {index} did {longest} units of work"));
            }
            let backlog = self.workers[index].driver_mut().backlog_longest();
            let waiting = self.workers[index].core().effects().links.waiting();
            if backlog > limit {
                self.fail(format!(
                    "{backlog} bytes wait for one client of worker {index}; the limit is {limit}"
                ));
            }
            let held = self.workers[index].core().actors().under_way.bytes();
            if held > self.settings.held_bytes as usize + HELD_BYTES {
                let limit = self.settings.held_bytes;
                self.fail(format!(
                    "{held} bytes of worker {index} wait for subscriptions; the limit is {limit}"
                ));
            }
            if waiting > WAITING_PARCELS_MAX {
                self.fail(format!("{waiting} batches of worker {index} wait for room in a mailbox"));
            }
            self.check_shares(index);
        }
    }

    /// No account makes a worker hold more than its share. Returns the most that one does.
    pub(super) fn check_shares(&mut self, worker: usize) -> usize {
        let core = self.workers[worker].core();
        let (actors, env, fx) = (core.actors(), core.env(), core.effects());
        let limit = env.config.limits.account_memory_kib as usize * 1024 + ACCOUNT_BYTES;
        let keys: BTreeSet<_> = actors.users.iter().map(|(_, resource)| resource.user).collect();
        let sums = keys.into_iter().map(|user| share::of_account(actors, env, fx, user));
        let Some(most) = sums.max_by_key(share::Sum::total) else { return 0 };
        if most.total() > limit {
            self.fail(format!("an account of worker {worker} holds {most:?}; at most {limit}"));
        }
        most.total()
    }

    /// The numbers of the messages that wait in the logs.
    pub(super) fn waiting(&self) -> Result<BTreeSet<u32>, String> {
        let mut waiting = BTreeSet::new();
        for worker in &self.workers {
            let log = worker.core().actors().commits.log();
            for record in log.actors().flat_map(|user| log.pending(user)) {
                let record = record.map_err(|damage| damage.to_string())?;
                let kept = record::decode(record.payload).ok_or("a record cannot be read")?;
                let message = Element::parse(kept.stanza).map_err(|_| "a record holds no stanza")?;
                let body = message.find("body", CLIENT).map(|body| body.content().into_owned());
                waiting.extend(body.and_then(|body| oracle::number_of(&body)));
            }
        }
        Ok(waiting)
    }

    /// Everything is decided: what was sent has arrived, and everybody sees the same.
    pub(super) fn check_at_rest(&mut self) {
        let waiting = match self.waiting() {
            Ok(waiting) => waiting,
            Err(what) => return self.fail(what),
        };
        let skipped = self.shared.metrics.iter().any(|metrics| metrics.carbons_skipped.get() > 0);
        let ignored = self.shared.metrics.iter().map(|metrics| metrics.ignored.get()).sum();
        let judged = self.oracle.judge(&waiting, skipped, ignored);
        let live = self
            .clients
            .iter()
            .enumerate()
            .filter_map(|(index, client)| Some((client.live.as_ref()?.id, index)));
        let live: Vec<(usize, usize)> = live.collect();
        let seats = judged.and_then(|()| self.rooms.judge()).and_then(|()| self.check_seats(&live));
        if let Err(what) = seats {
            return self.fail(what);
        }
        let exchanged = self.oracle.exchanged();
        self.check_archives(&exchanged);
        self.check_nodes();
        self.check_rooms_archives();
        self.check_answers();
        self.check_counts();
        let rosters = self.rosters();
        self.check_rosters(&rosters);
        self.check_roster_views();
        self.check_presence(&rosters);
    }

    /// Every request has been answered, once. A client's answer to another is kept nowhere: for an asker that reads too
    /// slowly it is dropped, and counted.
    fn check_answers(&mut self) {
        let dropped = self.shared.metrics.iter().any(|metrics| metrics.dropped_output.get() > 0);
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            let Some(live) = client.live.as_ref().filter(|_| client.stage == Stage::Online) else { continue };
            let open = live.wanted.iter().find(|(_, (wanted, step))| match wanted {
                // A user that blocks the asker answers into the void.
                Wanted::Peer(user) => {
                    !dropped
                        && !self.oracle.lost_one_since(*user, *step)
                        && !self.oracle.ever_blocked(*user, client.user)
                }
                Wanted::Perhaps => false,
                _ => true,
            });
            if let Some((id, (wanted, step))) = open {
                let what = format!("client {index} gets no answer to {id} ({wanted:?}) of step {step}");
                return self.fail(what);
            }
        }
    }

    /// The server knows of as many sessions as the clients do.
    fn check_counts(&mut self) {
        let online = self.clients.iter().filter(|client| client.stage == Stage::Online).count();
        let connected = self.clients.iter().filter(|client| client.stage != Stage::Away).count();
        let bound: usize = self.workers.iter().map(|worker| worker.core().actors().users.counts().1).sum();
        let sessions: usize = self.workers.iter().map(|worker| worker.core().sessions().len()).sum();
        if bound != online {
            return self.fail(format!("{online} clients are online, the server has {bound} resources"));
        }
        let totals: BTreeMap<&str, u64> =
            metrics::totals(&self.shared.metrics).into_iter().map(|(d, value)| (d.name, value)).collect();
        let (open, unbound) = self.shared.admission.counts();
        for (name, expected) in [("sessions", online as u64), ("connections", sessions as u64)] {
            if totals.get(name) != Some(&expected) {
                return self.fail(format!("the gauge {name} is {:?}, not {expected}", totals.get(name)));
            }
        }
        self.check_output(totals.get("queue.output.length").copied().unwrap_or(0));
        if open as usize != sessions || unbound as usize != sessions - online {
            let what =
                format!("admission counts {open}, {unbound}; there are {sessions}, {}", sessions - online);
            return self.fail(what);
        }
        if sessions > connected {
            return self
                .fail(format!("{connected} clients are connected, the server has {sessions} sessions"));
        }
        let killed = totals.get("refused.output_backlog_bytes").copied().unwrap_or(0);
        if self.unexplained_resets > killed {
            let resets = self.unexplained_resets;
            self.fail(format!("{resets} clients that read were reset, and {killed} had too long a backlog"));
        }
    }

    /// Output waits for nobody who reads. A client that vanished before it was bound may still be there: nobody pings it, its
    /// time to log in is not over, and what it does not read (the features) may be more than its window takes.
    fn check_output(&mut self, gauge: u64) {
        let behind: Vec<_> = self
            .workers
            .iter_mut()
            .flat_map(|worker| worker.driver_mut().behind().collect::<Vec<_>>())
            .collect();
        let vanished = |link| {
            self.clients.iter().any(|client| client.link == Some(link) && client.stage == Stage::Ghost)
        };
        if let Some(link) = behind.iter().find(|link| !vanished(**link)) {
            return self.fail(format!("bytes wait for {link:?}, whose client reads"));
        }
        let closing = self.workers.iter_mut().any(|worker| worker.driver_mut().has_closing());
        if (gauge > 0) == behind.is_empty() && !(gauge > 0 && closing) {
            let count = behind.len();
            self.fail(format!(
                "the gauge queue.output.length is {gauge}; bytes wait for {count} connections"
            ));
        }
    }

    /// All rosters as the directory has them: the half of each pair that the first user keeps.
    fn rosters(&mut self) -> BTreeMap<(usize, usize), Half> {
        let mut halves = BTreeMap::new();
        for user in 0..self.settings.users {
            let read = self.shared.directory.roster(&local(user), |item| {
                let half = match item.subscription {
                    Subscription::None => Half::default(),
                    Subscription::To => Half { to: true, from: false },
                    Subscription::From => Half { to: false, from: true },
                    Subscription::Both => Half { to: true, from: true },
                };
                if let Some(contact) = user_of(item.contact) {
                    halves.insert((user, contact), half);
                }
            });
            if let Err(error) = read {
                self.fail(format!("the roster of user {user} cannot be read: {error}"));
            }
        }
        halves
    }

    fn check_rosters(&mut self, halves: &BTreeMap<(usize, usize), Half>) {
        for (&(user, contact), half) in halves {
            if user == contact || self.oracle.ever_blocked(user, contact) {
                continue;
            }
            let other = halves.get(&(contact, user)).copied().unwrap_or_default();
            let parted = |user, contact, to: bool, from: bool| {
                to != from && !self.oracle.may_differ(user, contact, to, from)
            };
            if parted(user, contact, half.to, other.from) || parted(contact, user, other.to, half.from) {
                return self.fail(format!(
                    "the rosters of users {user} and {contact} disagree: {half:?} and {other:?}"
                ));
            }
            self.report.rosters_checked += 1;
        }
    }

    /// A client that has asked for the roster knows it as it is stored.
    fn check_roster_views(&mut self) {
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            let Some(seen) = client.live.as_ref().and_then(|live| live.roster.as_ref()) else { continue };
            let stored = match self.shared.directory.roster_items(&local(client.user)) {
                Ok(items) => items,
                Err(error) => return self.fail(format!("a roster cannot be read: {error}")),
            };
            let stored: BTreeMap<String, (String, bool)> = stored
                .into_iter()
                .filter(|item| item.listed)
                .map(|item| {
                    let subscription = match item.subscription {
                        Subscription::None => "none",
                        Subscription::To => "to",
                        Subscription::From => "from",
                        Subscription::Both => "both",
                    };
                    (item.contact, (subscription.to_owned(), item.ask))
                })
                .collect();
            if *seen != stored {
                let what = format!("client {index} knows the roster {seen:?}, stored is {stored:?}");
                return self.fail(what);
            }
        }
    }

    /// A subscriber to somebody's presence has seen the last of it, and of nobody who is gone.
    fn check_presence(&mut self, halves: &BTreeMap<(usize, usize), Half>) {
        let mut truth: BTreeMap<usize, BTreeMap<String, u32>> = BTreeMap::new();
        for client in self.clients.iter().filter(|client| client.stage == Stage::Online) {
            if let Some((number, _)) = client.live.as_ref().and_then(|live| live.presence) {
                truth.entry(client.user).or_default().insert(full(client.user, &client.resource), number);
            }
        }
        // A client that reads too slowly is shown again who is there, and not that one of several resources has gone
        // (docs/protocol.md).
        let dropped = self.shared.metrics.iter().any(|metrics| metrics.dropped_output.get() > 0);
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            let Some(live) = client.live.as_ref().filter(|live| live.presence.is_some()) else { continue };
            let contacts = halves
                .range((client.user, 0)..(client.user + 1, 0))
                .filter(|((user, contact), half)| {
                    half.to
                        && user != contact
                        && halves.get(&(*contact, *user)).is_some_and(|other| other.from)
                        && !self.oracle.ever_blocked(*user, *contact)
                })
                .map(|((_, contact), _)| *contact);
            let mut checked = 0;
            let mut wrong = None;
            for contact in contacts.chain([client.user]) {
                let jid = bare(contact);
                let seen: BTreeMap<String, u32> = live
                    .seen
                    .iter()
                    .filter(|(full, _)| full.split('/').next() == Some(&jid))
                    .map(|(full, number)| (full.clone(), *number))
                    .collect();
                let real = truth.get(&contact).cloned().unwrap_or_default();
                let shown = real.iter().all(|(full, number)| seen.get(full) == Some(number));
                if seen != real && !(dropped && shown) {
                    wrong.get_or_insert_with(|| {
                        format!(
                            "client {index} (user {}) sees {jid} as {seen:?}, and it is {real:?}",
                            client.user
                        )
                    });
                }
                checked += 1;
            }
            self.report.presences_checked += checked;
            if let Some(wrong) = wrong {
                return self.fail(wrong);
            }
        }
    }

    /// Everybody has left: nothing is left of them.
    pub(super) fn check_empty(&mut self) {
        let (open, unbound) = self.shared.admission.counts();
        let mut left = vec![
            ("open descriptors", self.network.descriptors()),
            ("admitted connections", open as usize),
            ("admitted, not bound", unbound as usize),
        ];
        for worker in &self.workers {
            let core = worker.core();
            let (actors, env, fx) = (core.actors(), core.env(), core.effects());
            let (users, resources) = actors.users.counts();
            left.push(("sessions", worker.core().sessions().len()));
            left.push(("users", users));
            left.push(("resources", resources));
            left.push(("rooms", actors.rooms.len()));
            left.push(("pending jobs", fx.jobs.pending()));
            left.push(("held bytes", actors.under_way.bytes()));
            left.push(("subscriptions under way", usize::from(!actors.under_way.is_empty())));
            left.push(("waiting batches", fx.links.waiting()));
            left.push(("bytes of input held", env.metrics().input_held.get() as usize));
            left.push(("bytes of contacts kept", actors.contacts.bytes()));
            // One timer ticks every second; one ends a drain.
            let expected = 1 + usize::from(self.stopping);
            left.push(("timers", (env.metrics().timers.get() as usize).saturating_sub(expected)));
        }
        for (description, value) in metrics::totals(&self.shared.metrics) {
            let gauges = ["connections", "sessions", "users", "tls_sessions", "queue.output.length"];
            if gauges.contains(&description.name) {
                left.push((description.name, value as usize));
            }
        }
        if let Some((what, count)) = left.into_iter().find(|(_, count)| *count != 0) {
            self.fail(format!("everybody has left, and there are still {count} {what}"));
        }
    }
}
