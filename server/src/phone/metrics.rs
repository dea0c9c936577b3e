//! The metrics of registration. Each is written by one thread: those of HTTP by that of the HTTP server, the gauges of the
//! queue by the stats thread, all others by that of registration.

use super::number::NumberError;
use super::refusal::PhoneRefusal;
use super::rules::{Limit, Refused};

whimbrel_stats::metrics! {
    /// The metrics of registration by phone number.
    RegistrationMetrics {
        http_requests "registration.http.requests" Counter "requests" "Requests to the HTTP API.";
        http_connections "registration.http.connections" Gauge "connections" "Open connections to the HTTP API.";
        http_refused "registration.http.refused" Counter "requests" "Connections and requests refused by the limits of the HTTP API.";
        http_displaced "registration.http.displaced" Counter "connections" "Connections that waited for their client and were closed to make room for another.";
        requests "registration.requests" Counter "requests" "PINs asked for, over HTTP and in-band.";
        sent "registration.sent" Counter "messages" "Text messages that the gateway has taken.";
        send_refused "registration.send_refused" Counter "messages" "Text messages that the gateway refused.";
        send_failed "registration.send_failed" Counter "messages" "Text messages that could not be sent in time.";
        gateway_latency "registration.gateway_latency" Histogram "microseconds" "Length of the attempt that decided what came of a message.";
        verifications "registration.verifications" Counter "requests" "PINs told, over HTTP and in-band.";
        verified "registration.verified" Counter "devices" "Devices that have got a key.";
        replaced "registration.replaced" Counter "devices" "Of them, those that took the place of another one.";
        deleted "registration.deleted" Counter "accounts" "Accounts deleted over the HTTP API.";
        refused_number "registration.refused.number" Counter "requests" "Refused: no number that can register.";
        refused_resend "registration.refused.resend" Counter "requests" "Refused: registration.resend_seconds.";
        refused_locked "registration.refused.locked" Counter "requests" "Refused: the number is locked after wrong PINs.";
        refused_per_number "registration.refused.pins_per_number" Counter "requests" "Refused: registration.pins_per_number_per_day.";
        refused_share "registration.refused.pins_per_number_share" Counter "requests" "Refused: registration.pins_per_number_share.";
        refused_reserve "registration.refused.pins_per_number_reserve" Counter "requests" "Refused: registration.pins_per_number_reserve.";
        refused_per_address "registration.refused.pins_per_address" Counter "requests" "Refused: registration.pins_per_address_per_hour.";
        refused_per_device "registration.refused.pins_per_device" Counter "requests" "Refused: registration.pins_per_device_per_hour.";
        refused_server "registration.refused.pins" Counter "requests" "Refused: registration.pins_per_hour.";
        refused_address_wrong "registration.refused.wrong_pins_per_address" Counter "requests" "Refused: registration.wrong_pins_per_address_per_hour.";
        refused_server_wrong "registration.refused.wrong_pins" Counter "requests" "Refused: registration.wrong_pins_per_day.";
        refused_not_requested "registration.refused.not_requested" Counter "requests" "Refused: the device has no PIN under way for the number, or another one has asked since.";
        refused_expired "registration.refused.expired" Counter "requests" "Refused: the PIN has expired.";
        refused_wrong "registration.refused.wrong" Counter "requests" "Refused: the PIN is wrong.";
        refused_tries "registration.refused.tries" Counter "requests" "Refused: the tries of the PIN are used up.";
        refused_credentials "registration.refused.credentials" Counter "requests" "Refused: a wrong key, or too many of them.";
        refused_busy "registration.refused.busy" Counter "requests" "Refused: the queue of text messages or of the directory is full, or the server stops.";
        failed "registration.failed" Counter "requests" "Requests that failed because of the server itself.";
        sms_length "queue.sms.length" Gauge "messages" "Text messages that wait to be sent.";
        sms_high "queue.sms.high_water" HighWater "messages" "Most text messages that ever waited to be sent.";
        sms_limit "queue.sms.limit" HighWater "messages" "Room for text messages (registration.gateway_queue).";
    }
}

impl RegistrationMetrics {
    /// Counts a refusal by its reason.
    pub fn count(&self, refusal: &PhoneRefusal) {
        let cell = match refusal {
            PhoneRefusal::Number(
                NumberError::NotInternational
                | NumberError::Characters(_)
                | NumberError::Invalid
                | NumberError::NotMobile
                | NumberError::Region
                | NumberError::Denied,
            ) => &self.refused_number,
            PhoneRefusal::Device | PhoneRefusal::Pin => return,
            PhoneRefusal::Rule(Refused::Limit(limit, _)) => match limit {
                Limit::Resend => &self.refused_resend,
                Limit::Locked => &self.refused_locked,
                Limit::Number => &self.refused_per_number,
                Limit::Share => &self.refused_share,
                Limit::Reserve => &self.refused_reserve,
                Limit::Address => &self.refused_per_address,
                Limit::Device => &self.refused_per_device,
                Limit::Server => &self.refused_server,
                Limit::AddressWrong => &self.refused_address_wrong,
                Limit::ServerWrong => &self.refused_server_wrong,
            },
            PhoneRefusal::Rule(Refused::NotRequested | Refused::Superseded) => &self.refused_not_requested,
            PhoneRefusal::Rule(Refused::Expired) => &self.refused_expired,
            PhoneRefusal::Rule(Refused::Wrong(_)) => &self.refused_wrong,
            PhoneRefusal::Rule(Refused::NoTries(_)) => &self.refused_tries,
            PhoneRefusal::Credentials | PhoneRefusal::TooManyCredentials => &self.refused_credentials,
            PhoneRefusal::Busy => &self.refused_busy,
            PhoneRefusal::Failed => &self.failed,
            // Counted with what came of the message.
            PhoneRefusal::GatewayRefused | PhoneRefusal::GatewayDown => return,
        };
        cell.add(1);
    }
}
