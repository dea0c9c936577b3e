//! Addresses: what is accepted is within its limits, is its own normal form, and is made of its parts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_storage::jid::{Jid, JidRef, PART_BYTES_MAX};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let borrowed = JidRef::parse(text);
    let Ok(jid) = Jid::parse(text) else {
        assert!(borrowed.is_err(), "the borrowed form accepts what the owned one refuses");
        return;
    };
    for part in [jid.local(), Some(jid.domain()), jid.resource()].into_iter().flatten() {
        assert!(!part.is_empty() && part.len() <= PART_BYTES_MAX, "part of {} bytes", part.len());
    }
    let again = Jid::parse(jid.as_str()).expect("a normalised address is an address");
    assert_eq!(again.as_str(), jid.as_str(), "normalising again changes it");
    let joined = Jid::from_parts(jid.local(), jid.domain(), jid.resource()).expect("its parts are parts");
    assert_eq!(joined, jid);
    let borrowed = borrowed.expect("the owned form accepts it");
    assert_eq!(
        (borrowed.local(), borrowed.domain(), borrowed.resource()),
        (jid.local(), jid.domain(), jid.resource())
    );
    assert_eq!(jid.to_bare().as_str(), jid.bare_str());
    assert_eq!(jid.is_bare(), jid.resource().is_none());
});
