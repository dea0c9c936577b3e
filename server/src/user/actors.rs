//! A worker as the home of its users: their tables, and what acting on them needs to know.
//!
//! Everything of one user happens on one worker, so nothing here is locked. A function takes what it changes of
//! [`Actors`], the [`Env`] to look at, and the [`Effects`] to append to.

use foldhash::fast::SeedableRandomState;

use crate::occupancy::Rooms;
use crate::runtime::driver::ConnId;
use crate::user::archive::Archives;
use crate::user::commits::CommitTracker;
use crate::user::inputs::Inputs;
use crate::user::interests::Interests;
use crate::user::lifecycle::Lifecycle;
use crate::user::orders::Orders;
use crate::user::presence::again::Refreshes;
use crate::user::presence::contacts::Contacts;
use crate::user::push::known::Pushes;
use crate::user::recall::Recalls;
use crate::user::seats::Seats;
use crate::user::subscription::under_way::PendingSubscriptions;
use crate::user::tables::Users;
use crate::user::waiting::WaitingForRoom;
use crate::user::writes::Writes;

/// What handling an event leads to, for the actors of a worker.
pub type Effects = crate::effects::Effects<Actors>;

/// One worker's actors and what belongs to them.
pub struct Actors {
    /// The users.
    pub users: Users,
    /// Contacts of users who send presence.
    pub contacts: Contacts,
    /// Of which nodes clients want to hear.
    pub interests: Interests,
    /// Subscriptions under way to the directory, and what waits behind them.
    pub under_way: PendingSubscriptions,
    /// What clients of this worker have under way to the directory.
    pub writes: Writes,
    /// What has been read of connections and not been handled.
    pub inputs: Inputs,
    /// The log and who waits for it.
    pub commits: CommitTracker,
    /// What services do at the moments of a user's life. Nothing, until the worker says which services there are.
    pub lifecycle: Lifecycle,
    /// Work that goes on when its clients have room for more.
    pub waiting_for_room: WaitingForRoom,
    /// Orders of operators for rooms that write or read.
    pub orders: Orders,
    /// What is left to show to clients that have missed presence.
    pub refreshes: Refreshes,
    /// What is known of clients' seats in rooms.
    pub seats: Seats,
    /// What sessions that go on have again of what was said in rooms.
    pub recalls: Recalls,
    /// The rooms of which this worker is the home, as far as they are in memory.
    pub rooms: Rooms,
    /// What users' devices were told by push.
    pub pushes: Pushes,
    /// What is known of the users' archives beside the log.
    pub archives: Archives,
    /// A buffer for what goes into the log, kept between messages.
    pub payload: Vec<u8>,
}

impl Actors {
    /// Nobody is there yet.
    pub fn new(hasher: SeedableRandomState, commits: CommitTracker) -> Actors {
        Actors {
            users: Users::new(hasher.clone()),
            contacts: Contacts::default(),
            interests: Interests::default(),
            under_way: PendingSubscriptions::default(),
            writes: Writes::default(),
            inputs: Inputs::default(),
            commits,
            waiting_for_room: WaitingForRoom::default(),
            orders: Orders::default(),
            refreshes: Refreshes::default(),
            seats: Seats::default(),
            recalls: Recalls::default(),
            rooms: Rooms::new(hasher),
            pushes: Pushes::default(),
            archives: Archives::default(),
            lifecycle: Lifecycle::default(),
            payload: Vec::new(),
        }
    }

    /// The last part of a presence has reached its recipients on this worker.
    pub fn has_spread(&mut self, fx: &mut Effects, from: &str, conn: ConnId) {
        fx.spreading.end(from);
        self.writes.end(conn);
    }
}
