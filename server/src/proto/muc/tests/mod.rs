//! Tables of XEP-0045 against what is made of them.

mod config;
mod rules;
