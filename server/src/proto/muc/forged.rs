//! What only a room may say of a message or presence: taken out of what occupants send, so that nobody can make another
//! believe that the room has said it.
//!
//! | element | why |
//! | --- | --- |
//! | `<occupant-id/>` | XEP-0421 §5: it would be another's |
//! | `<stanza-id/>` by the room | XEP-0359 §4: it would name another message |
//! | `<x/>` of `muc#user`, `<x/>` of `muc` | §17.2.2: affiliations, roles, JIDs, codes; a password or a version of another |
//! | `<delay/>` from the room | it would be history |
//! | `<retracted/>`, `<moderated/>`, `<retract/>` with `<moderated/>` | XEP-0425 §5: a moderator's work |
//! | `<hats/>` | XEP-0317 §4: the room gives them |

use whimbrel_storage::jid::JidRef;

use crate::proto::letters::Letters;
use crate::proto::ns;
use crate::proto::stanza_id::Forged;
use crate::xml::{Child, Stanza};

/// Finds them among the direct children of a stanza to a room. `is_room` tells its address, without a nick. The ranges are
/// those of [`Stanza::bytes`], for [`Stamp::without`](crate::xml::Stamp::without).
pub fn forged(stanza: &Stanza<'_>, is_room: impl Fn(&JidRef<'_>) -> bool) -> Forged {
    let letters = Letters::of_marks();
    let names_room = |child: &Child<'_>, attribute: &str| {
        // Where there is too much to look at, all of it is taken for the room's.
        let is_it = |address: &str| JidRef::parse(address).is_ok_and(|jid| is_room(&jid.bare()));
        child.attribute(attribute).is_some_and(|address| !letters.has(&address) || is_it(&address))
    };
    let mut found = Forged::new();
    for child in stanza.children() {
        let is_forged = match (child.name(), child.namespace()) {
            ("occupant-id", ns::OCCUPANT_ID)
            | ("x", ns::MUC_USER | ns::MUC)
            | ("retracted", ns::RETRACTION)
            | ("moderated", ns::MODERATION)
            | ("hats", ns::HATS) => true,
            ("stanza-id", ns::STANZA_ID) => names_room(&child, "by"),
            ("delay", ns::DELAY) => names_room(&child, "from"),
            // The whole of it, so that what is left is no retraction by its author either.
            ("retract", ns::RETRACTION) => has_moderated(&child),
            _ => false,
        };
        if is_forged {
            found.push(child.range());
        }
    }
    found
}

fn has_moderated(retract: &Child<'_>) -> bool {
    // Prefixes may be declared outside; what cannot be read alone is taken for what it may be.
    match crate::xml::Element::parse(retract.bytes()) {
        Ok(retract) => retract.elements().any(|inside| inside.namespace() == ns::MODERATION),
        Err(_) => true,
    }
}
