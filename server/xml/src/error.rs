//! What can be wrong with the bytes of a stream, and which stream error answers it.

use std::fmt;

/// The stream error conditions of RFC 6120 §4.9.3 that framing raises.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Condition {
    /// §4.9.3.1: well-formed, but nothing an XMPP server can process.
    BadFormat,
    /// §4.9.3.2: a namespace prefix that is not supported there.
    BadNamespacePrefix,
    /// §4.9.3.10: the stream or content namespace is not the one of XMPP.
    InvalidNamespace,
    /// §4.9.3.13: not well-formed or not namespace-well-formed.
    NotWellFormed,
    /// §4.9.3.14: a limit of this server.
    PolicyViolation,
    /// §4.9.3.18: comments, processing instructions, DTDs, entities.
    RestrictedXml,
    /// §4.9.3.22: an encoding other than UTF-8.
    UnsupportedEncoding,
}

impl Condition {
    /// The name of the element that carries the condition on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadFormat => "bad-format",
            Self::BadNamespacePrefix => "bad-namespace-prefix",
            Self::InvalidNamespace => "invalid-namespace",
            Self::NotWellFormed => "not-well-formed",
            Self::PolicyViolation => "policy-violation",
            Self::RestrictedXml => "restricted-xml",
            Self::UnsupportedEncoding => "unsupported-encoding",
        }
    }
}

/// What exactly was wrong.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A byte that may not stand here.
    #[error("unexpected byte 0x{0:02x}")]
    UnexpectedByte(u8),
    /// A control character or noncharacter that XML forbids.
    #[error("character not allowed in XML")]
    ForbiddenCharacter,
    /// Bytes that are not UTF-8.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// A name that breaks the XML rules for names.
    #[error("malformed name")]
    BadName,
    /// An end tag without its start tag.
    #[error("end tag does not match the start tag")]
    MismatchedEndTag,
    /// Two attributes of one element with the same (expanded) name.
    #[error("attribute given twice")]
    DuplicateAttribute,
    /// `]]>` in text.
    #[error("']]>' in text")]
    CdataEndInText,
    /// A malformed character reference, or one to a character that XML forbids.
    #[error("malformed character reference")]
    BadReference,
    /// A prefix nobody declared.
    #[error("undeclared namespace prefix")]
    UndeclaredPrefix,
    /// A declaration that Namespaces in XML forbids.
    #[error("forbidden namespace declaration")]
    BadDeclaration,
    /// A malformed `<?xml …?>`.
    #[error("malformed XML declaration")]
    BadXmlDeclaration,
    /// An end tag where the stream has not begun, or not the one of the stream.
    #[error("unexpected end tag")]
    UnexpectedEndTag,
    /// The end came inside the element ([`super::Element::parse`]).
    #[error("incomplete element")]
    Truncated,
    /// An entity other than the five predefined ones.
    #[error("entity reference")]
    Entity,
    /// A comment, DTD or processing instruction.
    #[error("comment, document type or processing instruction")]
    Restricted,
    /// Text between stanzas.
    #[error("text between stanzas")]
    TextBetweenStanzas,
    /// The root element is not `<stream:stream …>` left open.
    #[error("not a stream header")]
    NotAStream,
    /// The root element is not in the namespace of streams.
    #[error("wrong stream namespace")]
    StreamNamespace,
    /// The default namespace of the stream is not `jabber:client`.
    #[error("default namespace of the stream is not jabber:client")]
    ContentNamespace,
    /// Another prefix than `stream` for the namespace of streams.
    #[error("prefix of the stream namespace is not 'stream'")]
    StreamPrefix,
    /// A stanza in `jabber:client` written with a prefix.
    #[error("stanza with a namespace prefix")]
    StanzaPrefix,
    /// An encoding other than UTF-8.
    #[error("encoding other than UTF-8")]
    Encoding,
    /// The frame is longer than the limit.
    #[error("stanza or header too long")]
    TooLong,
    /// Elements nested deeper than the limit.
    #[error("elements nested too deep")]
    TooDeep,
    /// More elements and attributes than a tree may have ([`super::Element::parse`]).
    #[error("too many elements and attributes")]
    TooManyNodes,
    /// More attributes on one element than the limit.
    #[error("too many attributes")]
    TooManyAttributes,
    /// More prefixes declared in one place than the limit.
    #[error("too many namespace prefixes")]
    TooManyPrefixes,
    /// The name of a namespace is longer than the limit.
    #[error("namespace name too long")]
    NamespaceTooLong,
    /// More prefixes declared on the stream header than the limit.
    #[error("too many namespace declarations on the stream header")]
    TooManyDeclarations,
}

/// Bytes that end the stream: what was wrong, and where.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct FramingError {
    /// What was wrong.
    pub problem: Problem,
    /// Bytes from the beginning of the stanza or header to the problem (near it, where it spans several bytes).
    pub offset: usize,
}

impl FramingError {
    pub(super) const fn new(problem: Problem, offset: usize) -> Self {
        Self { problem, offset }
    }

    /// The stream error that answers it.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        use Problem as P;
        match self.problem {
            P::UnexpectedByte(_)
            | P::ForbiddenCharacter
            | P::InvalidUtf8
            | P::BadName
            | P::MismatchedEndTag
            | P::DuplicateAttribute
            | P::CdataEndInText
            | P::BadReference
            | P::UndeclaredPrefix
            | P::BadDeclaration
            | P::BadXmlDeclaration
            | P::UnexpectedEndTag
            | P::Truncated => Condition::NotWellFormed,
            P::Entity | P::Restricted => Condition::RestrictedXml,
            P::TextBetweenStanzas | P::NotAStream => Condition::BadFormat,
            P::StreamNamespace | P::ContentNamespace => Condition::InvalidNamespace,
            P::StreamPrefix | P::StanzaPrefix => Condition::BadNamespacePrefix,
            P::Encoding => Condition::UnsupportedEncoding,
            P::TooLong
            | P::TooDeep
            | P::TooManyAttributes
            | P::TooManyNodes
            | P::TooManyDeclarations
            | P::TooManyPrefixes
            | P::NamespaceTooLong => Condition::PolicyViolation,
        }
    }
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} ({})", self.problem, self.offset, self.condition().name())
    }
}

impl std::error::Error for FramingError {}
