//! The stream of a client until it has bound a resource: headers, features, STARTTLS, SASL, binding.

pub mod errors;
pub mod features;
pub mod machine;
pub mod registration;
pub mod sasl;
