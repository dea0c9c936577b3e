//! What a worker remembers of accounts' devices: which there are, and what each was told. Of an account that it does not remember
//! it reads the directory; one that has no device is remembered too.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::PushDevice;
use whimbrel_storage::log::Sequence;

use super::group::{GroupWait, Wish};
use crate::proto::push::{PushService, VOIP};

/// The length of the window in which notifications are counted.
const HOUR_MS: u64 = 3_600_000;

/// Notifications in an hour.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hourly {
    pub(super) hour: u32,
    pub(super) sent: u32,
}

impl Hourly {
    fn now(self, now_ms: u64) -> Hourly {
        let hour = u32::try_from(now_ms / HOUR_MS).unwrap_or(u32::MAX);
        if self.hour == hour { self } else { Hourly { hour, sent: 0 } }
    }

    /// Whether there may be one more.
    pub(super) fn has_room(self, now_ms: u64, max: u32) -> bool {
        self.now(now_ms).sent < max
    }

    /// There is one more.
    pub(super) fn count(&mut self, now_ms: u64) {
        *self = self.now(now_ms);
        self.sent += 1;
    }
}

/// A device, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Names it among those of its account.
    pub(super) node: Box<str>,
    /// The push service, as the directory numbers them.
    pub(super) service: u8,
    /// The resource that has enabled it.
    pub(super) resource: Box<str>,
    /// It is told of calls alone.
    pub(super) is_voip: bool,
    /// Messages that have come for it since it was last here.
    pub(super) count: u32,
    /// Of them, those of which it was told.
    pub(super) told: u32,
    /// The newest of them.
    pub(super) newest: Sequence,
    /// It is not told again before, but of calls.
    pub(super) pause_until_ms: u64,
    /// It waits in [`Pushes::due`].
    pub(super) is_due: bool,
    /// What it was told in this hour.
    pub(super) hourly: Hourly,
}

impl Device {
    fn of(row: &PushDevice) -> Device {
        Device {
            node: row.node.as_str().into(),
            service: row.service,
            resource: row.resource.as_str().into(),
            is_voip: row.service == PushService::Apns.code() && row.topic.ends_with(VOIP),
            count: 0,
            told: 0,
            newest: Sequence::ZERO,
            pause_until_ms: 0,
            is_due: false,
            hourly: Hourly::default(),
        }
    }
}

/// The devices of an account.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Its localpart.
    pub(super) local: Box<str>,
    pub(super) devices: Vec<Device>,
    /// They have changed, and are to be read again.
    pub(super) is_stale: bool,
    /// What all of them were told in this hour.
    pub(super) hourly: Hourly,
    /// What it wants to hear of rooms.
    pub(super) wishes: Vec<Wish>,
    /// The newest of the messages of which it is looked in a moment whether they were acknowledged.
    pub(super) checked: Option<Sequence>,
    /// What was said in rooms of which it is looked in a moment whether somebody has acknowledged it.
    pub(super) group: Option<Box<GroupWait>>,
    /// The look that is under way is not needed: the user has read everything meanwhile.
    pub(super) has_read: bool,
}

/// It is looked in a moment whether a message was acknowledged.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) at_ms: u64,
    pub(super) account: ActorId,
    pub(super) local: Box<str>,
    pub(super) sequence: Sequence,
}

/// A device is told in a moment of what has come since it was told.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) at_ms: u64,
    pub(super) account: ActorId,
    pub(super) local: Box<str>,
    pub(super) node: Box<str>,
}

/// All that a worker remembers. Empty while there is no push.
#[derive(Debug, Default)]
pub struct Pushes {
    accounts: HashMap<ActorId, Account, FixedState>,
    /// In the order in which they came; some are gone.
    order: VecDeque<ActorId>,
    /// In the order of their times: each is as far ahead as all others.
    pub(super) checks: VecDeque<Check>,
    /// Nearly in the order of their times: pauses are equally long.
    pub(super) due: VecDeque<Due>,
    /// What another program has told devices of accounts that are not remembered yet.
    restored: HashMap<ActorId, Vec<Device>, FixedState>,
}

impl Pushes {
    /// An account that is remembered.
    pub(super) fn get_mut(&mut self, account: ActorId) -> Option<&mut Account> {
        self.accounts.get_mut(&account)
    }

    /// Remembers an account with these devices, and forgets the one that has been remembered for longest when there are
    /// `accounts_max`.
    pub(super) fn insert(
        &mut self,
        (account, local): (ActorId, &str),
        rows: &[PushDevice],
        accounts_max: usize,
    ) -> &mut Account {
        while self.accounts.len() >= accounts_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.accounts.remove(&oldest);
        }
        if self.order.len() >= 2 * accounts_max.max(8) {
            let accounts = &self.accounts;
            self.order.retain(|account| accounts.contains_key(account));
        }
        self.order.push_back(account);
        let old = self.restored.remove(&account).unwrap_or_default();
        let account = self.accounts.entry(account);
        let new = Account { local: local.into(), devices: devices_of(rows, &old), ..Account::default() };
        account.insert_entry(new).into_mut()
    }

    /// What another program has told a device. At most `accounts_max` accounts are taken over.
    pub(super) fn restore(&mut self, account: ActorId, device: Device, accounts_max: usize) -> bool {
        let has_room = self.restored.len() < accounts_max || self.restored.contains_key(&account);
        if has_room {
            self.restored.entry(account).or_default().push(device);
        }
        has_room
    }

    /// The devices of an account have changed; what the others were told stays known.
    pub(super) fn update(&mut self, account: ActorId, rows: &[PushDevice]) {
        let Some(known) = self.accounts.get_mut(&account) else { return };
        let old = std::mem::take(&mut known.devices);
        known.devices = devices_of(rows, &old);
        known.is_stale = false;
    }

    /// The devices of an account have changed: they are read again, and what those that stay were told stays known.
    pub fn changed(&mut self, account: ActorId) {
        if let Some(known) = self.accounts.get_mut(&account) {
            known.is_stale = true;
        }
    }

    /// What an account wants to hear of rooms may have changed.
    pub fn wishes_changed(&mut self, account: ActorId) {
        if let Some(known) = self.accounts.get_mut(&account) {
            known.wishes.clear();
        }
    }

    /// An account is gone.
    pub fn forget(&mut self, account: ActorId) {
        self.accounts.remove(&account);
        self.restored.remove(&account);
    }

    /// Whether a look may wait, and something for a device: as many of each may as accounts are remembered.
    pub(super) fn has_room_to_wait(&self, accounts_max: usize) -> bool {
        self.checks.len() < accounts_max && self.due.len() < accounts_max
    }

    /// Looks and devices that wait for their time.
    pub(super) fn waiting(&self) -> usize {
        self.checks.len() + self.due.len()
    }

    /// Accounts that are remembered.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Accounts whose devices were told something, or are to be.
    pub(super) fn told(&self) -> impl Iterator<Item = (ActorId, &Account, &Device)> {
        let all = self
            .accounts
            .iter()
            .flat_map(|(id, account)| account.devices.iter().map(move |device| (*id, account, device)));
        all.filter(|(_, _, device)| device.count > 0 || device.hourly.sent > 0)
    }
}

/// The devices that rows tell of. What they were told is known of those that are the same as before.
fn devices_of(rows: &[PushDevice], old: &[Device]) -> Vec<Device> {
    let device = |row: &PushDevice| {
        let new = Device::of(row);
        match old.iter().find(|old| *old.node == *row.node && *old.resource == *row.resource) {
            Some(same) => Device { service: new.service, is_voip: new.is_voip, ..same.clone() },
            None => new,
        }
    };
    rows.iter().map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: &str) -> PushDevice {
        PushDevice { node: node.into(), resource: "phone".into(), service: 1, ..PushDevice::default() }
    }

    #[test]
    fn the_account_that_is_remembered_for_longest_is_forgotten_first() {
        let mut pushes = Pushes::default();
        for n in 0..100 {
            pushes.insert((ActorId::user(n), "juliet"), &[row("n")], 3);
            if n % 2 == 0 {
                pushes.forget(ActorId::user(n));
            }
            assert!(pushes.len() <= 3 && pushes.order.len() <= 16, "{}", pushes.order.len());
        }
        assert!(pushes.get_mut(ActorId::user(99)).is_some() && pushes.get_mut(ActorId::user(1)).is_none());
    }

    #[test]
    fn a_change_of_one_device_leaves_the_others() {
        let mut pushes = Pushes::default();
        let id = ActorId::user(1);
        pushes.insert((id, "juliet"), &[row("a"), row("b")], 3).devices[1].count = 5;
        pushes.update(id, &[row("b"), row("c")]);
        let devices = &pushes.get_mut(id).unwrap().devices;
        assert_eq!(devices.iter().map(|device| device.count).collect::<Vec<_>>(), [5, 0]);
        pushes.changed(id);
        assert!(pushes.get_mut(id).unwrap().is_stale && pushes.restored.is_empty());
        let calls = PushDevice { service: 2, topic: "org.x.voip".into(), ..row("b") };
        pushes.update(id, &[calls]);
        let known = pushes.get_mut(id).unwrap();
        assert!(known.devices[0].is_voip && known.devices[0].count == 5 && !known.is_stale);
        let elsewhere = PushDevice { resource: "tablet".into(), ..row("b") };
        pushes.update(id, &[elsewhere]);
        assert_eq!(pushes.get_mut(id).unwrap().devices[0].count, 0);
    }

    #[test]
    fn an_hour_has_so_many_notifications() {
        let mut hourly = Hourly::default();
        for now_ms in [HOUR_MS, HOUR_MS + 1] {
            assert!(hourly.has_room(now_ms, 2));
            hourly.count(now_ms);
        }
        assert!(!hourly.has_room(2 * HOUR_MS - 1, 2) && hourly.has_room(2 * HOUR_MS, 2));
    }
}
