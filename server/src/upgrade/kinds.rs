//! The kinds of blocks that a state has. A module that has something to carry over an upgrade implements
//! [`Owner`](crate::saved::Owner) and adds its row here; nothing else of the frame changes.

use crate::occupancy::saved::Occupancy;
use crate::proto::sasl::throttle::Guesses;
use crate::quota::Registrations;
use crate::running::listeners::Listeners;
use crate::running::socket::Control;
use crate::saved::Row;
use crate::shared::{DirectoryLock, EarlierStreams};
use crate::takeover::clock::ServerClock;
use crate::takeover::kept::{Ended, LogEnds};
use crate::takeover::program::Program;
use crate::user::commits::Logs;
use crate::user::interests::saved::Capabilities;
use crate::user::push::saved::ToldDevices;
use crate::web::bosh::saved::BoshSessions;
use crate::worker::upgrade::Sessions;

/// All kinds that this program reads and writes.
pub const KINDS: &[Row] = &[
    Row::of::<Program>(),
    Row::of::<ServerClock>(),
    Row::of::<Control>(),
    Row::of::<Listeners>(),
    Row::of::<DirectoryLock>(),
    Row::of::<Logs>(),
    Row::of::<EarlierStreams>(),
    Row::of::<Guesses>(),
    Row::of::<Registrations>(),
    Row::of::<Capabilities>(),
    Row::of::<Occupancy>(),
    Row::of::<ToldDevices>(),
    Row::of::<Sessions>(),
    Row::of::<Ended>(),
    Row::of::<LogEnds>(),
    Row::of::<BoshSessions>(),
];
