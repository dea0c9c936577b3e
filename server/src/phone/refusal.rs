//! Why a request is refused, in words and numbers for each of the ways in.

use crate::proto::errors::StanzaCondition;

use super::number::NumberError;
use super::rules::{Limit, Refused};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
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

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Number(_) | Refusal::Device | Refusal::Pin => 422,
            Refusal::Rule(Refused::Limit(Limit::Server | Limit::ServerWrong, _)) => 503,
            Refusal::Rule(Refused::Limit(..) | Refused::NoTries(_)) | Refusal::TooManyCredentials => 429,
            Refusal::Rule(Refused::NotRequested) => 404,
            Refusal::Rule(Refused::Superseded) => 409,
            Refusal::Rule(Refused::Expired) => 410,
            Refusal::Rule(Refused::Wrong(_)) => 403,
            Refusal::GatewayRefused => 502,
            Refusal::GatewayDown | Refusal::Busy => 503,
            Refusal::Credentials => 401,
            Refusal::Failed => 500,
        }
    }

    /// The condition of the stanza error, on a stream.
    pub fn condition(&self) -> StanzaCondition {
        match self {
            Refusal::Number(_) | Refusal::Device | Refusal::Pin => StanzaCondition::NotAcceptable,
            Refusal::Rule(Refused::Limit(..) | Refused::NoTries(_)) | Refusal::Busy => {
                StanzaCondition::ResourceConstraint
            }
            Refusal::Rule(Refused::NotRequested | Refused::Expired) => StanzaCondition::ItemNotFound,
            Refusal::Rule(Refused::Superseded) => StanzaCondition::Conflict,
            Refusal::Rule(Refused::Wrong(_)) | Refusal::Credentials | Refusal::TooManyCredentials => {
                StanzaCondition::Forbidden
            }
            Refusal::GatewayRefused => StanzaCondition::RecipientUnavailable,
            Refusal::GatewayDown => StanzaCondition::RemoteServerTimeout,
            Refusal::Failed => StanzaCondition::InternalServerError,
        }
    }

    /// A name for programs: the end of the problem's type.
    pub fn kind(&self) -> &'static str {
        match self {
            Refusal::Number(NumberError::NotInternational) => "number-not-international",
            Refusal::Number(NumberError::Characters(_) | NumberError::Invalid) => "number-invalid",
            Refusal::Number(NumberError::NotMobile) => "number-not-mobile",
            Refusal::Number(NumberError::Region | NumberError::Denied) => "number-not-allowed",
            Refusal::Device => "device-invalid",
            Refusal::Pin => "pin-malformed",
            Refusal::Rule(Refused::Limit(limit, _)) => match limit {
                Limit::Resend => "too-soon",
                Limit::Locked => "number-locked",
                Limit::Number | Limit::Share | Limit::Reserve => "too-many-pins-for-number",
                Limit::Address => "too-many-pins-for-address",
                Limit::Device => "too-many-pins-for-device",
                Limit::Server => "server-limit",
                Limit::AddressWrong => "too-many-wrong-pins",
                Limit::ServerWrong => "server-limit-wrong-pins",
            },
            Refusal::Rule(Refused::NotRequested) => "not-requested",
            Refusal::Rule(Refused::Superseded) => "superseded",
            Refusal::Rule(Refused::Expired) => "pin-expired",
            Refusal::Rule(Refused::Wrong(_)) => "wrong-pin",
            Refusal::Rule(Refused::NoTries(_)) => "too-many-tries",
            Refusal::GatewayRefused => "message-refused",
            Refusal::GatewayDown => "gateway-down",
            Refusal::Credentials => "wrong-key",
            Refusal::TooManyCredentials => "too-many-wrong-keys",
            Refusal::Busy => "busy",
            Refusal::Failed => "failed",
        }
    }

    /// What is wrong and what to do, for a person.
    pub fn text(&self) -> String {
        match self {
            Refusal::Number(error) => error.to_string(),
            Refusal::Device => {
                "the device must be 8 to 128 letters, digits and -_.: that the app has drawn at random once"
                    .into()
            }
            Refusal::Pin => "a PIN is five digits".into(),
            Refusal::Rule(Refused::Limit(limit, _)) => match limit {
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
            Refusal::Rule(Refused::NotRequested) => {
                "this device has no PIN under way for this number, or it was used already; ask for one".into()
            }
            Refusal::Rule(Refused::Superseded) => {
                "another device has asked for this number since; ask for a new PIN if this one is to have it"
                    .into()
            }
            Refusal::Rule(Refused::Expired) => "the PIN has expired; ask for a new one".into(),
            Refusal::Rule(Refused::Wrong(0)) => "the PIN is wrong, and there are no more tries".into(),
            Refusal::Rule(Refused::Wrong(left)) => format!("the PIN is wrong; tries left: {left}"),
            Refusal::Rule(Refused::NoTries(_)) => {
                "the tries for this PIN are used up; wait, then ask for a new one".into()
            }
            Refusal::GatewayRefused => "no message can be sent to this number".into(),
            Refusal::GatewayDown => "text messages cannot be sent at the moment; try again later".into(),
            Refusal::Credentials => "there is no account with this number and key".into(),
            Refusal::TooManyCredentials => "too many wrong keys; try again later".into(),
            Refusal::Busy => "the server is busy; try again later".into(),
            Refusal::Failed => "the server has failed; try again later".into(),
        }
    }

    /// Seconds after which it may be tried again.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Refusal::Rule(Refused::Limit(_, ms) | Refused::NoTries(ms)) => Some(ms.div_ceil(1000).max(1)),
            Refusal::TooManyCredentials | Refusal::GatewayDown => Some(30),
            Refusal::Busy => Some(5),
            _ => None,
        }
    }

    /// Tries that are left for a PIN.
    pub fn tries_left(&self) -> Option<u8> {
        match self {
            Refusal::Rule(Refused::Wrong(left)) => Some(*left),
            _ => None,
        }
    }
}
