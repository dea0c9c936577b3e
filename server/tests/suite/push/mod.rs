//! Push (XEP-0357): who is told of what, and when.

mod devices;
pub(crate) mod providers;
mod when;
