//! Why a key cannot be used.

/// Why a key, or what came with it, cannot be used. The texts are for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A service account of Google's.
    #[error("this is no service account key of Google's: {0}")]
    ServiceAccount(String),
    /// A field of a service account.
    #[error("the service account key has no usable {0}")]
    Field(&'static str),
    /// A key for ES256.
    #[error(
        "this is no P-256 key in PKCS#8 (a text that begins with -----BEGIN PRIVATE KEY-----): {0}; `openssl pkcs8 \
         -topk8 -nocrypt` turns other forms into it"
    )]
    P256(String),
    /// The id of a key or of a team.
    #[error("{0} has ten letters and digits, not this: {1:?}")]
    Id(&'static str, String),
    /// The keys of a browser's subscription.
    #[error("the subscription's {0}")]
    Subscription(&'static str),
    /// Certificates of authorities.
    #[error("certificates of authorities: {0}")]
    Certificate(String),
    /// An address of a provider.
    #[error("{0}")]
    Address(String),
}
