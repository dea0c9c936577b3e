//! Rules that tell when a figure has been out of bounds for some time, and when it is back.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`rules`] | rules and actions as TOML |
//! | [`builtin`] | the rules that need no file |
//! | [`engine`] | which rules are in force |
//! | [`check`] | whether rules watch anything that there is |
//! | [`action`] | telling somebody |

pub mod action;
pub mod builtin;
pub mod check;
pub mod engine;
pub mod rules;

pub use check::{Known, Silent};
pub use engine::{Change, Engine};
pub use rules::{Rule, Rules};
