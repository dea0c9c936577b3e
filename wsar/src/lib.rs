//! `wsar`: the machine and the Whimbrel server, second by second.
//!
//! ```text
//!   stats file ─┐
//!   /proc, /sys ┼─▶ collect ─▶ sample ─▶ record ─▶ files ─▶ report, replay
//!   sysctl     ─┘                │
//!                                └─▶ delta (two samples) ─▶ table ─▶ print, top, serve
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | [`collect`] | sources of figures, one small module each |
//! | [`sample`] | what all sources said at one time |
//! | [`delta`] | what happened between two samples |
//! | [`table`] | groups of columns as an operator reads them |
//! | [`print`] | lines for terminals, pipes and programs |
//! | [`time`] | times as people write them |
//! | [`record`] | samples on disk |
//! | [`report`] | reading them back as lines |
//! | [`top`] | the dashboard in a terminal |
//! | [`alert`] | rules, and telling somebody |
//! | [`serve`] | the dashboard in a browser, JSON, OpenMetrics |
//! | [`busiest`] | the accounts and addresses that cause most |
//! | [`explain`] | what refusals and queues mean, and what to do |
//! | [`live`] | samples of now, at an interval |
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod alert;
pub mod busiest;
pub mod collect;
pub mod delta;
pub mod explain;
pub mod live;
pub mod print;
pub mod record;
pub mod report;
pub mod sample;
pub mod serve;
pub mod table;
#[expect(unsafe_code, reason = "system calls")]
pub mod time;
pub mod top;
