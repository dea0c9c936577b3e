//! What the log promises.

mod damage;
mod ends;
mod files;
mod ids;
mod kill;
mod readers;
mod shared;
mod sim;
