//! The real programs, `whimbreld` and `whimbrelctl`, run against each other and against bad input.

mod archive;
mod backup;
mod built;
mod check;
mod crowds;
mod faults;
mod import;
mod log;
mod migrate;
mod nodes;
mod notify;
mod protocol;
mod registration;
mod rooms;
mod running;
mod support;
mod upgrade;
mod users;
mod web;
