//! What is remembered of a user who goes offline (XEP-0012): when, and with which words.

use whimbrel_storage::directory::LastActivity;

use crate::env::Env;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::jobs::Then;
use crate::user::presence::NAME;
use crate::user::writes::{Area, Write};
use crate::xml::{CLIENT, Element};

/// Bytes of a status text that are remembered at most.
const STATUS_BYTES_MAX: usize = 1024;

/// Remembers that a user has gone with this unavailable presence. `write` is the presence as a client sent it, if one
/// did: what it sends next may ask for the note.
pub(super) fn record(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    local: &str,
    tail: &[u8],
    write: Option<Write>,
) {
    let last = LastActivity { at_seconds: env.unix_seconds(), status: status_of(tail) };
    let local = local.to_owned();
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
    let Ok(presence) = Element::parse(&[NAME, tail].concat()) else { return String::new() };
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
