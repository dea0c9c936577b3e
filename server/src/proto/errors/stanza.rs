//! Stanza errors: they answer one stanza and the stream goes on.

use std::borrow::Cow;

use super::{conditions, push, push_text_element};
use crate::proto::ns;

conditions! {
    /// Why a stanza is refused (RFC 6120 §8.3.3).
    StanzaCondition {
        /// XML that its schema does not allow (§8.3.3.1).
        BadRequest = "bad-request",
        /// Something of that name or address is there already (§8.3.3.2).
        Conflict = "conflict",
        /// The recipient does not have this feature (§8.3.3.3).
        FeatureNotImplemented = "feature-not-implemented",
        /// The sender may not do this (§8.3.3.4).
        Forbidden = "forbidden",
        /// The recipient cannot be reached at this address any more (§8.3.3.5).
        Gone = "gone",
        /// The server failed (§8.3.3.6).
        InternalServerError = "internal-server-error",
        /// What was addressed does not exist (§8.3.3.7).
        ItemNotFound = "item-not-found",
        /// An address that breaks RFC 7622 (§8.3.3.8).
        JidMalformed = "jid-malformed",
        /// A limit or a rule of the recipient or its server (§8.3.3.9).
        NotAcceptable = "not-acceptable",
        /// Nobody may do this (§8.3.3.10).
        NotAllowed = "not-allowed",
        /// Something that needs authentication first (§8.3.3.11).
        NotAuthorized = "not-authorized",
        /// A local rule, for instance about rate or size (§8.3.3.12).
        PolicyViolation = "policy-violation",
        /// The recipient is temporarily away (§8.3.3.13).
        RecipientUnavailable = "recipient-unavailable",
        /// Another address answers, typically for a while (§8.3.3.14).
        Redirect = "redirect",
        /// Something that needs registration first (§8.3.3.15).
        RegistrationRequired = "registration-required",
        /// A remote server that does not exist or cannot be resolved (§8.3.3.16).
        RemoteServerNotFound = "remote-server-not-found",
        /// A remote server that cannot be reached in time (§8.3.3.17).
        RemoteServerTimeout = "remote-server-timeout",
        /// The server has no room (§8.3.3.18).
        ResourceConstraint = "resource-constraint",
        /// Nothing at this address offers the service (§8.3.3.19).
        ServiceUnavailable = "service-unavailable",
        /// Something that needs a subscription first (§8.3.3.20).
        SubscriptionRequired = "subscription-required",
        /// Something that has no condition of its own (§8.3.3.21).
        UndefinedCondition = "undefined-condition",
        /// A request that was understood and came at the wrong time (§8.3.3.22).
        UnexpectedRequest = "unexpected-request",
    }
}

/// What the sender may do about an error (RFC 6120 §8.3.2, the `type` attribute).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum ErrorKind {
    /// Try again after giving credentials.
    Auth,
    /// Do not try again.
    Cancel,
    /// Go on; it was a warning.
    Continue,
    /// Try again after changing what was sent.
    Modify,
    /// Try again later.
    Wait,
}

impl ErrorKind {
    /// The value of the `type` attribute.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }
}

impl StanzaCondition {
    /// The type that the RFC gives the condition. Where it leaves a choice, the one for a server's
    /// usual use of it.
    #[must_use]
    pub const fn default_kind(self) -> ErrorKind {
        match self {
            Self::Forbidden
            | Self::NotAuthorized
            | Self::RegistrationRequired
            | Self::SubscriptionRequired => ErrorKind::Auth,
            Self::Conflict
            | Self::FeatureNotImplemented
            | Self::Gone
            | Self::InternalServerError
            | Self::ItemNotFound
            | Self::NotAllowed
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable
            | Self::UndefinedCondition => ErrorKind::Cancel,
            Self::BadRequest
            | Self::JidMalformed
            | Self::NotAcceptable
            | Self::PolicyViolation
            | Self::Redirect => ErrorKind::Modify,
            Self::RecipientUnavailable
            | Self::RemoteServerTimeout
            | Self::ResourceConstraint
            | Self::UnexpectedRequest => ErrorKind::Wait,
        }
    }
}

/// One stanza error, ready to be written into an answer of type `error`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StanzaError {
    /// The defined condition.
    pub condition: StanzaCondition,
    /// What the sender may do.
    pub kind: ErrorKind,
    /// English text for a human.
    pub text: Option<Cow<'static, str>>,
    /// An application-specific condition: element name and namespace (RFC 6120 §8.3.4).
    pub application: Option<(&'static str, &'static str)>,
    /// The feature that the application-specific condition says is missing (XEP-0060 §16.3).
    pub feature: Option<&'static str>,
    /// What the application-specific condition says beside. Boxed: few errors have it, and all are returned by value.
    pub detail: Option<Box<ApplicationDetail>>,
}

/// What an application-specific condition says beside its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ApplicationDetail {
    /// An attribute.
    Attribute(&'static str, String),
    /// A child with a text.
    Child(&'static str, String),
}

impl StanzaError {
    /// An error with the condition's usual type and nothing more.
    #[must_use]
    pub const fn new(condition: StanzaCondition) -> Self {
        let kind = condition.default_kind();
        Self { condition, kind, text: None, application: None, feature: None, detail: None }
    }

    /// The same with a text for a human.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// The same with another type.
    #[must_use]
    pub const fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same with an application-specific condition.
    #[must_use]
    pub const fn with_application(mut self, name: &'static str, namespace: &'static str) -> Self {
        self.application = Some((name, namespace));
        self
    }

    /// The same with the feature that its application-specific condition says is missing.
    #[must_use]
    pub const fn with_feature(mut self, feature: &'static str) -> Self {
        self.feature = Some(feature);
        self
    }

    /// The same with what its application-specific condition says beside.
    #[must_use]
    pub fn with_detail(mut self, detail: ApplicationDetail) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    /// Appends `<error type='…'>…</error>`.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, &["<error type='", self.kind.name(), "'><", self.condition.name()]);
        push(out, &[" xmlns='", ns::STANZA_ERRORS, "'/>"]);
        if let Some(text) = &self.text {
            push_text_element(out, ns::STANZA_ERRORS, text);
        }
        if let Some((name, namespace)) = self.application {
            push(out, &["<", name, " xmlns='", namespace, "'"]);
            if let Some(feature) = self.feature {
                push(out, &[" feature='", feature, "'"]);
            }
            match self.detail.as_deref() {
                None => push(out, &["/>"]),
                Some(ApplicationDetail::Attribute(attribute, value)) => {
                    push(out, &[" ", attribute, "='", value, "'/>"]);
                }
                Some(ApplicationDetail::Child(child, text)) => {
                    push(out, &["><", child, ">", text, "</", child, "></", name, ">"]);
                }
            }
        }
        push(out, &["</error>"]);
    }
}

impl From<StanzaCondition> for StanzaError {
    fn from(condition: StanzaCondition) -> Self {
        Self::new(condition)
    }
}
