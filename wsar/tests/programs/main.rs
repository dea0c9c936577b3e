//! The real `wsar` beside the real server.

mod alert;
#[path = "../../../tools/tests/programs/built.rs"]
mod built;
mod lines;
mod recording;
mod serve;
mod support;
mod top;
