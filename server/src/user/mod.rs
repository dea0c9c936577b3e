//! Users at home on a worker: their resources, presence, roster, and the rules by which stanzas reach them.

pub mod acks;
pub mod actors;
pub mod archive;
pub mod blocking;
pub mod carbons;
pub mod commits;
pub mod delivery;
pub mod flow;
pub mod inactive;
pub mod inbound;
pub mod inputs;
pub mod jobs;
pub mod lifecycle;
pub mod offline;
pub mod presence;
pub mod quota;
pub mod record;
pub mod room;
pub mod roster;
pub mod saved;
pub mod share;
pub mod stranger;
pub mod subscription;
pub mod tables;
pub mod waiting;
pub mod writes;
