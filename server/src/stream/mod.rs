//! The stream of a client: headers, features, STARTTLS, SASL and binding, and stream management from then on.

pub mod features;
pub mod form;
pub mod machine;
pub mod phone;
pub mod registration;
