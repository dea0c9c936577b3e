//! What the log promises.

mod damage;
mod files;
mod sim;
