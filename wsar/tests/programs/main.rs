//! The real `wsar` beside the real server.

mod alert;
mod lines;
mod recording;
mod support;
mod top;
