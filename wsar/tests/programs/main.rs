//! The real `wsar` beside the real server.

mod alert;
mod browser;
#[path = "../../../tools/tests/programs/built.rs"]
mod built;
mod events;
mod lines;
mod monitoring;
mod page;
mod proxy;
mod recording;
mod serve;
mod support;
mod top;
