//! One server: it is started for each round, and its figures are taken.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::cli::PepArgs;
use crate::engine::counters::{Counters, Latencies};
use crate::engine::target::loopback_sources;
use crate::peers::{Peer, ROSTERS, Running};
use crate::report::{Latency, Phase, Report};
use crate::sample::process::Process;
use crate::scenario::client::{Client, Door, Entry, RESOURCE};
use crate::scenario::pep::crowd::{
    Crowd, FIRST, PROBE_MAX, PUBLISHER, Person, READ_BYTES, STEP_MAX, WAIT_MAX, check,
};
use crate::scenario::pep::wire::{self, Software};
use crate::scenario::{poll, rest};

/// The name of the phase that publishes, and of its latency: until the last contact has it.
pub(super) const PUBLISH: &str = "publish";

/// The name of the phase that publishes to a node of the service, and of its latency.
pub(super) const NODE: &str = "node";

/// The service's domain, before the server's.
const SERVICE: &str = "pubsub";

/// The name of the phase in which clients log in, and of its latency: until all last items are there.
pub(super) const LOGIN: &str = "login";

// The figures of a phase.
pub(super) const RATE: &str = "deliveries a second";
pub(super) const PER_CPU: &str = "deliveries a second of server CPU";
const REPEATED: &str = "events that came more than once";
pub(super) const CPU_EACH: &str = "milliseconds of server CPU for each";

/// The account with the many nodes.
const COLLECTOR: u64 = 1;

/// A server, and who speaks to it.
pub(super) struct Stage<'a> {
    args: &'a PepArgs,
    peer: &'a Peer,
    servers: Vec<u32>,
    entry: Entry,
    /// Rounds so far.
    rounds: u32,
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
        let service = format!("{SERVICE}.{}", crowd.domain);
        // Later rounds find them subscribed, and a server that has begun with rosters does at once.
        if self.rounds == 0 && !self.peer.facts.contains_key(ROSTERS) {
            crowd.subscribe()?;
        }
        if self.rounds == 0 {
            crowd.subscribe_to_node(&service)?;
        }
        self.rounds += 1;
        crowd.announce(self.args.bytes as usize)?;
        for (name, to) in [(PUBLISH, None), (NODE, Some(&*service))] {
            rest(&self.servers, interrupted)?;
            crowd.begin(format!("{name}{}", self.rounds));
            report.phases.push(self.publish(&mut crowd, (name, to))?);
        }
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
            // Answers to requests for a subscription go to those who have asked for their roster (RFC 6121 §3.1.6).
            client.push("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq><presence/>");
            client.flush();
            people.push(Person {
                client,
                is_subscribed: false,
                has_granted: false,
                is_served: false,
                is_ready: false,
                heard: 0,
            });
        }
        let domain = self.entry.door.domain.clone();
        let software = Software::new(vec![wire::NODE.to_owned()]);
        Ok(Crowd {
            people,
            software,
            domain,
            round: String::new(),
            repeated: 0,
            buffer: vec![0; READ_BYTES],
            interrupted,
        })
    }

    /// Publishes to a node of the account, or of a service.
    fn publish(&self, crowd: &mut Crowd<'_>, (name, to): (&str, Option<&str>)) -> Result<Phase, String> {
        let (before, began) = (Process::read_all(&self.servers), Instant::now());
        let mut latencies = Latencies::default();
        for number in 0..self.args.publications {
            let sent = Instant::now();
            let item = wire::publish(to, wire::NODE, &crowd.item(number), self.args.bytes as usize);
            crowd.people[0].client.push(&item);
            crowd.until(STEP_MAX, "hear of a publication", |person| person.heard > number)?;
            latencies.record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        let deliveries = self.args.publications * self.args.contacts;
        let mut phase = self.phase((name, &latencies), began.elapsed(), deliveries, before.as_ref());
        phase.figures.insert(REPEATED.into(), std::mem::take(&mut crowd.repeated) as f64);
        Ok(phase)
    }

    /// A client of the account with the many nodes comes online, again and again.
    fn log_in_again(&mut self, interrupted: &AtomicBool) -> Result<Phase, String> {
        let nodes: Vec<String> =
            (0..self.args.nodes).map(|number| format!("{}:{number}", wire::NODE)).collect();
        let mut writer = self.log_in(COLLECTOR, "writer")?;
        for (number, node) in nodes.iter().enumerate() {
            let request = wire::publish(None, node, &number.to_string(), self.args.bytes as usize);
            let answer = writer.ask(&request, &format!("p{number}"), |answer| {
                (answer.attribute(b"type") == Some(b"result")).then_some(())
            })?;
            answer.ok_or_else(|| format!("the server does not take an item for {node}"))?;
        }
        writer.cut();
        let software = Software::new(nodes.clone());
        // The first one is asked what its hash stands for; not every server makes up for it then.
        let _ = self.come(&software, nodes.len(), ("first", PROBE_MAX), interrupted);
        rest(&self.servers, interrupted)?;
        let (before, began) = (Process::read_all(&self.servers), Instant::now());
        let mut latencies = Latencies::default();
        for number in 0..self.args.logins {
            let took = self.come(&software, nodes.len(), (&format!("r{number}"), STEP_MAX), interrupted)?;
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
        (resource, most): (&str, Duration),
        interrupted: &AtomicBool,
    ) -> Result<Duration, String> {
        let began = Instant::now();
        let mut client = self.log_in(COLLECTOR, resource)?;
        client.push(&software.presence());
        let mut buffer = vec![0; READ_BYTES];
        let mut seen: Vec<Vec<u8>> = Vec::new();
        while seen.len() < wanted {
            check(began, most, interrupted, || format!("{} of {wanted} last items came", seen.len()))?;
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
