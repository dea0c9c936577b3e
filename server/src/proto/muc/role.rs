//! Roles and affiliations by their names (XEP-0045 §5).

pub use whimbrel_storage::directory::rooms::Affiliation;

/// What somebody may do in a room as long as it is in it (§5.1). In the order of what they may do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[repr(u8)]
pub enum Role {
    /// It is not in the room.
    #[default]
    None = 0,
    /// May listen.
    Visitor = 1,
    /// May speak.
    Participant = 2,
    /// Says who may.
    Moderator = 3,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::None, Role::Visitor, Role::Participant, Role::Moderator];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Role::None => "none",
            Role::Visitor => "visitor",
            Role::Participant => "participant",
            Role::Moderator => "moderator",
        }
    }

    /// The role of a name.
    pub fn named(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The name of an affiliation on the wire.
pub const fn affiliation_name(affiliation: Affiliation) -> &'static str {
    match affiliation {
        Affiliation::Outcast => "outcast",
        Affiliation::None => "none",
        Affiliation::Member => "member",
        Affiliation::Admin => "admin",
        Affiliation::Owner => "owner",
    }
}

/// The affiliation of a name.
pub fn affiliation_named(name: &str) -> Option<Affiliation> {
    Affiliation::ALL.into_iter().find(|affiliation| affiliation_name(*affiliation) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_do_not() {
        for role in Role::ALL {
            assert_eq!(Role::named(role.name()), Some(role));
        }
        for affiliation in Affiliation::ALL {
            assert_eq!(affiliation_named(affiliation_name(affiliation)), Some(affiliation));
        }
        for name in ["", "Owner", "king", "moderator "] {
            assert_eq!((Role::named(name), affiliation_named(name)), (None, None), "{name}");
        }
    }
}
