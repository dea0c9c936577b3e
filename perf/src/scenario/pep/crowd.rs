//! All who take part in publications: the publisher and its contacts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::scan::Element;
use crate::scenario::client::Client;
use crate::scenario::pep::wire::{self, Software};
use crate::scenario::poll;

/// The account that publishes.
pub(super) const PUBLISHER: u64 = 0;

/// The first of the contacts.
pub(super) const FIRST: u64 = 2;

/// How long to wait for the sockets before looking whether the run is to end.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(50);

/// How long one step may take.
pub(super) const STEP_MAX: Duration = Duration::from_secs(120);

/// How long all subscriptions may take.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(1200);

/// How long contacts that want to hear of the node may take to do so, before it is published to once more.
pub(super) const PROBE_MAX: Duration = Duration::from_secs(3);

pub(super) const READ_BYTES: usize = 64 * 1024;

/// A client and what it has heard.
pub(super) struct Person {
    pub(super) client: Client,
    /// It is subscribed to the publisher's presence.
    pub(super) is_subscribed: bool,
    /// It lets somebody see its own.
    pub(super) has_granted: bool,
    /// It has what it has asked the service for: the publisher its node, a contact its subscription.
    pub(super) is_served: bool,
    /// It has heard of a publication before those that count.
    pub(super) is_ready: bool,
    /// Publications of this round that it has heard of, and the number of the next one.
    pub(super) heard: u64,
}

/// All who take part in publications: the publisher is the first.
pub(super) struct Crowd<'a> {
    pub(super) people: Vec<Person>,
    pub(super) software: Software,
    pub(super) domain: String,
    /// How the ids of the items that count begin: those of other rounds, which come as last items, do not.
    pub(super) round: String,
    /// Publications that a contact has heard of more than once.
    pub(super) repeated: u64,
    pub(super) buffer: Vec<u8>,
    pub(super) interrupted: &'a AtomicBool,
}

/// Whether a step may go on.
pub(super) fn check(
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
    /// Each contact and the publisher get to see each other's presence: ejabberd tells only contacts whose presence the
    /// publisher sees.
    pub(super) fn subscribe(&mut self) -> Result<(), String> {
        let request = wire::directed("subscribe", PUBLISHER, &self.domain);
        let contacts = self.people.len() as u64 - 1;
        for account in FIRST..FIRST + contacts {
            self.people[0].client.push(&wire::directed("subscribe", account, &self.domain));
        }
        self.people[1..].iter_mut().for_each(|person| person.client.push(&request));
        self.until(SUBSCRIBE_MAX, "are subscribed", |person| person.is_subscribed && person.has_granted)
    }

    /// Each contact says that it wants to hear of the node, until it does.
    pub(super) fn announce(&mut self, bytes: usize) -> Result<(), String> {
        let presence = self.software.presence();
        self.people[1..].iter_mut().for_each(|person| person.client.push(&presence));
        let began = Instant::now();
        for number in 0.. {
            check(began, STEP_MAX, self.interrupted, || {
                self.how_far("hear of the node", |person| person.is_ready)
            })?;
            self.people[0].client.push(&wire::publish(None, wire::NODE, &format!("w{number}"), bytes));
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

    /// The publisher makes a node of the service, and each contact subscribes to it.
    pub(super) fn subscribe_to_node(&mut self, service: &str) -> Result<(), String> {
        self.people[0].client.push(&wire::create(service));
        let began = Instant::now();
        while !self.people[0].is_served {
            check(began, STEP_MAX, self.interrupted, || format!("{service} makes no node"))?;
            self.turn()?;
        }
        for (account, person) in (FIRST..).zip(&mut self.people[1..]) {
            person.client.push(&wire::subscribe(service, account, &self.domain));
        }
        self.until(STEP_MAX, "are subscribed to the node", |person| person.is_served)
    }

    /// Other items count from now on.
    pub(super) fn begin(&mut self, round: String) {
        self.round = round;
        self.people.iter_mut().for_each(|person| person.heard = 0);
    }

    /// The id of an item of this round.
    pub(super) fn item(&self, number: u64) -> String {
        format!("{}.{number}", self.round)
    }

    fn how_far(&self, what: &str, is_done: impl Fn(&Person) -> bool) -> String {
        let contacts = &self.people[1..];
        let done = contacts.iter().filter(|person| is_done(person)).count();
        format!("{done} of {} contacts {what}", contacts.len())
    }

    /// Lets everybody speak and listen until something is true of each contact.
    pub(super) fn until(
        &mut self,
        most: Duration,
        what: &str,
        is_done: impl Fn(&Person) -> bool,
    ) -> Result<(), String> {
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
        let repeated = &mut self.repeated;
        for (number, person) in self.people.iter_mut().enumerate().filter(|(number, _)| ready[*number]) {
            let Person { client, is_subscribed, has_granted, is_served, is_ready, heard } = person;
            let (mut answers, mut fault) = (Vec::new(), None);
            client.receive(&mut self.buffer, |element| match element.name() {
                b"iq" => {
                    if element.attribute(b"type") == Some(b"error") {
                        let condition = element.find(b"error").and_then(|error| error.first_child());
                        let condition =
                            String::from_utf8_lossy(condition.unwrap_or(b"undefined")).into_owned();
                        fault = Some(format!("a request was refused: {condition}"));
                    }
                    let id = element.attribute(b"id").unwrap_or_default();
                    *is_served |= [wire::CREATE, wire::SUBSCRIBE].iter().any(|own| own.as_bytes() == id);
                    answers.extend(software.answer(element));
                }
                b"presence" => match element.attribute(b"type") {
                    Some(b"subscribe") => {
                        *has_granted = true;
                        answers.extend(granted(element));
                    }
                    Some(b"subscribed") => *is_subscribed = true,
                    _ => {}
                },
                b"message" if number > 0 => match wire::event(element).map(|(_, item)| item) {
                    Some([b'w', ..]) => *is_ready = true,
                    Some(item) => {
                        if let Some(number) = item.strip_prefix(round.as_bytes()) {
                            match String::from_utf8_lossy(number).parse::<u64>() {
                                Ok(number) if number == *heard => *heard += 1,
                                Ok(number) if number < *heard => *repeated += 1,
                                _ => fault = Some(format!("a contact has not heard of publication {heard}")),
                            }
                        }
                    }
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

/// The answer to somebody who wants to see one's presence.
fn granted(request: &Element<'_>) -> Option<String> {
    let from = String::from_utf8_lossy(request.attribute(b"from")?).into_owned();
    let bare = from.split('/').next().unwrap_or(&from);
    Some(format!("<presence type='subscribed' to='{bare}'/>"))
}
