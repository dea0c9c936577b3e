//! Opening an account before login (XEP-0077 §3.1), where the operator allows it (`auth.open_registration`).
//!
//! ```text
//! get ─► the form          set ─► quota ─► keys (crypto pool) ─► account (directory) ─► answer
//! ```
//! While keys and account are made the stream waits, so that a client may send its login right behind.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;

use whimbrel_storage::credentials::Credentials;

use crate::env::Env;
use crate::quota::Quota;
use crate::reply;
use crate::runtime::driver::ConnId;
use crate::service::register::{self, Form, NAMESPACE};
use crate::stanza::{Kind, Type};
use crate::stream::errors::{StanzaCondition, StanzaError};
use crate::stream::machine::{Step, Surroundings, bind_error};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::jobs::{Done, Then};
use crate::xml::{CLIENT, Element, Stanza};
use whimbrel_address::Block;

/// How many times as often as an address its network may try: an IPv6 /48 has 65,536 addresses.
const NETWORK_SHARE: u32 = 8;

/// Counts an attempt to register in the hour of the server's clock; `false` when the address has had its `limit`
/// (`limits.registrations_per_hour`), or its network [`NETWORK_SHARE`] times as many.
fn has_attempts_left(attempts: &Mutex<Quota>, peer: IpAddr, limit: u32, now_ms: u64) -> bool {
    let wanted = [(Block::of(peer), limit), (Block::network(peer), limit.saturating_mul(NETWORK_SHARE))];
    attempts.lock().expect("no code panics while it holds this lock").take(&wanted, now_ms)
}

/// Handles an iq with a registration query on a stream that has not authenticated. What can be answered at once
/// is written to `out`.
pub fn request(at: &Surroundings<'_>, stanza: &Stanza<'_>, out: &mut Vec<u8>) -> Step {
    let id = stanza.attribute("id").unwrap_or_default().into_owned();
    let typ = Type::parse(Kind::Iq, stanza.attribute("type").as_deref());
    let query = stanza.to_element();
    let query = query.find("query", NAMESPACE);
    let mut refuse = |error: StanzaError| {
        bind_error(&at.shared.domain, Some(&id), error, out);
        Step::Continue
    };
    match (typ, query) {
        (Some(Type::Get), Some(_)) => {
            write_form(&at.shared.domain, &id, out);
            Step::Continue
        }
        (Some(Type::Set), Some(query)) => match Form::read(query) {
            Ok(form) => Step::Register { id, form },
            Err(error) => refuse(error),
        },
        _ => refuse(StanzaCondition::BadRequest.into()),
    }
}

fn write_form(domain: &str, id: &str, out: &mut Vec<u8>) {
    let field = |name: &'static str| Element::new(name, NAMESPACE);
    let query = Element::new("query", NAMESPACE)
        .child(field("instructions").text("Choose a username and a password."))
        .child(field("username"))
        .child(field("password"));
    reply::iq(Type::Result, Some(domain), "", Some(id), out, |out| query.write(CLIENT, out));
}

/// Makes keys and account. The answer goes to the connection by [`crate::effects::jobs::Jobs::answer`].
pub fn start(env: &Env, fx: &mut Effects, conn: ConnId, peer: IpAddr, id: String, form: Form) {
    let limit = env.config.limits.registrations_per_hour;
    if !has_attempts_left(&env.shared.registrations, peer, limit, env.now.0) {
        env.metrics().refused_registrations.add(1);
        let text = "too many accounts from this address; try again in an hour";
        let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
        return refuse(env, fx, conn, &id, error);
    }
    let Form { username, password } = form;
    let iterations = NonZeroU32::new(env.config.auth.scram_iterations).unwrap_or(NonZeroU32::MIN);
    let answer_to = id.clone();
    let queued = fx.jobs.hash(Box::new(move || {
        let derived = Credentials::derive(&password, iterations);
        Done::Derived(Box::new(move |actors, env, fx| match derived {
            Ok(credentials) => create(actors, env, fx, conn, answer_to, username, credentials),
            Err(error) => refuse(env, fx, conn, &answer_to, register::password_refused(&error)),
        }))
    }));
    if !queued {
        env.metrics().refused_crypto.add(1);
        refuse(env, fx, conn, &id, register::pool_is_full());
    }
}

fn create(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    conn: ConnId,
    id: String,
    username: String,
    credentials: Credentials,
) {
    let (on_failure, on_refusal) = (id.clone(), id.clone());
    let submitted = actors.write(
        env,
        fx,
        move |transaction| {
            let created = transaction.create_account(&username, &credentials)?;
            let then: Then = Box::new(move |_, env, fx| {
                if created {
                    env.metrics().registrations.add(1);
                    let mut answer = Vec::new();
                    let domain = env.shared.domain.clone();
                    reply::open(Kind::Iq, Type::Result, Some(&domain), "", Some(&id), &mut answer);
                    answer.extend_from_slice(b"/>");
                    fx.jobs.answer(conn, answer);
                } else {
                    refuse(env, fx, conn, &id, StanzaCondition::Conflict.into());
                }
            });
            Ok(then)
        },
        move |_, env, fx, error| refuse(env, fx, conn, &on_failure, error),
    );
    if let Err(error) = submitted {
        refuse(env, fx, conn, &on_refusal, error);
    }
}

fn refuse(env: &Env, fx: &mut Effects, conn: ConnId, id: &str, error: StanzaError) {
    let mut answer = Vec::new();
    bind_error(&env.shared.domain.clone(), Some(id), error, &mut answer);
    fx.jobs.answer(conn, answer);
}

#[cfg(test)]
mod tests {
    use crate::quota::Crowd;

    use super::*;

    #[test]
    fn a_network_of_changing_addresses_has_a_quota_as_well() {
        let attempts = Mutex::new(Quota::new(3_600_000, Crowd::Refused));
        let take = |address: [u8; 4]| has_attempts_left(&attempts, address.into(), 2, 0);
        assert!(take([10, 0, 0, 0]) && take([10, 0, 0, 0]));
        assert!(!take([10, 0, 0, 0]), "an address has its own limit");
        let taken = (1..255).filter(|n| take([10, 0, 0, *n])).count();
        assert_eq!(taken + 2, 2 * NETWORK_SHARE as usize);
        assert!(take([10, 0, 1, 1]));
    }
}
