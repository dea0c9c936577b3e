//! Why a request is refused, in words and numbers for each of the ways in.

use crate::proto::errors::StanzaCondition;

use super::number::NumberError;
use super::rules::{Limit, Refused};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhoneRefusal {
    /// The number cannot register.
    Number(NumberError),
    /// The device's name cannot be one.
    Device,
    /// The PIN cannot be one.
    Pin,
    /// The rules say no.
    Rule(Refused),
    /// The gateway refuses to send to this number.
    GatewayRefused,
    /// The gateway cannot be reached.
    GatewayDown,
    /// No account with this number and key.
    Credentials,
    /// Too many wrong keys for this number or from this address.
    TooManyCredentials,
    /// A queue is full, or the server stops.
    Busy,
    /// The server's own fault; its log says more.
    Failed,
}

impl PhoneRefusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            PhoneRefusal::Number(_) | PhoneRefusal::Device | PhoneRefusal::Pin => 422,
            PhoneRefusal::Rule(Refused::Limit(Limit::Server | Limit::ServerWrong, _)) => 503,
            PhoneRefusal::Rule(Refused::Limit(..) | Refused::NoTries(_))
            | PhoneRefusal::TooManyCredentials => 429,
            PhoneRefusal::Rule(Refused::NotRequested) => 404,
            PhoneRefusal::Rule(Refused::Superseded) => 409,
            PhoneRefusal::Rule(Refused::Expired) => 410,
            PhoneRefusal::Rule(Refused::Wrong(_)) => 403,
            PhoneRefusal::GatewayRefused => 502,
            PhoneRefusal::GatewayDown | PhoneRefusal::Busy => 503,
            PhoneRefusal::Credentials => 401,
            PhoneRefusal::Failed => 500,
        }
    }

    /// The condition of the stanza error, on a stream.
    pub fn condition(&self) -> StanzaCondition {
        match self {
            PhoneRefusal::Number(_) | PhoneRefusal::Device | PhoneRefusal::Pin => {
                StanzaCondition::NotAcceptable
            }
            PhoneRefusal::Rule(Refused::Limit(..) | Refused::NoTries(_)) | PhoneRefusal::Busy => {
                StanzaCondition::ResourceConstraint
            }
            PhoneRefusal::Rule(Refused::NotRequested | Refused::Expired) => StanzaCondition::ItemNotFound,
            PhoneRefusal::Rule(Refused::Superseded) => StanzaCondition::Conflict,
            PhoneRefusal::Rule(Refused::Wrong(_))
            | PhoneRefusal::Credentials
            | PhoneRefusal::TooManyCredentials => StanzaCondition::Forbidden,
            PhoneRefusal::GatewayRefused => StanzaCondition::RecipientUnavailable,
            PhoneRefusal::GatewayDown => StanzaCondition::RemoteServerTimeout,
            PhoneRefusal::Failed => StanzaCondition::InternalServerError,
        }
    }

    /// A name for programs: the end of the problem's type.
    pub fn kind(&self) -> &'static str {
        match self {
            PhoneRefusal::Number(NumberError::NotInternational) => "number-not-international",
            PhoneRefusal::Number(NumberError::Characters(_) | NumberError::Invalid) => "number-invalid",
            PhoneRefusal::Number(NumberError::NotMobile) => "number-not-mobile",
            PhoneRefusal::Number(NumberError::Region | NumberError::Denied) => "number-not-allowed",
            PhoneRefusal::Device => "device-invalid",
            PhoneRefusal::Pin => "pin-malformed",
            PhoneRefusal::Rule(Refused::Limit(limit, _)) => match limit {
                Limit::Resend => "too-soon",
                Limit::Locked => "number-locked",
                Limit::Number | Limit::Share | Limit::Reserve => "too-many-pins-for-number",
                Limit::Address => "too-many-pins-for-address",
                Limit::Device => "too-many-pins-for-device",
                Limit::Server => "server-limit",
                Limit::AddressWrong => "too-many-wrong-pins",
                Limit::ServerWrong => "server-limit-wrong-pins",
            },
            PhoneRefusal::Rule(Refused::NotRequested) => "not-requested",
            PhoneRefusal::Rule(Refused::Superseded) => "superseded",
            PhoneRefusal::Rule(Refused::Expired) => "pin-expired",
            PhoneRefusal::Rule(Refused::Wrong(_)) => "wrong-pin",
            PhoneRefusal::Rule(Refused::NoTries(_)) => "too-many-tries",
            PhoneRefusal::GatewayRefused => "message-refused",
            PhoneRefusal::GatewayDown => "gateway-down",
            PhoneRefusal::Credentials => "wrong-key",
            PhoneRefusal::TooManyCredentials => "too-many-wrong-keys",
            PhoneRefusal::Busy => "busy",
            PhoneRefusal::Failed => "failed",
        }
    }

    /// What is wrong and what to do, for a person.
    pub fn text(&self) -> String {
        match self {
            PhoneRefusal::Number(error) => error.to_string(),
            PhoneRefusal::Device => {
                "the device must be 8 to 128 letters, digits and -_.: that the app has drawn at random once"
                    .into()
            }
            PhoneRefusal::Pin => "a PIN is five digits".into(),
            PhoneRefusal::Rule(Refused::Limit(limit, _)) => match limit {
                Limit::Resend => "a PIN was sent to this number just now; wait for it",
                Limit::Locked => "there were too many wrong PINs for this number; try again later",
                Limit::Number => "too many PINs were sent to this number; try again later",
                Limit::Share | Limit::Reserve => {
                    "too many PINs for this number were asked for from here; try again later"
                }
                Limit::Address => "too many PINs were asked for from this address; try again later",
                Limit::Device => "this device has asked for too many PINs; try again later",
                Limit::Server => "the server sends no more PINs for now; try again later",
                Limit::AddressWrong => "too many wrong PINs came from this address; try again later",
                Limit::ServerWrong => "the server takes no more PINs for now; try again later",
            }
            .into(),
            PhoneRefusal::Rule(Refused::NotRequested) => {
                "this device has no PIN under way for this number, or it was used already; ask for one".into()
            }
            PhoneRefusal::Rule(Refused::Superseded) => {
                "another device has asked for this number since; ask for a new PIN if this one is to have it"
                    .into()
            }
            PhoneRefusal::Rule(Refused::Expired) => "the PIN has expired; ask for a new one".into(),
            PhoneRefusal::Rule(Refused::Wrong(0)) => "the PIN is wrong, and there are no more tries".into(),
            PhoneRefusal::Rule(Refused::Wrong(left)) => format!("the PIN is wrong; tries left: {left}"),
            PhoneRefusal::Rule(Refused::NoTries(_)) => {
                "the tries for this PIN are used up; wait, then ask for a new one".into()
            }
            PhoneRefusal::GatewayRefused => "no message can be sent to this number".into(),
            PhoneRefusal::GatewayDown => "text messages cannot be sent at the moment; try again later".into(),
            PhoneRefusal::Credentials => "there is no account with this number and key".into(),
            PhoneRefusal::TooManyCredentials => "too many wrong keys; try again later".into(),
            PhoneRefusal::Busy => "the server is busy; try again later".into(),
            PhoneRefusal::Failed => "the server has failed; try again later".into(),
        }
    }

    /// Seconds after which it may be tried again.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            PhoneRefusal::Rule(Refused::Limit(_, ms) | Refused::NoTries(ms)) => {
                Some(ms.div_ceil(1000).max(1))
            }
            PhoneRefusal::TooManyCredentials | PhoneRefusal::GatewayDown => Some(30),
            PhoneRefusal::Busy => Some(5),
            _ => None,
        }
    }

    /// Tries that are left for a PIN.
    pub fn tries_left(&self) -> Option<u8> {
        match self {
            PhoneRefusal::Rule(Refused::Wrong(left)) => Some(*left),
            _ => None,
        }
    }
}
