//! A world under siege: some clients do nothing but the dearest requests, as fast as the network takes them, while others
//! talk calmly.
//!
//! ```text
//!   talkers ───── a message now and then ─────┐
//!                                             ├──► network ◄──► workers
//!   attackers ─── bursts of dear requests ────┘        every turn of a worker is measured
//! ```
//!
//! The rules, all with the constants below: a talker's message arrives, in order and once, within so many rounds (in a
//! round every worker has a turn; a round in which others fill the recipient's own link does not count); in one turn a worker does so much and no more, however much has been sent to it; no
//! talker's session ends, and none is asked for more than to acknowledge; what waits in memory stays within its limits, that
//! of each account among them: some attackers share one, do not acknowledge, leave sessions behind and begin stanzas that
//! they do not end. Attackers may be slowed, refused and ended.

mod attacker;

use std::collections::VecDeque;
use std::path::Path;

use whimbrel_storage::directory::{self, Item, Subscription, WriteTransaction};
use whimbrel_storage::log::INDEX_MESSAGE_BYTES_MAX;

use super::client::{Heard, NS_SASL, Stage};
use super::come::HEADER;
use super::world::{PASSWORD, World, bare, config, local};
use super::{Failure, Settings};
use crate::config::Config;
use crate::limits::Limits;
use crate::runtime::driver::Driver;
use crate::runtime::driver::sim::{LinkId, Random, Weather};
use crate::user::commits::Commit;
use crate::xml::Element;
use attacker::Attacker;

/// Rounds after which a talker's message must be there.
const DELIVERY_ROUNDS_MAX: u64 = 20;

/// Stanzas that a worker handles in one turn at most: so many for each of its connections, and so many for all that have
/// more to do.
const STANZAS_A_TURN_EACH: u64 = 44;
/// See [`STANZAS_A_TURN_EACH`].
const STANZAS_A_TURN: u64 = 256;

/// Units of work (`effects::work`) that a worker does in one turn at most, in the same way: what is handled at once of
/// each connection, with the debt of one dear stanza, which several resources of an account make dearer, and what is dealt
/// out to all.
const WORK_A_TURN_EACH: u64 = 384;
/// See [`WORK_A_TURN_EACH`].
const WORK_A_TURN: u64 = 2_048;

/// Bytes for one client past `limits.output_backlog_bytes`: what a single stanza can add.
const OUTPUT_SLACK_BYTES: usize = 64 << 10;

/// Items in the roster of each attacker.
const ROSTER_ITEMS: usize = 60;

/// Rounds of the siege, and rounds in which everything must have arrived after it.
const ROUNDS: u64 = 100;
const REST_ROUNDS_MAX: u64 = 5_000;

/// Bytes that a talker, or an attacker that reads, reads in a round.
const READ_BYTES_MAX: usize = 256 << 10;

const SM: &str = "urn:xmpp:sm:3";
const CLIENT: &str = "jabber:client";

/// What happened, so that a test can see that something did.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Besieged {
    /// Messages of talkers, all of which have arrived.
    pub messages: u64,
    /// Requests of attackers.
    pub requests: u64,
    /// Attackers that the server has ended.
    pub ended: u64,
    /// Connections of attackers that are over.
    pub left: u64,
    /// The most rounds that a message was under way.
    pub slowest: u64,
    /// The most stanzas handled in one turn of a worker.
    pub busiest: u64,
    /// The most units of work done in one turn of a worker.
    pub hardest: u64,
    /// The most bytes that waited for one client.
    pub backlog: usize,
    /// The most bytes that one account held.
    pub account: usize,
    /// Sessions without a connection that gave up something, or ended, for the others of their account.
    pub stripped: u64,
    /// A hash of every byte that every client received.
    pub trace: u64,
}

/// What is expected of one talker as a recipient.
#[derive(Debug, Default)]
struct Expected {
    /// Rounds in which its link had room for more than the server had to send.
    rounds: u64,
    /// Messages on their way to it: number, and its rounds when it was written.
    under_way: VecDeque<(u64, u64)>,
    /// Stanzas it has received under stream management, which every other talker has.
    handled: Option<u32>,
}

/// See the module.
pub struct Siege {
    world: World,
    /// The first clients are talkers: each writes to the next one of a pair.
    talkers: Vec<Expected>,
    attackers: Vec<Attacker>,
    calm: bool,
    tally: Besieged,
}

impl Siege {
    /// A world of this seed, in the empty folder `data`.
    ///
    /// # Errors
    /// The folder cannot be written, in words.
    pub fn new(seed: u64, data: &Path) -> Result<Siege, String> {
        let mut random = Random::new(seed ^ 0x0051_e9e0);
        let talkers = random.between(1, 3) * 2;
        let attackers = random.between(2, 6);
        let clients = talkers + attackers;
        let settings = Settings {
            clients,
            users: clients,
            workers: random.between(1, 3),
            mailbox_parcels: random.between(4, 32) as u32,
            sessions_unauthenticated: 1000,
            output_backlog_bytes: random.between(50_000, 200_000) as u32,
            jobs: 4096,
            held_bytes: 1 << 20,
            weather: Weather {
                window_bytes_max: 32 << 10,
                delay_ms_max: 0,
                accept_queue_max: 1000,
                descriptors_max: 1 << 20,
                idle_polls_permille: 0,
                short_permille: random.between(0, 100) as u32,
            },
            ..Settings::small(seed)
        };
        let plain = config(&settings, data);
        // Little more than the least that may be configured, so that attackers reach it.
        let account_memory_kib = 2 * settings.output_backlog_bytes.div_ceil(1024) + random.below(20) as u32;
        let limits = Limits {
            stanza_bytes: 16_000,
            directed_presence: 100,
            account_memory_kib,
            offline_messages: u64::from(account_memory_kib) * 1024 / 4 / INDEX_MESSAGE_BYTES_MAX,
            ..plain.limits.clone()
        };
        let config = Config { limits, ..plain };
        let (mut world, _) = World::with(settings, config, Commit::AtOnce)?;
        fill_rosters(&world, talkers, clients)?;
        let talkers: Vec<Expected> = (0..talkers)
            .map(|number| Expected { handled: (number % 2 == 1).then_some(0), ..Expected::default() })
            .collect();
        let first = talkers.len();
        let accounts = world.random.between(1, attackers);
        for (number, client) in world.clients.iter_mut().enumerate().skip(first) {
            client.user = first + (number - first) % accounts;
            client.resource = format!("r{number}").into();
        }
        let attackers = (0..attackers).map(|_| Attacker::draw(&mut world.random)).collect();
        Ok(Siege { world, talkers, attackers, calm: false, tally: Besieged::default() })
    }

    /// Writes down what a user says and hears, for [`Failure::log`].
    pub fn watch(&mut self, users: Vec<usize>) {
        self.world.settings.watch = users;
    }

    /// Lives through the siege, and sees that everything has arrived.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn run(mut self) -> Result<Besieged, Failure> {
        for _ in 0..ROUNDS {
            self.one_round();
            self.world.stop_at_failure()?;
        }
        self.calm = true;
        for _ in 0..REST_ROUNDS_MAX {
            self.one_round();
            self.world.stop_at_failure()?;
            if self.talkers.iter().all(|talker| talker.under_way.is_empty()) {
                break;
            }
        }
        let left: usize = self.talkers.iter().map(|talker| talker.under_way.len()).sum();
        if left > 0 {
            self.world.fail(format!("{left} messages of talkers do not arrive"));
        }
        self.world.stop_at_failure()?;
        let metrics = &self.world.shared.metrics;
        let stripped = metrics.iter().map(|metrics| metrics.account_stripped.get()).sum();
        Ok(Besieged { trace: self.world.report.trace, stripped, ..self.tally })
    }

    fn is_talker(&self, index: usize) -> bool {
        index < self.talkers.len()
    }

    fn one_round(&mut self) {
        self.world.step += 1;
        for index in 0..self.world.clients.len() {
            self.act(index);
            self.world.flush(index);
        }
        let mut order: Vec<usize> = (0..self.world.workers.len()).collect();
        self.world.random.shuffle(&mut order);
        for worker in order {
            self.turn(worker);
        }
        self.count_rounds();
        while self.world.job() {}
        for (number, link) in self.world.network.take_clients() {
            self.hear(number as usize, link);
        }
        self.world.pass(3);
        self.check_waiting();
    }

    /// One turn of a worker, of which it is measured how much it does.
    fn turn(&mut self, worker: usize) {
        let handled = |world: &World| {
            let metrics = &world.shared.metrics[worker];
            metrics.messages_in.get() + metrics.presences_in.get() + metrics.iqs_in.get()
        };
        let spent = |world: &World| world.workers[worker].core().effects().work.spent();
        let before = (handled(&self.world), spent(&self.world));
        self.world.turn(worker);
        let (done, work) = (handled(&self.world) - before.0, spent(&self.world) - before.1);
        let connections = self.world.workers[worker].driver_mut().connections() as u64;
        let most = STANZAS_A_TURN_EACH * connections + STANZAS_A_TURN;
        self.tally.busiest = self.tally.busiest.max(done);
        if done > most {
            self.world.fail(format!(
                "worker {worker} handles {done} stanzas in one turn for {connections} connections; at most {most}"
            ));
        }
        let most = WORK_A_TURN_EACH * connections + WORK_A_TURN;
        self.tally.hardest = self.tally.hardest.max(work);
        if work > most {
            self.world.fail(format!(
                "worker {worker} does {work} units of work in one turn for {connections} connections; at most {most}"
            ));
        }
        self.tally.account = self.tally.account.max(self.world.check_shares(worker));
        let backlog = self.world.workers[worker].driver_mut().backlog_longest();
        self.tally.backlog = self.tally.backlog.max(backlog);
        let limit = self.world.settings.output_backlog_bytes as usize + OUTPUT_SLACK_BYTES;
        if backlog > limit {
            self.world
                .fail(format!("{backlog} bytes wait for one client of worker {worker}; at most {limit}"));
        }
    }

    /// A round counts for a talker whose link is not full.
    fn count_rounds(&mut self) {
        let mut behind: Vec<LinkId> = Vec::new();
        for worker in &mut self.world.workers {
            behind.extend(worker.driver_mut().behind());
        }
        for (talker, client) in self.talkers.iter_mut().zip(&self.world.clients) {
            let full = client.link.is_some_and(|link| behind.contains(&link));
            talker.rounds += u64::from(!full);
        }
    }

    fn check_waiting(&mut self) {
        self.world.check_bounds();
        let late = self.talkers.iter().enumerate().find_map(|(number, talker)| {
            let &(message, since) = talker.under_way.front()?;
            let rounds = talker.rounds - since;
            (rounds > DELIVERY_ROUNDS_MAX).then_some((number, message, rounds))
        });
        if let Some((number, message, rounds)) = late {
            self.world.fail(format!("message {message} to talker {number} is under way for {rounds} rounds"));
        }
    }

    fn act(&mut self, index: usize) {
        match self.world.clients[index].stage {
            Stage::Away if self.world.clients[index].back_at <= self.world.now => self.connect(index),
            Stage::Online if self.is_talker(index) => self.talk(index),
            Stage::Online => self.attack(index),
            _ => {}
        }
    }

    /// Everything up to presence at once.
    fn connect(&mut self, index: usize) {
        use base64::Engine as _;
        let is_talker = self.is_talker(index);
        let managed = is_talker && self.talkers[index].handled.is_some();
        let world = &mut self.world;
        let (number, peer) = (world.clients[index].number, world.clients[index].peer);
        let Some(link) = world.network.connect(number, peer) else { return };
        let client = &mut world.clients[index];
        client.connected(link);
        let resource = if is_talker { "r".to_owned() } else { client.resource.to_string() };
        let plain = format!("\0{}\0{PASSWORD}", local(client.user));
        let text = base64::engine::general_purpose::STANDARD.encode(plain);
        client.say(&format!(
            "{HEADER}<auth xmlns='{NS_SASL}' mechanism='PLAIN'>{text}</auth>{HEADER}<iq type='set' id='bind'><bind \
             xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        ));
        if !is_talker && self.attackers[index - self.talkers.len()].is_managed {
            client.say(&format!("<enable xmlns='{SM}' resume='true'/>"));
        }
        if managed {
            client.say(&format!("<enable xmlns='{SM}'/>"));
        }
        client.say("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq><presence/>");
        client.stage = Stage::Authenticating;
    }

    /// A message to the partner, now and then, as long as both are there.
    fn talk(&mut self, index: usize) {
        let partner = index ^ 1;
        let both = self.world.clients[partner].stage == Stage::Online;
        if self.calm || !both || !self.world.random.permille(300) {
            return;
        }
        self.tally.messages += 1;
        let number = self.tally.messages;
        let to = bare(partner);
        self.world.clients[index].say(&format!(
            "<message to='{to}' type='chat' id='t{number}'><body>calm talk {number}</body></message>"
        ));
        let talker = &mut self.talkers[partner];
        talker.under_way.push_back((number, talker.rounds));
    }

    fn hear(&mut self, index: usize, link: LinkId) {
        let deaf = !self.is_talker(index) && !self.calm && self.is_deaf(index);
        let world = &mut self.world;
        let client = &mut world.clients[index];
        if client.link != Some(link) {
            return;
        }
        if deaf {
            return world.network.remind(index as u32, link);
        }
        let mut bytes = Vec::new();
        let limits = &world.xml_limits;
        let heard = client.read(&world.network, &mut world.framer, limits, READ_BYTES_MAX, &mut bytes);
        world.trace(index as u32, &bytes);
        world.watch(index, "<-", &bytes);
        for heard in heard {
            if self.world.clients[index].link != Some(link) {
                break;
            }
            match heard {
                Heard::Open => {}
                Heard::Element(element) => self.element(index, &element),
                Heard::Close | Heard::Ended | Heard::Reset => self.ended(index, link, &heard),
                Heard::Broken(what) => self.world.fail(format!("client {index} gets no XML: {what}")),
            }
        }
    }

    fn ended(&mut self, index: usize, link: LinkId, heard: &Heard) {
        if self.is_talker(index) {
            return self.world.fail(format!("the session of talker {index} is ended by others: {heard:?}"));
        }
        self.tally.ended += 1;
        self.leave(index, link, matches!(heard, Heard::Reset));
    }

    /// An attacker has gone, and comes back under another name.
    pub(super) fn leave(&mut self, index: usize, link: LinkId, reset: bool) {
        self.tally.left += 1;
        self.world.clients[index].resource = format!("r{index}n{}", self.tally.left).into();
        self.world.network.client_close(link, reset);
        let back_at = self.world.now.after(200);
        self.world.clients[index].away(back_at);
    }

    fn element(&mut self, index: usize, element: &Element) {
        if element.name() == "iq" && element.attribute("id") == Some("bind") {
            if element.attribute("type") == Some("result") {
                self.world.clients[index].stage = Stage::Online;
            } else if self.is_talker(index) {
                self.world.fail(format!("talker {index} cannot bind: {element:?}"));
            }
            return;
        }
        if !self.is_talker(index) {
            return;
        }
        if element.is("failure", NS_SASL) {
            return self.world.fail(format!("talker {index} cannot log in: {element:?}"));
        }
        if element.is("r", SM) {
            let h = self.talkers[index].handled.unwrap_or(0);
            return self.world.clients[index].say(&format!("<a xmlns='{SM}' h='{h}'/>"));
        }
        if element.is("enabled", SM) {
            self.talkers[index].handled = Some(0);
            return;
        }
        if element.namespace() == CLIENT
            && let Some(handled) = &mut self.talkers[index].handled
        {
            *handled += 1;
        }
        if element.name() == "message" {
            self.arrived(index, element);
        }
    }

    fn arrived(&mut self, index: usize, message: &Element) {
        let id = message.attribute("id").and_then(|id| id.strip_prefix('t')).and_then(|id| id.parse().ok());
        let Some(number) = id else { return };
        let number: u64 = number;
        let rounds = self.talkers[index].rounds;
        match self.talkers[index].under_way.pop_front() {
            Some((expected, since)) if expected == number => {
                self.tally.slowest = self.tally.slowest.max(rounds - since);
            }
            other => {
                self.world.fail(format!("talker {index} gets message {number} where {other:?} was next"));
            }
        }
    }
}

/// Gives each attacker a long roster: of other attackers, who see its presence, and of accounts that are not there.
fn fill_rosters(world: &World, first: usize, clients: usize) -> Result<(), String> {
    let job = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        // Talkers are contacts, with a contact's share of each other's small mailbox; they show no presence.
        for (one, other) in (0..first).flat_map(|one| (0..first).map(move |other| (one, other))) {
            let item = Item { contact: bare(other), listed: true, ..Item::default() };
            if one != other {
                transaction.put_roster_item(&local(one), &item)?;
            }
        }
        for attacker in first..clients {
            for other in first..first + ROSTER_ITEMS {
                let item = Item {
                    contact: bare(other),
                    subscription: Subscription::Both,
                    listed: true,
                    ..Item::default()
                };
                if other != attacker {
                    transaction.put_roster_item(&local(attacker), &item)?;
                }
            }
        }
        Ok(())
    });
    directory::run_inline(&world.shared.directory, job).map_err(|error| error.to_string())
}
