//! The contacts of users who send presence, without their names and groups: a roster of some megabytes is not read for
//! each presence of a client that comes and goes.
//!
//! What is kept is good as long as the roster has the version that it was read at, so nobody has to invalidate it. It
//! is dropped when the user goes offline or has sent no presence for a while; when there is no room for more
//! (`limits.contacts_bytes`), everything is, and read again as it is needed.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use whimbrel_storage::directory::{DirectoryError, RosterVersion, Subscription};

use crate::env::Env;
use crate::proto::address;
use crate::user::actors::Actors;
use crate::user::actors::Effects;

/// What a user costs here beside the contacts, in bytes.
const USER_BYTES: usize = 128;

/// The contacts of one user on this server.
#[derive(Debug)]
struct Listed {
    version: RosterVersion,
    /// For each contact its subscription as a byte, its localpart, and NUL, which no localpart has.
    contacts: Box<[u8]>,
    count: usize,
    /// Since the last look at what rests.
    used: bool,
}

/// The contacts of users of one worker.
#[derive(Debug, Default)]
pub struct Contacts {
    users: HashMap<Box<str>, Listed, FixedState>,
    bytes: usize,
}

impl Contacts {
    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A user is offline.
    pub fn forget(&mut self, local: &str) {
        if let Some((local, listed)) = self.users.remove_entry(local) {
            self.bytes -= cost(&local, &listed.contacts);
        }
    }

    /// Drops what has not been used since the last call.
    pub fn rest(&mut self) {
        let bytes = &mut self.bytes;
        self.users.retain(|local, listed| {
            let used = std::mem::take(&mut listed.used);
            if !used {
                *bytes -= cost(local, &listed.contacts);
            }
            used
        });
    }

    fn keep(&mut self, local: &str, listed: Listed, bytes_max: usize) {
        self.forget(local);
        let bytes = cost(local, &listed.contacts);
        if self.bytes + bytes > bytes_max {
            self.users.clear();
            self.bytes = 0;
        }
        if bytes <= bytes_max {
            self.bytes += bytes;
            self.users.insert(local.into(), listed);
        }
    }
}

fn cost(local: &str, contacts: &[u8]) -> usize {
    USER_BYTES + local.len() + contacts.len()
}

/// Calls `f` with each contact of a user on this server (its localpart) and the subscription.
///
/// # Errors
/// The roster cannot be read; then `f` may have been called with some.
pub fn each(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    local: &str,
    mut f: impl FnMut(&str, Subscription),
) -> Result<(), DirectoryError> {
    // The version first: should the roster change in between, it is read again next time.
    let version = env.shared.directory.roster_version(local)?;
    if let Some(listed) = actors.contacts.users.get_mut(local).filter(|listed| listed.version == version) {
        listed.used = true;
        fx.work.add_contacts(listed.count);
        go_through(&listed.contacts, &mut f);
        return Ok(());
    }
    let (mut contacts, mut count, mut read) = (Vec::new(), 0, 0);
    env.shared.directory.roster(local, |item| {
        read += 1;
        if let Some(contact) = address::contact_here(item.contact, &env.shared.domain)
            && item.subscription != Subscription::None
        {
            contacts.push(byte_of(item.subscription));
            contacts.extend_from_slice(contact.as_bytes());
            contacts.push(0);
            count += 1;
        }
    })?;
    fx.work.add_items(read);
    env.metrics().rosters_read.add(1);
    go_through(&contacts, &mut f);
    let listed = Listed { version, contacts: contacts.into(), count, used: true };
    let bytes_max = env.config.limits.contacts_bytes as usize;
    actors.contacts.keep(local, listed, bytes_max);
    env.metrics().contacts_bytes.set(actors.contacts.bytes() as u64);
    Ok(())
}

fn go_through(contacts: &[u8], f: &mut impl FnMut(&str, Subscription)) {
    for contact in contacts.split(|&byte| byte == 0) {
        if let Some((&subscription, local)) = contact.split_first()
            && let Ok(local) = std::str::from_utf8(local)
        {
            f(local, subscription_of(subscription));
        }
    }
}

fn byte_of(subscription: Subscription) -> u8 {
    match subscription {
        Subscription::None => b'n',
        Subscription::To => b't',
        Subscription::From => b'f',
        Subscription::Both => b'b',
    }
}

fn subscription_of(byte: u8) -> Subscription {
    match byte {
        b't' => Subscription::To,
        b'f' => Subscription::From,
        b'b' => Subscription::Both,
        _ => Subscription::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(bytes: usize) -> Listed {
        Listed { version: RosterVersion::default(), contacts: vec![b'x'; bytes].into(), count: 1, used: true }
    }

    #[test]
    fn what_is_not_used_is_dropped_and_bytes_are_counted() {
        let mut contacts = Contacts::default();
        contacts.keep("juliet", listed(100), 10_000);
        contacts.keep("romeo", listed(200), 10_000);
        contacts.keep("juliet", listed(50), 10_000);
        assert_eq!(contacts.bytes(), 2 * USER_BYTES + 6 + 5 + 250);
        contacts.rest();
        contacts.users.get_mut("romeo").unwrap().used = true;
        contacts.rest();
        assert_eq!(contacts.bytes(), USER_BYTES + 5 + 200);
        contacts.forget("romeo");
        assert_eq!(contacts.bytes(), 0);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut contacts = Contacts::default();
        for user in 0..100 {
            contacts.keep(&format!("u{user}"), listed(300), 2_000);
            assert!((1..=2_000).contains(&contacts.bytes()), "{}", contacts.bytes());
        }
        contacts.keep("big", listed(3_000), 2_000);
        assert_eq!(contacts.bytes(), 0);
    }

    #[test]
    fn every_subscription_comes_out_as_it_went_in() {
        let all = [Subscription::To, Subscription::From, Subscription::Both];
        let mut bytes = Vec::new();
        for (number, subscription) in all.into_iter().enumerate() {
            bytes.push(byte_of(subscription));
            bytes.extend_from_slice(format!("c{number}\0").as_bytes());
        }
        let mut seen = Vec::new();
        go_through(&bytes, &mut |local, subscription| seen.push((local.to_owned(), subscription)));
        let expected = all.into_iter().enumerate().map(|(number, s)| (format!("c{number}"), s));
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }
}
