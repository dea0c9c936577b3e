//! Last activity (XEP-0012): uptime of the server, and when an account was last online.

use whimbrel_storage::directory::{LastActivity, Table};

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::proto::ns;
use crate::service::{Answers, Reply, Request, Scope, Scopes, Service, unreadable};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::jobs::Then;
use crate::user::lifecycle::{Asleep, Hooks, Unavailable};
use crate::user::presence;
use crate::user::writes::{Area, Write};
use crate::xml::{CLIENT, Element};

/// Bytes of a status text that are remembered at most.
const STATUS_BYTES_MAX: usize = 1024;

/// Tells for how long the server has run, or the account has been away.
pub static SERVICE: Service = Service {
    name: "last activity",
    answers: &[Answers {
        element: "query",
        namespace: ns::LAST,
        scopes: Scopes::ANY,
        writes: Area::Alone,
        handle,
    }],
    features: &[(ns::LAST, Scopes::ANY)],
    tables: &[Table::Activity],
    lifecycle: Hooks { unavailable: Some(gone), asleep: Some(asleep), ..Hooks::NONE },
    ..Service::NOTHING
};

fn handle(actors: &mut Actors, env: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::NotAllowed.into();
    }
    if request.scope == Scope::Server {
        // The worker's clock begins when the server starts.
        return seconds(env.now.0 / 1000, "");
    }
    // §4: those who may not see the presence learn nothing, not even whether there is such an account.
    if !request.sees_presence(env) {
        return StanzaCondition::Forbidden.into();
    }
    let online =
        actors.users.find(&request.account).is_some_and(|user| !actors.users.available_of(user).is_empty());
    if online {
        return seconds(0, "");
    }
    match env.shared.directory.last_activity(&request.account) {
        Ok(Some(last)) => seconds(env.unix_seconds().saturating_sub(last.at_seconds), &last.status),
        Ok(None) => StanzaCondition::ItemNotFound.into(),
        Err(error) => unreadable(&request.account, &error),
    }
}

fn seconds(seconds: u64, status: &str) -> Reply {
    Reply::Result(Element::new("query", ns::LAST).attr("seconds", seconds.to_string()).text(status))
}

/// Remembers when a user has gone offline, and with which words.
fn gone(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Unavailable<'_>) {
    if event.was_last {
        let local = actors.users.local_of(event.key).to_owned();
        record(actors, env, fx, local, event.tail, event.said);
    }
}

/// As [`gone`], of a session that others see as gone.
fn asleep(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Asleep) {
    if event.was_last {
        let local = actors.users.local_of(event.key).to_owned();
        record(actors, env, fx, local, b"/>", None);
    }
}

/// Remembers that a user has gone with this unavailable presence. `write` is the presence as a client sent it, if one
/// did: what it sends next may ask for the note.
fn record(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    local: String,
    tail: &[u8],
    write: Option<Write>,
) {
    let last = LastActivity { at_seconds: env.unix_seconds(), status: status_of(tail) };
    let submitted = actors.write(
        env,
        fx,
        move |transaction| {
            // The account may be gone: then its sessions end because of that.
            if transaction.credentials(&local)?.is_some() {
                transaction.set_last_activity(&local, &last)?;
            }
            let then: Then = Box::new(move |actors, env, fx| end(actors, env, fx, write));
            Ok(then)
        },
        // The log has the reason.
        move |actors, env, fx, _| end(actors, env, fx, write),
    );
    // A full queue is counted where it is noticed; nothing depends on this note.
    if let (Ok(()), Some(write)) = (submitted, write) {
        actors.begin_write(fx, write, Area::Alone);
    }
}

fn end(actors: &mut Actors, env: &Env, fx: &mut Effects, write: Option<Write>) {
    if let Some(write) = write {
        actors.end_write(env, fx, write);
    }
}

/// The text of the first `<status/>`, cut at [`STATUS_BYTES_MAX`].
fn status_of(tail: &[u8]) -> String {
    if memchr::memmem::find(tail, b"status").is_none() {
        return String::new();
    }
    let Ok(presence) = Element::parse(&[presence::NAME, tail].concat()) else { return String::new() };
    let mut text = presence.find("status", CLIENT).map(|s| s.content().into_owned()).unwrap_or_default();
    while text.len() > STATUS_BYTES_MAX {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_an_unavailable_presence_is_read_and_cut() {
        assert_eq!(
            status_of(b" type='unavailable'><status>gone &amp; away</status></presence>"),
            "gone & away"
        );
        assert_eq!(status_of(b" type='unavailable'/>"), "");
        assert_eq!(status_of(b" type='unavailable'><x xmlns='status'/></presence>"), "");
        let long = format!("><status>x{}</status></presence>", "\u{e9}".repeat(STATUS_BYTES_MAX));
        assert_eq!(status_of(long.as_bytes()).len(), STATUS_BYTES_MAX - 1);
    }
}
