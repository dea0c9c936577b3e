//! Users at home on a worker: their resources, presence, roster, and the rules by which stanzas reach them.

pub mod blocking;
pub mod carbons;
pub mod home;
pub mod inactive;
pub mod presence;
pub mod roster;
pub mod routing;
pub mod subscription;
pub mod tables;
