//! Push (XEP-0357): who is told of what, and when.

mod asleep;
mod crash;
mod devices;
mod groups;
mod load;
pub(crate) mod providers;
mod stopped;
mod when;
