//! Who is blocked (XEP-0191): the check on every stanza, and the errors it gives.

use whimbrel_storage::jid::JidRef;

use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::stanza::{Delivery, Traits};
use crate::user::actors::Effects;
use crate::user::tables::Users;
use crate::user::tables::{ResourceKey, UserKey};

/// Whether the user blocks this JID. For a user who is not online the directory is asked; one that cannot be
/// read blocks nobody.
pub fn blocks(users: &Users, env: &Env, fx: &Effects, local: &str, other: &JidRef<'_>) -> bool {
    match users.find(local) {
        Some(user) => user_blocks(users, user, other),
        None => load(env, fx, local).is_some_and(|list| on_list(&list, other)),
    }
}

/// As [`blocks`], of a user who is online.
pub fn user_blocks(users: &Users, user: UserKey, other: &JidRef<'_>) -> bool {
    users.user(user).blocked.as_ref().is_some_and(|list| on_list(list, other))
}

/// Whether a stanza comes from somebody whom its recipient blocks; `user` is the recipient, if online. A user who
/// blocks nobody, as most people do, costs one look.
pub fn stops(users: &Users, env: &Env, fx: &Effects, d: &Delivery<'_>, user: Option<UserKey>) -> bool {
    if d.traits.has(Traits::FROM_SERVER) || user.is_some_and(|user| users.user(user).blocked.is_none()) {
        return false;
    }
    let Ok(from) = JidRef::parse(d.from) else { return false };
    from.local() != Some(d.to_local) && blocks(users, env, fx, d.to_local, &from)
}

/// Whether a user of this worker, by a JID, blocks resources of somebody and not the whole account. Then presence to a bare JID
/// passes those resources by (XEP-0191 §2.2, §3.3), which only the recipient's home can see to.
pub fn chooses_resources(users: &Users, from: &str) -> bool {
    let list = users.find(address::local_of(from)).and_then(|user| users.user(user).blocked.as_ref());
    list.is_some_and(|list| list.iter().any(|jid| address::has_resource(jid)))
}

/// The list of a user whose home is this worker, online or not.
pub fn list_of(users: &Users, env: &Env, fx: &Effects, local: &str) -> Option<Box<Vec<Box<str>>>> {
    match users.find(local) {
        Some(user) => users.user(user).blocked.clone(),
        None => load(env, fx, local),
    }
}

/// Whether a list has an entry for a JID.
pub fn names(list: &Option<Box<Vec<Box<str>>>>, jid: &str) -> bool {
    list.as_ref().is_some_and(|list| JidRef::parse(jid).is_ok_and(|jid| on_list(list, &jid)))
}

/// The list of somebody who sends a presence and [`chooses_resources`], wherever they live. It is at least as new as the
/// presence: a change is committed before it takes effect.
pub fn list_of_sender(env: &Env, fx: &Effects, from: &str) -> Option<Box<Vec<Box<str>>>> {
    load(env, fx, address::local_of(from))
}

/// Whether a sorted list names just this resource of a user of this worker. Anything that it blocks as a whole is kept from the presence
/// by the sender's home, and has to hear of the end when it is put on the list.
pub fn names_resource(users: &Users, env: &Env, list: &[Box<str>], key: ResourceKey) -> bool {
    let has = |jid: &str| list.binary_search_by(|entry| (**entry).cmp(jid)).is_ok();
    let name = &users.resource(key).name;
    has(&users.full_jid(env, key)) || has(&format!("{}/{name}", env.shared.domain))
}

/// Reads a user's list; `None` when it is empty.
pub fn load(env: &Env, fx: &Effects, local: &str) -> Option<Box<Vec<Box<str>>>> {
    let list = env.shared.directory.blocked(local).unwrap_or_else(|error| {
        tracing::error!(user = local, %error, "cannot read a block list");
        Vec::new()
    });
    fx.work.add(work::LOOK + (list.len() / 8) as u64);
    let mut list: Vec<Box<str>> = list.into_iter().map(Into::into).collect();
    list.sort_unstable();
    (!list.is_empty()).then(|| Box::new(list))
}

/// Whether a sorted list has an entry for a JID. XEP-0191 §2.2: a listed JID matches its exact form, its bare JID, the domain with the resource, or the domain.
pub fn on_list(list: &[Box<str>], other: &JidRef<'_>) -> bool {
    let has = |jid: &str| list.binary_search_by(|entry| (**entry).cmp(jid)).is_ok();
    let domain = other.domain();
    if has(domain) {
        return true;
    }
    if let Some(resource) = other.resource() {
        if has(&format!("{domain}/{resource}")) {
            return true;
        }
        if let Some(local) = other.local()
            && has(&format!("{local}@{domain}/{resource}"))
        {
            return true;
        }
    }
    other.local().is_some_and(|local| has(&format!("{local}@{domain}")))
}

/// XEP-0191 §3.3: the answer to users who write to somebody whom they block.
pub fn own_block_error() -> StanzaError {
    StanzaError::from(StanzaCondition::NotAcceptable).with_application("blocked", ns::BLOCKING_ERRORS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_jid_matches_as_the_xep_says() {
        let list = |entry: &str| vec![Box::<str>::from(entry)];
        let other = JidRef::parse("romeo@example.net/orchard").unwrap();
        for entry in ["romeo@example.net/orchard", "romeo@example.net", "example.net/orchard", "example.net"]
        {
            assert!(on_list(&list(entry), &other), "{entry}");
        }
        for entry in ["romeo@example.net/home", "example.net/home", "tybalt@example.net", "example.org"] {
            assert!(!on_list(&list(entry), &other), "{entry}");
        }
    }
}
