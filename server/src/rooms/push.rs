//! Those who belong to a room are told by push of what is said while they are away. Whom: everybody with an affiliation, from a list
//! that is made anew when an affiliation has changed. Homes of those who have no device hear nothing of it
//! ([`PushAccounts`](crate::shared::push_accounts::PushAccounts)). What each wants to hear, and who is there, is known at the members' homes.

use whimbrel_storage::directory::rooms::Affiliation;

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::occupancy::room::{Member, Members};
use crate::proto::address;
use crate::rooms::say::Written;
use crate::rooms::speak::Said;
use crate::stanza::{Kind, Traits};
use crate::user::actors::{Actors, Effects};

/// A message that the room's archive has goes to those who belong to the room, for their devices.
pub(super) fn tell_members(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
    said: &Said<'_>,
    written: &Written,
) {
    if env.shared.push.get().is_none() || !said.traits.has(Traits::WAKES) || said.by_room {
        return;
    }
    let Some(room) = actors.rooms.room_mut(name) else { return };
    if room.members().is_none() {
        match read(env, fx, room.record.actor) {
            Ok(members) => room.set_members(members),
            Err(error) => return tracing::error!(room = name, %error, "cannot read the members of a room"),
        }
    }
    let mut lists = fx.links.take_lists();
    let accounts = env.shared.push_accounts.get();
    let may_have_device = |member: &Member<'_>| {
        member.local != said.by && accounts.is_none_or(|accounts| accounts.may_have(member.account))
    };
    for member in room.members().into_iter().flat_map(Members::iter).filter(may_have_device) {
        env.metrics().push_members.add(1);
        lists[usize::from(member.home)].push_seat(member.local, &format!("{:x}", member.account.raw()));
    }
    let weight = match room.config().is_private_group() {
        true => Weight::AbsentOfGroup,
        false => Weight::Absent,
    };
    fx.cast(env, &written.cast(Kind::Message, weight, said.from), &lists);
    fx.links.put_lists(lists);
}

fn read(
    env: &Env,
    fx: &Effects,
    room: whimbrel_storage::actor::ActorId,
) -> Result<Members, whimbrel_storage::directory::DirectoryError> {
    let (mut members, mut count) = (Members::default(), 0);
    env.shared.directory.rooms(|rooms| {
        rooms.each_affiliate(room, |affiliate| {
            let local = address::contact_here(&affiliate.jid, &env.shared.domain);
            if let Some(local) = local
                && affiliate.affiliation >= Affiliation::Member
            {
                let home = u16::try_from(env.home_of(local)).unwrap_or(u16::MAX);
                members.push(&Member { home, account: affiliate.account, local });
                count += 1;
            }
            true
        })
    })?;
    fx.work.add(work::LOOK + count * work::ITEM);
    Ok(members)
}
