//! What registration by phone number is made of, without sockets, clock and chance: numbers, PINs, rules, forms.
//! [`crate::registration`] acts on it.
//!
//! | module | what |
//! | --- | --- |
//! | [`settings`], [`prefix`] | the configuration; beginnings of numbers |
//! | [`number`], [`pasted`] | phone numbers; what comes along when one is pasted |
//! | [`pin`] | PINs and keyed hashes |
//! | [`rules`] | when a PIN is sent and taken, and what slows down guessing |
//! | [`counted`] | quotas, and what is read of the directory |
//! | [`refusal`] | why a request is refused, in words and numbers |
//! | [`form`], [`request`] | forms on streams; requests of other threads, as data |
//! | [`metrics`] | what is counted |

pub mod counted;
pub mod form;
pub mod metrics;
pub mod number;
pub mod pasted;
pub mod pin;
pub mod prefix;
pub mod refusal;
pub mod request;
pub mod rules;
pub mod settings;
