//! Which messages an account wants to have archived (XEP-0441).
//!
//! | `never` has the peer | `always` has it | `default` | archived |
//! | --- | --- | --- | --- |
//! | yes | – | – | no |
//! | no | yes | – | yes |
//! | no | no | `always` | yes |
//! | no | no | `never` | no |
//! | no | no | `roster` | if the peer is a contact of the roster |
//!
//! A list has bare JIDs, which stand for their resources, or full ones; the more specific entry decides (§2).

use whimbrel_storage::directory::{ArchiveDefault, ArchivePreferences};
use whimbrel_storage::jid::Jid;

use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::letters::Letters;
use crate::proto::ns;
use crate::xml::Element;

const DEFAULTS: [(&str, ArchiveDefault); 3] = [
    ("always", ArchiveDefault::Always),
    ("never", ArchiveDefault::Never),
    ("roster", ArchiveDefault::Roster),
];

/// Reads `<prefs/>`. `jids_max`: how many addresses both lists may have together.
///
/// # Errors
/// `bad-request` for an unknown default, `jid-malformed`, `resource-constraint` for too many addresses.
pub fn read(prefs: &Element, jids_max: usize) -> Result<ArchivePreferences, StanzaError> {
    let default = prefs.attribute("default");
    let Some((_, default)) = DEFAULTS.into_iter().find(|(name, _)| Some(*name) == default) else {
        let text = "the default is 'always', 'never' or 'roster'";
        return Err(StanzaError::from(StanzaCondition::BadRequest).with_text(text));
    };
    let letters = Letters::of_list();
    let (always, never) = (list(prefs, "always", &letters)?, list(prefs, "never", &letters)?);
    if always.len() + never.len() > jids_max {
        let text = format!("the lists may have {jids_max} addresses together");
        return Err(StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text));
    }
    Ok(ArchivePreferences { default, always, never })
}

fn list(prefs: &Element, name: &str, letters: &Letters) -> Result<Vec<String>, StanzaError> {
    let Some(list) = prefs.find(name, ns::ARCHIVE) else { return Ok(Vec::new()) };
    let jids = list.elements().filter(|child| child.is("jid", ns::ARCHIVE));
    let jids = jids.map(|jid| {
        let text = jid.content();
        letters.check(text.trim())?;
        let jid = Jid::parse(text.trim()).map_err(|_| StanzaError::from(StanzaCondition::JidMalformed))?;
        Ok(jid.as_str().to_owned())
    });
    let mut jids = jids.collect::<Result<Vec<_>, StanzaError>>()?;
    jids.sort_unstable();
    jids.dedup();
    Ok(jids)
}

/// `<prefs/>`
pub fn to_element(preferences: &ArchivePreferences) -> Element {
    let default = DEFAULTS.into_iter().find(|(_, default)| *default == preferences.default);
    let list = |name: &'static str, jids: &[String]| {
        let jids = jids.iter().map(|jid| Element::new("jid", ns::ARCHIVE).text(jid));
        Element::new(name, ns::ARCHIVE).children(jids)
    };
    Element::new("prefs", ns::ARCHIVE)
        .attr("default", default.map_or("always", |(name, _)| name))
        .child(list("always", &preferences.always))
        .child(list("never", &preferences.never))
}

/// Whether what is exchanged with `peer`, a full or bare JID, is archived. `is_contact` is asked where the roster decides.
pub fn wants(preferences: &ArchivePreferences, peer: &str, is_contact: impl FnOnce() -> bool) -> bool {
    let has = |list: &[String], jid: &str| list.binary_search_by(|of| of.as_str().cmp(jid)).is_ok();
    for jid in [peer, address::bare_of(peer)] {
        if has(&preferences.never, jid) {
            return false;
        }
        if has(&preferences.always, jid) {
            return true;
        }
    }
    match preferences.default {
        ArchiveDefault::Always => true,
        ArchiveDefault::Never => false,
        ArchiveDefault::Roster => is_contact(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inside: &str, default: &str) -> Result<ArchivePreferences, StanzaCondition> {
        let text = format!("<prefs xmlns='urn:xmpp:mam:2' default='{default}'>{inside}</prefs>");
        read(&Element::parse(text.as_bytes()).unwrap(), 3).map_err(|error| error.condition)
    }

    #[test]
    fn preferences_read_as_they_are_written() {
        let text = "<always><jid>Romeo@x</jid><jid>a@x</jid></always><never><jid>b@x/r</jid></never>";
        let read = parse(text, "roster").unwrap();
        assert_eq!(
            (read.default, &*read.always),
            (ArchiveDefault::Roster, &["a@x".into(), "romeo@x".into()][..])
        );
        let again = super::read(&to_element(&read), 3).map_err(|error| error.condition);
        assert_eq!(again, Ok(read));
    }

    #[test]
    fn nonsense_is_refused() {
        let four = "<jid>a@x</jid><jid>b@x</jid><jid>c@x</jid><jid>d@x</jid>";
        assert_eq!(parse("", "perhaps"), Err(StanzaCondition::BadRequest));
        assert_eq!(parse("<never><jid>@</jid></never>", "never"), Err(StanzaCondition::JidMalformed));
        assert_eq!(
            parse(&format!("<never>{four}</never>"), "never"),
            Err(StanzaCondition::ResourceConstraint)
        );
    }

    #[test]
    fn the_more_specific_entry_decides_and_then_the_default() {
        let text = "<always><jid>a@x</jid><jid>b@x/good</jid></always><never><jid>a@x/bad</jid><jid>b@x</jid></never>";
        for (default, contact, other) in
            [("always", true, true), ("never", false, false), ("roster", true, false)]
        {
            let read = super::read(
                &Element::parse(
                    format!("<prefs xmlns='urn:xmpp:mam:2' default='{default}'>{text}</prefs>").as_bytes(),
                )
                .unwrap(),
                9,
            )
            .unwrap();
            let wants = |peer: &str, is_contact: bool| wants(&read, peer, || is_contact);
            assert!(wants("a@x", false) && wants("a@x/good", false) && !wants("a@x/bad", true));
            assert!(wants("b@x/good", false) && !wants("b@x", true) && !wants("b@x/r", true));
            assert_eq!((wants("c@x/r", true), wants("c@x", false)), (contact, other), "{default}");
        }
    }
}
