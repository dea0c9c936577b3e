//! What the log promises.

mod damage;
mod files;
mod ids;
mod kill;
mod shared;
mod sim;
