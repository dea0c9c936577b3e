//! Push (XEP-0357): who is told of what, and when.

mod asleep;
mod devices;
mod groups;
pub(crate) mod providers;
mod when;
