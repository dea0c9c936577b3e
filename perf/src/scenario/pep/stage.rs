//! One server: it is started for each round, and its figures are taken.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::PepArgs;
use crate::engine::counters::{Counters, Latencies};
use crate::engine::scan::Element;
use crate::engine::target::loopback_sources;
use crate::peers::{Peer, Running};
use crate::report::{Latency, Phase, Report};
use crate::sample::process::Process;
use crate::scenario::client::{Client, Door, Entry, RESOURCE};
use crate::scenario::pep::wire::{self, Software};
use crate::scenario::{poll, rest};

/// The name of the phase that publishes, and of its latency: until the last contact has it.
pub(super) const PUBLISH: &str = "publish";

/// The name of the phase in which clients log in, and of its latency: until all last items are there.
pub(super) const LOGIN: &str = "login";

// The figures of a phase.
pub(super) const RATE: &str = "deliveries a second";
pub(super) const PER_CPU: &str = "deliveries a second of server CPU";
pub(super) const CPU_EACH: &str = "milliseconds of server CPU for each";

/// The account that publishes.
const PUBLISHER: u64 = 0;

/// The account with the many nodes.
const COLLECTOR: u64 = 1;

/// The first of the contacts.
const FIRST: u64 = 2;

/// How long to wait for the sockets before looking whether the run is to end.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// How long one step may take.
const STEP_MAX: Duration = Duration::from_secs(120);

/// How long contacts that want to hear of the node may take to do so, before it is published to once more.
const PROBE_MAX: Duration = Duration::from_secs(3);

const READ_BYTES: usize = 64 * 1024;

/// A server, and who speaks to it.
pub(super) struct Stage<'a> {
    args: &'a PepArgs,
    peer: &'a Peer,
    servers: Vec<u32>,
    entry: Entry,
    /// Rounds so far.
    rounds: u32,
}

/// A client and what it has heard.
struct Person {
    client: Client,
    /// It is subscribed to the publisher's presence.
    is_subscribed: bool,
    /// It has heard of a publication before those that count.
    is_ready: bool,
    /// Publications of this round that it has heard of, and the number of the next one.
    heard: u64,
}

/// All who take part in publications: the publisher is the first.
struct Crowd<'a> {
    people: Vec<Person>,
    software: Software,
    domain: String,
    /// Items of other rounds, which come as last items, do not count.
    round: u32,
    buffer: Vec<u8>,
    interrupted: &'a AtomicBool,
}

impl<'a> Stage<'a> {
    /// A server of our own.
    pub(super) fn of(args: &'a PepArgs, peer: &'a Peer) -> Stage<'a> {
        let address = SocketAddr::from(([127, 0, 0, 1], peer.port));
        let door = Door { address, domain: "localhost".into(), keys: peer.folder.join("keys") };
        Stage { args, peer, servers: Vec::new(), entry: Entry::new(&door), rounds: 0 }
    }

    /// Its name.
    pub(super) fn label(&self) -> &str {
        &self.peer.name
    }

    /// A round; whatever prevents it is a problem of the report.
    pub(super) fn run(&mut self, interrupted: &AtomicBool) -> Report {
        let mut report =
            Report { facts: self.peer.facts.clone(), ..Report::begin("pep", self.peer.name.clone()) };
        if let Err(problem) = self.try_run(interrupted, &mut report) {
            report.problems.push(problem);
        }
        report
    }

    fn try_run(&mut self, interrupted: &AtomicBool, report: &mut Report) -> Result<(), String> {
        let running = Running::start(self.peer)?;
        self.servers = running.ids();
        report.server_pid = self.servers.last().copied();
        let mut crowd = self.gather(interrupted)?;
        // Later rounds find them subscribed.
        if self.rounds == 0 {
            crowd.subscribe()?;
        }
        self.rounds += 1;
        crowd.round = self.rounds;
        crowd.announce(self.args.bytes as usize)?;
        rest(&self.servers, interrupted)?;
        report.phases.push(self.publish(&mut crowd)?);
        crowd.people.into_iter().for_each(|person| person.client.cut());
        rest(&self.servers, interrupted)?;
        report.phases.push(self.log_in_again(interrupted)?);
        drop(running);
        Ok(())
    }

    fn log_in(&mut self, account: u64, resource: &str) -> Result<Client, String> {
        let sources = loopback_sources(self.args.contacts, 1);
        let from = (!sources.is_empty()).then(|| sources[account as usize % sources.len()]);
        Client::log_in(&mut self.entry, account, from, resource, false)
    }

    /// Everybody logs in and becomes available.
    fn gather<'i>(&mut self, interrupted: &'i AtomicBool) -> Result<Crowd<'i>, String> {
        let mut people = Vec::new();
        for account in [PUBLISHER].into_iter().chain(FIRST..FIRST + self.args.contacts) {
            let mut client = self.log_in(account, RESOURCE)?;
            client.push("<presence/>");
            client.flush();
            people.push(Person { client, is_subscribed: false, is_ready: false, heard: 0 });
        }
        let domain = self.entry.door.domain.clone();
        let software = Software::new(vec![wire::NODE.to_owned()]);
        Ok(Crowd { people, software, domain, round: 0, buffer: vec![0; READ_BYTES], interrupted })
    }

    fn publish(&self, crowd: &mut Crowd<'_>) -> Result<Phase, String> {
        let (before, began) = (Process::read_all(&self.servers), Instant::now());
        let mut latencies = Latencies::default();
        for number in 0..self.args.publications {
            let sent = Instant::now();
            let item = wire::publish(wire::NODE, &crowd.item(number), self.args.bytes as usize);
            crowd.people[0].client.push(&item);
            crowd.until(STEP_MAX, "hear of a publication", |person| person.heard > number)?;
            latencies.record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        let deliveries = self.args.publications * self.args.contacts;
        Ok(self.phase((PUBLISH, &latencies), began.elapsed(), deliveries, before.as_ref()))
    }

    /// A client of the account with the many nodes comes online, again and again.
    fn log_in_again(&mut self, interrupted: &AtomicBool) -> Result<Phase, String> {
        let nodes: Vec<String> =
            (0..self.args.nodes).map(|number| format!("{}:{number}", wire::NODE)).collect();
        let mut writer = self.log_in(COLLECTOR, "writer")?;
        for (number, node) in nodes.iter().enumerate() {
            let request = wire::publish(node, &number.to_string(), self.args.bytes as usize);
            let answer = writer.ask(&request, &format!("p{number}"), |answer| {
                (answer.attribute(b"type") == Some(b"result")).then_some(())
            })?;
            answer.ok_or_else(|| format!("the server does not take an item for {node}"))?;
        }
        writer.cut();
        let software = Software::new(nodes.clone());
        // The first one is asked what its hash stands for.
        self.come(&software, nodes.len(), "first", interrupted)?;
        rest(&self.servers, interrupted)?;
        let (before, began) = (Process::read_all(&self.servers), Instant::now());
        let mut latencies = Latencies::default();
        for number in 0..self.args.logins {
            let took = self.come(&software, nodes.len(), &format!("r{number}"), interrupted)?;
            latencies.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        let deliveries = self.args.logins * nodes.len() as u64;
        let mut phase = self.phase((LOGIN, &latencies), began.elapsed(), deliveries, before.as_ref());
        if let Some((user, system)) = phase.server_cpu {
            phase.figures.insert(CPU_EACH.into(), (user + system) * 1e3 / self.args.logins.max(1) as f64);
        }
        Ok(phase)
    }

    /// Logs in, says what it wants, waits for that, and goes; how long it took from the connection to the last item.
    fn come(
        &mut self,
        software: &Software,
        wanted: usize,
        resource: &str,
        interrupted: &AtomicBool,
    ) -> Result<Duration, String> {
        let began = Instant::now();
        let mut client = self.log_in(COLLECTOR, resource)?;
        client.push(&software.presence());
        let mut buffer = vec![0; READ_BYTES];
        let mut seen: Vec<Vec<u8>> = Vec::new();
        while seen.len() < wanted {
            check(began, STEP_MAX, interrupted, || format!("{} of {wanted} last items came", seen.len()))?;
            client.flush();
            poll::wait(&[client.interest(true)], WAIT_MAX)
                .map_err(|error| format!("cannot wait: {error}"))?;
            let mut answers = Vec::new();
            client.receive(&mut buffer, |element| {
                answers.extend(software.answer(element));
                if let Some((node, _)) = wire::event(element)
                    && !seen.iter().any(|known| known == node)
                {
                    seen.push(node.to_vec());
                }
            });
            answers.iter().for_each(|answer| client.push(answer));
            if let Some(reason) = &client.ended {
                return Err(format!("the server ended a session: {reason}"));
            }
        }
        let took = began.elapsed();
        client.cut();
        Ok(took)
    }

    /// A phase that has just ended, with what it cost since `before`.
    fn phase(
        &self,
        (name, latencies): (&str, &Latencies),
        took: Duration,
        deliveries: u64,
        before: Option<&Process>,
    ) -> Phase {
        let counted = Counters { delivered: deliveries, ..Counters::default() };
        let seconds = took.as_secs_f64();
        let mut phase = Phase { name: name.into(), seconds, counted, ..Phase::default() };
        phase.latencies.extend(Latency::of(latencies).map(|latency| (name.to_owned(), latency)));
        phase.figures.insert(RATE.into(), deliveries as f64 / seconds);
        if let (Some(before), Some(after)) = (before, Process::read_all(&self.servers)) {
            let user = after.user_seconds - before.user_seconds;
            let system = after.system_seconds - before.system_seconds;
            // The system counts in hundredths of a second.
            let cpu = (user + system).max(0.01);
            phase.figures.insert(PER_CPU.into(), deliveries as f64 / cpu);
            phase.server_cpu = Some((user, system));
        }
        phase
    }
}

/// Whether a step may go on.
fn check(
    began: Instant,
    most: Duration,
    interrupted: &AtomicBool,
    how_far: impl Fn() -> String,
) -> Result<(), String> {
    if interrupted.load(Ordering::Relaxed) {
        return Err(format!("interrupted: {}", how_far()));
    }
    match began.elapsed() > most {
        true => Err(format!("nothing comes any more: {} after {} s", how_far(), began.elapsed().as_secs())),
        false => Ok(()),
    }
}

impl Crowd<'_> {
    /// Each contact gets to see the publisher's presence.
    fn subscribe(&mut self) -> Result<(), String> {
        let request = wire::directed("subscribe", PUBLISHER, &self.domain);
        self.people[1..].iter_mut().for_each(|person| person.client.push(&request));
        self.until(STEP_MAX, "see the publisher's presence", |person| person.is_subscribed)
    }

    /// Each contact says that it wants to hear of the node, until it does.
    fn announce(&mut self, bytes: usize) -> Result<(), String> {
        let presence = self.software.presence();
        self.people[1..].iter_mut().for_each(|person| person.client.push(&presence));
        let began = Instant::now();
        for number in 0.. {
            check(began, STEP_MAX, self.interrupted, || {
                self.how_far("hear of the node", |person| person.is_ready)
            })?;
            self.people[0].client.push(&wire::publish(wire::NODE, &format!("w{number}"), bytes));
            match self.until(PROBE_MAX, "hear of the node", |person| person.is_ready) {
                Ok(()) => break,
                Err(reason) if self.people.iter().any(|person| person.client.ended.is_some()) => {
                    return Err(reason);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The id of an item of this round.
    fn item(&self, number: u64) -> String {
        format!("{}.{number}", self.round)
    }

    fn how_far(&self, what: &str, is_done: impl Fn(&Person) -> bool) -> String {
        let contacts = &self.people[1..];
        let done = contacts.iter().filter(|person| is_done(person)).count();
        format!("{done} of {} contacts {what}", contacts.len())
    }

    /// Lets everybody speak and listen until something is true of each contact.
    fn until(&mut self, most: Duration, what: &str, is_done: impl Fn(&Person) -> bool) -> Result<(), String> {
        let began = Instant::now();
        while !self.people[1..].iter().all(&is_done) {
            check(began, most, self.interrupted, || self.how_far(what, &is_done))?;
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        for person in &mut self.people {
            person.client.flush();
        }
        let interests: Vec<_> = self.people.iter().map(|person| person.client.interest(true)).collect();
        let ready = poll::wait(&interests, WAIT_MAX).map_err(|error| format!("cannot wait: {error}"))?;
        let (software, round) = (&self.software, format!("{}.", self.round));
        for (number, person) in self.people.iter_mut().enumerate().filter(|(number, _)| ready[*number]) {
            let Person { client, is_subscribed, is_ready, heard } = person;
            let (mut answers, mut fault) = (Vec::new(), None);
            client.receive(&mut self.buffer, |element| match element.name() {
                b"iq" => {
                    if element.attribute(b"type") == Some(b"error") {
                        let condition = element.find(b"error").and_then(|error| error.first_child());
                        let condition =
                            String::from_utf8_lossy(condition.unwrap_or(b"undefined")).into_owned();
                        fault = Some(format!("a publication was refused: {condition}"));
                    }
                    answers.extend(software.answer(element));
                }
                b"presence" => match element.attribute(b"type") {
                    Some(b"subscribe") => answers.extend(granted(element)),
                    Some(b"subscribed") => *is_subscribed = true,
                    _ => {}
                },
                b"message" if number > 0 => match wire::event(element).map(|(_, item)| item) {
                    Some([b'w', ..]) => *is_ready = true,
                    Some(item) => match item.strip_prefix(round.as_bytes()) {
                        Some(number) if number == heard.to_string().as_bytes() => *heard += 1,
                        Some(number) => {
                            let number = String::from_utf8_lossy(number);
                            fault =
                                Some(format!("a contact heard of publication {number}, and not of {heard}"));
                        }
                        None => {}
                    },
                    None => {}
                },
                _ => {}
            });
            answers.iter().for_each(|answer| client.push(answer));
            if let Some(reason) =
                client.ended.as_ref().map(|reason| format!("the server ended a session: {reason}"))
            {
                return Err(reason);
            }
            if let Some(fault) = fault {
                return Err(fault);
            }
        }
        Ok(())
    }
}

/// The answer to somebody who wants to see the publisher's presence.
fn granted(request: &Element<'_>) -> Option<String> {
    let from = String::from_utf8_lossy(request.attribute(b"from")?).into_owned();
    let bare = from.split('/').next().unwrap_or(&from);
    Some(format!("<presence type='subscribed' to='{bare}'/>"))
}
