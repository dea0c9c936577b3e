//! The rules against the tables of XEP-0045 §5, cell by cell.

use whimbrel_storage::directory::rooms::{PrivateMessages, RoleSet, RoomConfig, RoomFlags};

use crate::proto::muc::admin::{Change, ListOf};
use crate::proto::muc::role::{Affiliation, Role};
use crate::proto::muc::rules::*;

use Affiliation::{Admin, Member, Outcast, Owner};
use Role::{Moderator, Participant, Visitor};

fn standing(affiliation: Affiliation, role: Role) -> Standing {
    Standing { affiliation, role }
}

fn other(standing: Standing) -> Subject {
    Subject { standing, is_self: false, is_last_owner: false }
}

/// §5.2.3: which affiliations may make which of which. Rows: from; columns: to, outcast to owner.
#[test]
fn affiliations_change_as_the_table_has_them() {
    let table = [
        [Admin, Admin, Admin, Owner, Owner],
        [Admin, Admin, Admin, Owner, Owner],
        [Admin, Admin, Admin, Owner, Owner],
        [Owner, Owner, Owner, Owner, Owner],
        [Owner, Owner, Owner, Owner, Owner],
    ];
    for (row, from) in Affiliation::ALL.into_iter().enumerate() {
        for (column, to) in Affiliation::ALL.into_iter().enumerate() {
            for actor in Affiliation::ALL {
                // What somebody is in the room has no say in this.
                for role in Role::ALL {
                    let found = may(
                        standing(actor, role),
                        other(standing(from, Role::None)),
                        Change::Affiliation(to),
                    );
                    assert_eq!(
                        found.is_ok(),
                        actor >= table[row][column],
                        "{actor:?} {role:?}: {from:?} -> {to:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_change_of_affiliation_is_refused_with_the_reason_of_the_xep() {
    let change = |actor, from, to| {
        may(standing(actor, Moderator), other(standing(from, Participant)), Change::Affiliation(to))
    };
    assert_eq!(change(Member, Affiliation::None, Member), Err(Refusal::Forbidden), "§9.3");
    assert_eq!(change(Admin, Owner, Outcast), Err(Refusal::NotAllowed), "§9.1");
    assert_eq!(change(Admin, Admin, Affiliation::None), Err(Refusal::NotAllowed), "§10.7");
    assert_eq!(change(Admin, Member, Admin), Err(Refusal::Forbidden), "§10.6");
    assert_eq!(change(Admin, Admin, Owner), Err(Refusal::Forbidden), "§10.3");
    let own = |affiliation, to, is_last_owner| {
        let subject = Subject { standing: standing(affiliation, Moderator), is_self: true, is_last_owner };
        may(standing(affiliation, Moderator), subject, Change::Affiliation(to))
    };
    assert_eq!(own(Owner, Outcast, false), Err(Refusal::Conflict), "§9.1: nobody bans itself");
    assert_eq!(own(Admin, Outcast, false), Err(Refusal::Conflict));
    for to in [Affiliation::None, Member, Admin] {
        assert_eq!(own(Owner, to, true), Err(Refusal::Conflict), "§10.4: a room has an owner");
        assert_eq!(own(Owner, to, false), Ok(()));
    }
    assert_eq!(own(Owner, Owner, true), Ok(()));
}

/// §5.1.3: which role may be made which by whom, among people without an affiliation. Rows: from; columns: to.
#[test]
fn roles_change_as_the_table_has_them() {
    enum By {
        Moderator,
        Admin,
    }
    use By::Admin as A;
    use By::Moderator as M;
    // From a role that is none there is nothing but entering, which nobody does for somebody else.
    let table = [[M, M, M, A], [M, M, M, A], [A, A, A, A]];
    for (row, from) in [Visitor, Participant, Moderator].into_iter().enumerate() {
        for (column, to) in Role::ALL.into_iter().enumerate() {
            for actor in Affiliation::ALL {
                for role in Role::ALL {
                    let found = may(
                        standing(actor, role),
                        other(standing(Affiliation::None, from)),
                        Change::Role(to),
                    );
                    let is_admin = actor >= Admin;
                    let needed = match table[row][column] {
                        M => (is_admin || role == Moderator) && actor > Outcast,
                        A => is_admin,
                    };
                    // An outcast is not in the room, and so has no role.
                    if actor > Outcast || role == Role::None {
                        assert_eq!(found.is_ok(), needed, "{actor:?} {role:?}: {from:?} -> {to:?}");
                    }
                }
            }
        }
    }
}

/// §8.2, §8.4, §9.7: by affiliation of the actor (rows) and the target (columns), none to owner.
#[test]
fn nobody_loses_a_role_by_somebody_below() {
    const RANKS: [Affiliation; 4] = [Affiliation::None, Member, Admin, Owner];
    let kick = [
        [true, false, false, false],
        [true, true, false, false],
        [true, true, true, false],
        [true, true, true, true],
    ];
    let revoke_voice = [
        [true, false, false, false],
        [true, false, false, false],
        [true, true, false, false],
        [true, true, false, false],
    ];
    for (row, actor) in RANKS.into_iter().enumerate() {
        for (column, target) in RANKS.into_iter().enumerate() {
            let role = if target >= Admin { Moderator } else { Participant };
            let change =
                |to| may(standing(actor, Moderator), other(standing(target, role)), Change::Role(to));
            let needs_admin = role == Moderator && actor < Admin;
            let refused = if needs_admin { Refusal::Forbidden } else { Refusal::NotAllowed };
            let expected = |allowed: bool| if allowed { Ok(()) } else { Err(refused) };
            assert_eq!(change(Role::None), expected(kick[row][column]), "{actor:?} kicks {target:?}");
            assert_eq!(change(Visitor), expected(revoke_voice[row][column]), "{actor:?} silences {target:?}");
        }
    }
    for actor in [Admin, Owner] {
        for target in [Admin, Owner] {
            let change = may(
                standing(actor, Moderator),
                other(standing(target, Moderator)),
                Change::Role(Participant),
            );
            assert_eq!(change, Err(Refusal::NotAllowed), "{actor:?} takes the role from {target:?}");
        }
        let change =
            may(standing(actor, Moderator), other(standing(Member, Moderator)), Change::Role(Participant));
        assert_eq!(change, Ok(()));
    }
}

/// §5.1.2: by affiliation, none to owner, in each kind of room.
#[test]
fn one_enters_with_the_role_of_its_affiliation() {
    let config = |flag: Option<RoomFlags>| {
        let flags = flag.map_or(RoomFlags::default(), |flag| RoomFlags::default().with(flag));
        RoomConfig { flags, ..RoomConfig::default() }
    };
    let table = [
        (config(None), [Participant, Participant, Moderator, Moderator]),
        (config(Some(RoomFlags::MODERATED)), [Visitor, Participant, Moderator, Moderator]),
        (config(Some(RoomFlags::MEMBERS_ONLY)), [Role::None, Participant, Moderator, Moderator]),
    ];
    for (config, roles) in table {
        let found =
            [Affiliation::None, Member, Admin, Owner].map(|affiliation| initial_role(affiliation, &config));
        assert_eq!(found, roles);
        assert_eq!(initial_role(Outcast, &config), Role::None);
    }
}

#[test]
fn a_change_of_affiliation_brings_its_role_and_nothing_else_does() {
    let open = RoomConfig::default();
    let moderated =
        RoomConfig { flags: RoomFlags::default().with(RoomFlags::MODERATED), ..RoomConfig::default() };
    let members = RoomConfig::private_group();
    let table = [
        (Participant, Affiliation::None, Admin, &open, Moderator),
        (Moderator, Admin, Member, &open, Participant),
        (Moderator, Owner, Affiliation::None, &moderated, Visitor),
        (Participant, Member, Affiliation::None, &members, Role::None),
        (Participant, Member, Outcast, &open, Role::None),
        (Visitor, Member, Member, &moderated, Visitor),
        (Moderator, Affiliation::None, Affiliation::None, &moderated, Moderator),
        (Participant, Affiliation::None, Affiliation::None, &members, Role::None),
        (Moderator, Owner, Owner, &moderated, Moderator),
    ];
    for (role, before, after, config, expected) in table {
        assert_eq!(role_after(role, before, after, config), expected, "{role:?}: {before:?} -> {after:?}");
    }
}

/// §5.1.1: what a role gives, visitor to moderator.
#[test]
fn privileges_of_roles_are_those_of_the_table() {
    const ROLES: [Role; 4] = [Role::None, Visitor, Participant, Moderator];
    let plain = RoomConfig::default();
    let subject =
        RoomConfig { flags: RoomFlags::default().with(RoomFlags::CHANGE_SUBJECT), ..RoomConfig::default() };
    assert_eq!(ROLES.map(may_speak), [false, false, true, true]);
    assert_eq!(ROLES.map(|role| may_set_subject(role, &plain)), [false, false, false, true]);
    assert_eq!(ROLES.map(|role| may_set_subject(role, &subject)), [false, false, true, true]);
    let private = |private_messages, to| {
        let config = RoomConfig { private_messages, ..RoomConfig::default() };
        ROLES.map(|role| may_send_private(role, to, &config))
    };
    assert_eq!(private(PrivateMessages::Anyone, Visitor), [false, true, true, true]);
    assert_eq!(private(PrivateMessages::Participants, Visitor), [false, false, true, true]);
    assert_eq!(private(PrivateMessages::Moderators, Visitor), [false, false, false, true]);
    assert_eq!(private(PrivateMessages::Moderators, Moderator), [false, true, true, true]);
    assert_eq!(private(PrivateMessages::Nobody, Moderator), [false; 4]);
}

#[test]
fn invitations_follow_the_kind_of_room() {
    let open = RoomConfig::default();
    let closed = RoomConfig::private_group();
    let inviting = RoomConfig { flags: closed.flags.with(RoomFlags::ALLOW_INVITES), ..RoomConfig::default() };
    let of = |config: &RoomConfig| {
        [
            may_invite(standing(Affiliation::None, Visitor), config),
            may_invite(standing(Affiliation::None, Participant), config),
            may_invite(standing(Member, Participant), config),
            may_invite(standing(Admin, Role::None), config),
            may_invite(standing(Owner, Moderator), config),
        ]
    };
    assert_eq!(of(&open), [false, true, true, true, true]);
    assert_eq!(of(&closed), [false, false, false, true, true]);
    assert_eq!(of(&inviting), [false, false, true, true, true]);
}

#[test]
fn lists_are_for_those_who_may_see_addresses() {
    let members = ListOf::Affiliation(Member);
    let owners = ListOf::Affiliation(Owner);
    let bans = ListOf::Affiliation(Outcast);
    let moderators = ListOf::Role(Moderator);
    let group = RoomConfig::private_group();
    let anonymous = RoomConfig::default();
    let open =
        RoomConfig { flags: RoomFlags::default().with(RoomFlags::NON_ANONYMOUS), ..RoomConfig::default() };
    let silent = RoomConfig { lists_for: RoleSet::MODERATORS, ..open.clone() };
    let stranger = standing(Affiliation::None, Role::None);
    let guest = standing(Affiliation::None, Participant);
    let absent = standing(Member, Role::None);
    let moderator = standing(Affiliation::None, Moderator);
    let admin = standing(Admin, Role::None);
    let lists = |who, config: &RoomConfig| {
        [members, owners, bans, moderators].map(|list| may_have_list(who, list, config))
    };
    assert_eq!(lists(stranger, &open), [false; 4]);
    assert_eq!(lists(guest, &open), [true, true, false, false]);
    assert_eq!(lists(guest, &silent), [false; 4]);
    assert_eq!(lists(absent, &group), [true, true, false, false]);
    assert_eq!(lists(absent, &anonymous), [false; 4]);
    assert_eq!(lists(moderator, &anonymous), [false, false, false, true]);
    assert_eq!(lists(moderator, &silent), [true, true, false, true]);
    assert_eq!(lists(admin, &anonymous), [true; 4]);
    assert_eq!(lists(standing(Outcast, Role::None), &open), [false; 4]);
}

#[test]
fn addresses_presence_and_archives_are_seen_by_those_who_may() {
    let (anonymous, group) = (RoomConfig::default(), RoomConfig::private_group());
    assert!(!sees_jids(standing(Member, Participant), &anonymous));
    assert!(sees_jids(standing(Affiliation::None, Moderator), &anonymous));
    assert!(sees_jids(standing(Member, Participant), &group));
    let some = RoomConfig { presence_of: RoleSet::MODERATORS, ..RoomConfig::default() };
    assert_eq!(Role::ALL.map(|role| is_shown(role, &some)), [true, false, false, true]);
    let password = RoomConfig { password: "p".into(), ..RoomConfig::default() };
    let read =
        |config: &RoomConfig| Affiliation::ALL.map(|affiliation| may_read_archive(affiliation, config));
    assert_eq!(read(&anonymous), [false, true, true, true, true]);
    assert_eq!(read(&password), [false, false, false, false, true]);
    assert_eq!(read(&group), [false, false, true, true, true]);
}
