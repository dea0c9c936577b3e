//! Status codes (XEP-0045 §15.6.2): what else there is to say of a presence or message of a room. These are the ones that rooms say.

/// A status code.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
#[repr(u16)]
pub enum Status {
    /// All occupants see your real JID.
    NonAnonymous = 100,
    /// The configuration has changed in something that is no matter of privacy.
    ConfigurationChanged = 104,
    /// This presence is about yourself.
    SelfPresence = 110,
    /// Messages are kept.
    LoggingEnabled = 170,
    /// Messages are not kept any more.
    LoggingDisabled = 171,
    /// All occupants see real JIDs from now on.
    NowNonAnonymous = 172,
    /// Only moderators see real JIDs from now on.
    NowSemiAnonymous = 173,
    /// The room is made by this presence.
    Created = 201,
    /// Banned.
    Banned = 301,
    /// The occupant has another nick from now on.
    NickChanged = 303,
    /// Kicked.
    Kicked = 307,
    /// Removed because of a change of affiliation.
    RemovedByAffiliation = 321,
    /// Removed because the room is for members only from now on.
    RemovedByMembersOnly = 322,
    /// Removed because of an error, such as a connection that is gone.
    RemovedByError = 333,
}

impl Status {
    /// All that rooms say.
    pub const ALL: [Status; 14] = [
        Status::NonAnonymous,
        Status::ConfigurationChanged,
        Status::SelfPresence,
        Status::LoggingEnabled,
        Status::LoggingDisabled,
        Status::NowNonAnonymous,
        Status::NowSemiAnonymous,
        Status::Created,
        Status::Banned,
        Status::NickChanged,
        Status::Kicked,
        Status::RemovedByAffiliation,
        Status::RemovedByMembersOnly,
        Status::RemovedByError,
    ];

    /// Its code.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// Appends `<status code='…'/>`.
    pub fn write(self, out: &mut Vec<u8>) {
        let code = self.code();
        let digit = |place: u16| b'0' + u8::try_from(code / place % 10).unwrap_or_default();
        out.extend_from_slice(b"<status code='");
        out.extend_from_slice(&[digit(100), digit(10), digit(1)]);
        out.extend_from_slice(b"'/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_with_its_code() {
        for status in Status::ALL {
            let mut out = Vec::new();
            status.write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("<status code='{}'/>", status.code()));
        }
    }
}
