//! Where a stanza is addressed to: decided here, once, and nowhere else.
//!
//! Everything below works with a [`Destination`] or with the parts that [`local_of`] and [`contact_here`] give; a test
//! (`server/tests/layers.rs`) sees to it that no other module splits an address or compares a domain. A new kind of
//! actor, or a second machine, is one more variant here.

use whimbrel_storage::jid::{Jid, JidRef};

/// Where a stanza of a bound client goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// The domain itself.
    Domain,
    /// A resource of the domain, or something of a service that it does not have. There is none.
    DomainResource,
    /// The sender's own account: no address, or its bare JID.
    OwnAccount,
    /// An account of this server, or a resource of one; also a resource of the sender's own account.
    User {
        /// Localpart, normalised.
        local: &'a str,
        /// Resource, normalised; `None` for the bare JID.
        resource: Option<&'a str>,
    },
    /// The service of rooms itself.
    Rooms,
    /// A room, or an occupant of one.
    Room {
        /// The room's name, normalised.
        name: &'a str,
        /// A nick, normalised; `None` for the room itself.
        nick: Option<&'a str>,
    },
    /// The publish-subscribe service. A request to one of its nodes names it in what it carries.
    Nodes,
    /// The push service. It is asked what it is; what it is told comes from this server.
    Push,
    /// The service that gives slots for uploads.
    Uploads,
    /// Another domain. There is no federation, so it cannot be reached (RFC 6120 §8.3.3.16).
    Remote,
}

impl<'a> Destination<'a> {
    /// Decides for the address `to`; `None` for a stanza without one. `domain` is that of the server's users, `own` the
    /// sender's localpart; `services` is asked for an address of another domain only.
    #[inline]
    pub fn of<'d>(
        to: Option<&'a JidRef<'a>>,
        domain: &str,
        own: &str,
        services: impl FnOnce() -> Services<'d>,
    ) -> Destination<'a> {
        let Some(to) = to else { return Destination::OwnAccount };
        if to.domain() != domain {
            return Destination::beside(to, services());
        }
        match (to.local(), to.resource()) {
            (Some(local), None) if local == own => Destination::OwnAccount,
            (Some(local), resource) => Destination::User { local, resource },
            (None, None) => Destination::Domain,
            (None, Some(_)) => Destination::DomainResource,
        }
    }

    /// Where an address goes that is not of the users' domain.
    fn beside(to: &'a JidRef<'a>, services: Services<'_>) -> Destination<'a> {
        let is = |domain: Option<&str>| domain == Some(to.domain());
        let (is_rooms, is_nodes) = (is(services.rooms), is(services.nodes));
        let (is_push, is_uploads) = (is(services.push), is(services.uploads));
        match (to.local(), to.resource()) {
            (Some(name), nick) if is_rooms => Destination::Room { name, nick },
            (None, None) if is_rooms => Destination::Rooms,
            (None, None) if is_nodes => Destination::Nodes,
            (None, None) if is_push => Destination::Push,
            (None, None) if is_uploads => Destination::Uploads,
            _ if is_rooms || is_nodes || is_push || is_uploads => Destination::DomainResource,
            _ => Destination::Remote,
        }
    }
}

/// The domains that this server has beside that of its users.
#[derive(Copy, Clone, Debug, Default)]
pub struct Services<'a> {
    /// That of its rooms; `None`: there are none.
    pub rooms: Option<&'a str>,
    /// That of its publish-subscribe service; `None`: there is none.
    pub nodes: Option<&'a str>,
    /// That of its push service; `None`: there is none.
    pub push: Option<&'a str>,
    /// That of HTTP upload; `None`: there is none.
    pub uploads: Option<&'a str>,
}

/// The localpart of a JID of this server; empty for the domain's own.
#[inline]
pub fn local_of(jid: &str) -> &str {
    cut(jid, b'@').map_or("", |(local, _)| local)
}

/// Localpart and resource of a full JID of this server.
#[inline]
pub fn local_and_resource(jid: &str) -> Option<(&str, &str)> {
    let (local, rest) = cut(jid, b'@')?;
    Some((local, cut(rest, b'/')?.1))
}

/// Localpart and perhaps resource, with a slash between them, as envelopes name recipients.
#[inline]
pub fn local_and_resource_of_target(target: &str) -> (&str, Option<&str>) {
    target.split_once('/').map_or((target, None), |(local, resource)| (local, Some(resource)))
}

/// The localpart of a contact, a bare JID, if it is an account of this server.
#[inline]
pub fn contact_here<'a>(contact: &'a str, domain: &str) -> Option<&'a str> {
    cut(contact, b'@').filter(|(_, of)| *of == domain).map(|(local, _)| local)
}

/// The resource of a full JID, if it is one of this account of this server.
#[inline]
pub fn resource_of_account<'a>(jid: &'a str, local: &str, domain: &str) -> Option<&'a str> {
    let (bare, resource) = cut(jid, b'/')?;
    (contact_here(bare, domain) == Some(local)).then_some(resource)
}

/// Whether an address names a resource.
#[inline]
pub fn has_resource(jid: &str) -> bool {
    cut(jid, b'/').is_some()
}

/// Whether an address is that of an account of this server, without resource.
pub fn is_account(jid: &JidRef<'_>, local: &str, domain: &str) -> bool {
    jid.is_bare() && jid.local() == Some(local) && jid.domain() == domain
}

/// Whether an address is an account of this server, or a resource of one, of this localpart.
pub fn belongs_to(jid: &Jid, local: &str, domain: &str) -> bool {
    jid.local() == Some(local) && jid.domain() == domain
}

/// Whether an address is a room, or an occupant of one.
pub fn is_room(jid: &JidRef<'_>, rooms: Option<&str>) -> bool {
    rooms == Some(jid.domain()) && jid.local().is_some()
}

/// Whether an address is the room of this name itself.
pub fn is_this_room(jid: &JidRef<'_>, name: &str, rooms: &str) -> bool {
    jid.is_bare() && jid.local() == Some(name) && jid.domain() == rooms
}

/// Whether an address is of this server.
pub fn is_here(jid: &JidRef<'_>, domain: &str) -> bool {
    jid.domain() == domain
}

/// Whether an address is the domain's own, without resource.
pub fn is_domain(jid: &JidRef<'_>, domain: &str) -> bool {
    jid.local().is_none() && jid.is_bare() && jid.domain() == domain
}

/// The bare JID of an address: all that stands before the first slash.
#[inline]
pub fn bare_of(jid: &str) -> &str {
    cut(jid, b'/').map_or(jid, |(bare, _)| bare)
}

/// What stands before and after the first of an ASCII character: `split_once` in a third of the time, on the path of each
/// message.
#[inline]
fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    let place = memchr::memchr(at, text.as_bytes())?;
    Some((&text[..place], &text[place + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_address_has_one_destination() {
        let user = |local, resource| Destination::User { local, resource };
        let room = |name, nick| Destination::Room { name, nick };
        let table = [
            ("x", Destination::Domain),
            ("x/r", Destination::DomainResource),
            ("juliet@x", Destination::OwnAccount),
            ("juliet@x/balcony", user("juliet", Some("balcony"))),
            ("romeo@x", user("romeo", None)),
            ("romeo@x/orchard", user("romeo", Some("orchard"))),
            ("y", Destination::Remote),
            ("y/r", Destination::Remote),
            ("juliet@y", Destination::Remote),
            ("juliet@y/balcony", Destination::Remote),
            ("r", Destination::Rooms),
            ("r/n", Destination::DomainResource),
            ("juliet@r", room("juliet", None)),
            ("hall@r/nick", room("hall", Some("nick"))),
            ("n", Destination::Nodes),
            ("n/r", Destination::DomainResource),
            ("news@n", Destination::DomainResource),
            ("p", Destination::Push),
            ("p/r", Destination::DomainResource),
            ("juliet@p", Destination::DomainResource),
            ("u", Destination::Uploads),
            ("u/r", Destination::DomainResource),
            ("juliet@u", Destination::DomainResource),
        ];
        for (to, expected) in table {
            let to = JidRef::parse(to).unwrap();
            let (rooms, nodes) = (Some("r"), Some("n"));
            let services = || Services { rooms, nodes, push: Some("p"), uploads: Some("u") };
            assert_eq!(Destination::of(Some(&to), "x", "juliet", services), expected);
        }
        let without = Services::default;
        assert_eq!(Destination::of(None, "x", "juliet", without), Destination::OwnAccount);
        let room = JidRef::parse("hall@r").unwrap();
        assert_eq!(Destination::of(Some(&room), "x", "juliet", without), Destination::Remote);
        for service in ["n", "p", "u"] {
            let service = JidRef::parse(service).unwrap();
            assert_eq!(Destination::of(Some(&service), "x", "juliet", without), Destination::Remote);
        }
    }

    #[test]
    fn parts_of_addresses() {
        assert_eq!([local_of("juliet@x/b@c"), local_of("juliet@x"), local_of("x")], ["juliet", "juliet", ""]);
        assert_eq!(local_and_resource("juliet@x/a/b@c"), Some(("juliet", "a/b@c")));
        assert_eq!((local_and_resource("juliet@x"), local_and_resource("x/r")), (None, None));
        assert_eq!(local_and_resource_of_target("juliet/a/b@c"), ("juliet", Some("a/b@c")));
        assert_eq!(local_and_resource_of_target("juliet"), ("juliet", None));
        assert_eq!(
            [contact_here("romeo@x", "x"), contact_here("romeo@y", "x"), contact_here("x", "x")],
            [Some("romeo"), None, None]
        );
        assert_eq!([bare_of("juliet@x/a/b"), bare_of("x")], ["juliet@x", "x"]);
    }
}
