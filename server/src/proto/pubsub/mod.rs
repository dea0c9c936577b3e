//! Publish-subscribe (XEP-0060) without a server: what is asked for, under which configuration, and what is answered.
//!
//! | module | what |
//! | --- | --- |
//! | [`request`] | what a client asks for |
//! | [`authorization`] | subscriptions that wait for an owner |
//! | [`config`] | the form that configures a node, and the conditions of a publication |
//! | [`error`] | errors with their own conditions |
//! | [`event`] | what subscribers are told, and items in answers |

pub mod authorization;
pub mod config;
pub mod error;
pub mod event;
pub mod request;
