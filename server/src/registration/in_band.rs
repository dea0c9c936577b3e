//! Answers to forms that clients send on their streams, where `registration.in_band` is on. The forms are read by
//! [`crate::stream::phone`].

use crate::stream::phone;

use super::service::RegistrationService;
use crate::phone::form::{self, Fields};
use crate::phone::request::InBand;

/// Takes the step that a form asks for, and makes the answer to its iq.
pub async fn answer(service: &RegistrationService, request: &InBand) -> Vec<u8> {
    let (domain, id) = (&service.shared().domain, &request.id);
    let Fields { phone, device, pin } = &request.fields;
    let query = match pin {
        None => service.request(phone, device, request.peer).await.map(|_| form::pin_wanted()),
        Some(pin) => {
            let registered = service.verify(phone, pin, device, request.peer).await;
            registered.map(|done| form::registered(&done.jid, &done.key))
        }
    };
    match query {
        Ok(query) => phone::result(domain, id, &query),
        Err(refusal) => phone::refused(domain, id, &refusal),
    }
}
