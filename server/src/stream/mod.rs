//! The stream of a client: headers, features, STARTTLS, SASL and binding, and stream management from then on.

pub mod errors;
pub mod features;
pub mod form;
pub mod machine;
pub mod phone;
pub mod registration;
pub mod sasl;
pub mod sm;
