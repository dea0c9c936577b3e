//! What devices were told, as it goes to another program. The devices themselves lie in the directory.

use std::collections::HashSet;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::log::Sequence;

use super::known::{Check, Device, Due, Hourly, Pushes};
use crate::env::Env;
use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// What was told, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushRecord<'a> {
    /// A device.
    Device(DeviceRecord<'a>),
    /// It is looked in a moment whether a message was acknowledged.
    Check {
        /// Number of the account.
        account: u64,
        /// Its localpart.
        local: &'a str,
        /// The message.
        sequence: u64,
        /// When.
        at_ms: u64,
    },
}

impl<'a> PushRecord<'a> {
    /// The localpart of its account.
    pub fn local(&self) -> &'a str {
        match self {
            PushRecord::Device(device) => device.local,
            PushRecord::Check { local, .. } => local,
        }
    }

    /// The time in it, of the server's clock.
    pub fn at_ms_mut(&mut self) -> &mut u64 {
        match self {
            PushRecord::Device(device) => &mut device.pause_until_ms,
            PushRecord::Check { at_ms, .. } => at_ms,
        }
    }
}

/// What a device was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord<'a> {
    /// Number of the account.
    pub account: u64,
    /// Its localpart.
    pub local: &'a str,
    /// Names the device among those of its account.
    pub node: &'a str,
    /// The resource that has enabled it.
    pub resource: &'a str,
    /// It is told of calls alone.
    pub is_voip: bool,
    /// Messages that have come for it since it was last here.
    pub count: u32,
    /// Of them, those of which it was told.
    pub told: u32,
    /// The newest of them.
    pub newest: u64,
    /// It is not told again before.
    pub pause_until_ms: u64,
    /// The hour in which it was told last, since 1970.
    pub hour: u32,
    /// How often it was told in that hour.
    pub sent: u32,
}

/// Owns what devices were told. Without it they are told once more.
pub struct ToldDevices;

impl Owner for ToldDevices {
    const KIND: Kind = Kind::droppable("push");
    type Record<'a> = PushRecord<'a>;

    fn write(record: &PushRecord<'_>, to: &mut Encoder) {
        match record {
            PushRecord::Device(device) => {
                to.byte(0);
                to.number(device.account);
                [device.local, device.node, device.resource].iter().for_each(|text| to.text(text));
                to.byte(device.is_voip.into());
                to.number(device.count);
                to.number(device.told);
                to.number(device.newest);
                to.number(device.pause_until_ms);
                to.number(device.hour);
                to.number(device.sent);
            }
            PushRecord::Check { account, local, sequence, at_ms } => {
                to.byte(1);
                to.number(*account);
                to.text(local);
                to.number(*sequence);
                to.number(*at_ms);
            }
        }
    }

    fn read<'a>(from: &mut Decoder<'a>) -> Result<PushRecord<'a>, StateError> {
        Ok(match from.byte()? {
            0 => PushRecord::Device(DeviceRecord {
                account: from.number()?,
                local: from.text()?,
                node: from.text()?,
                resource: from.text()?,
                is_voip: from.byte()? != 0,
                count: from.number()?,
                told: from.number()?,
                newest: from.number()?,
                pause_until_ms: from.number()?,
                hour: from.number()?,
                sent: from.number()?,
            }),
            1 => PushRecord::Check {
                account: from.number()?,
                local: from.text()?,
                sequence: from.number()?,
                at_ms: from.number()?,
            },
            _ => return Err(StateError::Damaged("something of push that there is not")),
        })
    }

    fn samples() -> Vec<PushRecord<'static>> {
        let device = DeviceRecord {
            account: 17,
            local: "juliet",
            node: "node",
            resource: "balcony",
            is_voip: false,
            count: 3,
            told: 2,
            newest: 1 << 40,
            pause_until_ms: 5000,
            hour: 480_000,
            sent: 9,
        };
        let check = PushRecord::Check { account: 17, local: "juliet", sequence: 1 << 40, at_ms: 7000 };
        let voip = DeviceRecord { is_voip: true, node: "calls", ..device.clone() };
        vec![PushRecord::Device(device), PushRecord::Device(voip), check]
    }
}

impl Pushes {
    /// What goes to another program. `unsent`: accounts and nodes of devices that were to be told something when the senders
    /// came to rest.
    pub fn save<'a>(&'a self, unsent: &HashSet<(&str, &str)>) -> Vec<PushRecord<'a>> {
        let device = |(account, of, device): (ActorId, &'a super::known::Account, &'a Device)| {
            let told = match unsent.contains(&(&*of.local, &*device.node)) {
                true => device.told.saturating_sub(1).min(device.count.saturating_sub(1)),
                false => device.told,
            };
            PushRecord::Device(DeviceRecord {
                account: account.raw(),
                local: &of.local,
                node: &device.node,
                resource: &device.resource,
                is_voip: device.is_voip,
                count: device.count,
                told,
                newest: device.newest.0,
                pause_until_ms: if told == device.told { device.pause_until_ms } else { 0 },
                hour: device.hourly.hour,
                sent: device.hourly.sent,
            })
        };
        let check = |check: &'a Check| PushRecord::Check {
            account: check.account.raw(),
            local: &check.local,
            sequence: check.sequence.0,
            at_ms: check.at_ms,
        };
        self.told().map(device).chain(self.checks.iter().map(check)).collect()
    }

    /// Takes over what another program has told a device.
    pub fn take_over(&mut self, env: &Env, record: &PushRecord<'_>) {
        let accounts_max = env.config.push.accounts_remembered as usize;
        match record {
            PushRecord::Device(told) => {
                let account = ActorId::from_raw(told.account);
                let is_due = told.count > told.told && !told.is_voip;
                let device = Device {
                    node: told.node.into(),
                    // The row of the directory says.
                    service: 0,
                    resource: told.resource.into(),
                    is_voip: told.is_voip,
                    count: told.count,
                    told: told.told,
                    newest: Sequence(told.newest),
                    pause_until_ms: told.pause_until_ms,
                    is_due,
                    hourly: Hourly { hour: told.hour, sent: told.sent },
                };
                if self.restore(account, device, accounts_max) && is_due {
                    let (local, node) = (told.local.into(), told.node.into());
                    self.due.push_back(Due { at_ms: told.pause_until_ms, account, local, node });
                }
            }
            &PushRecord::Check { account, local, sequence, at_ms } => {
                let (account, sequence) = (ActorId::from_raw(account), Sequence(sequence));
                if self.checks.len() < accounts_max {
                    self.checks.push_back(Check { at_ms, account, local: local.into(), sequence });
                }
            }
        }
    }
}
