//! The server's certificate: read from PEM files, or self-signed and kept in the data directory.

mod self_signed;

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::InconsistentKeys;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::{CertificateError, GROUP_MAY_READ};
use super::x509;
use crate::Settings;

/// Bytes of a PEM file at most; whatever is longer is something else.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// A certificate whose use ends within this many seconds is warned about: 14 days.
const EXPIRES_SOON_SECONDS: i64 = 14 * 24 * 3600;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The file it came from.
    pub path: PathBuf,
    /// The DNS names and addresses it is for; its common name when it has none.
    pub names: Vec<String>,
    /// Begin of its validity, in seconds of Unix time.
    pub not_before: i64,
    /// End of its validity, in seconds of Unix time.
    pub not_after: i64,
    /// Whether it vouches for itself: clients will ask their users whether to trust it.
    pub self_signed: bool,
    /// Certificates in the file.
    pub chain: usize,
}

impl CertificateFacts {
    /// What is wrong with it for this domain at this time (seconds of Unix time), one sentence each.
    pub fn complaints(&self, domain: &str, now: i64) -> Vec<String> {
        let path = self.path.display();
        let mut complaints = Vec::new();
        if now > self.not_after {
            complaints.push(format!("{path}: the certificate has expired; clients will refuse it, renew it"));
        } else if now + EXPIRES_SOON_SECONDS > self.not_after {
            let days = (self.not_after - now) / (24 * 3600);
            complaints.push(format!("{path}: the certificate expires in {days} days; renew it"));
        }
        if now < self.not_before {
            complaints.push(format!("{path}: the certificate is not valid yet; check the clock"));
        }
        if !self.covers(domain) {
            complaints.push(format!(
                "{path}: the certificate is for {}, not for {domain}; clients will refuse it",
                self.names.join(", ")
            ));
        }
        complaints
    }

    /// Whether one of its names is this domain (RFC 6125 §6.4: a `*` stands for the first label only).
    pub fn covers(&self, domain: &str) -> bool {
        let domain = bare(domain);
        let ascii = ascii_domain(domain).unwrap_or_else(|| domain.to_owned());
        let parent = ascii.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(rest) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(rest)),
            None => name.eq_ignore_ascii_case(&ascii),
        })
    }

    pub(super) fn warn(&self, domain: &str) {
        for complaint in self.complaints(domain, now()) {
            tracing::warn!("{complaint}");
        }
    }
}

/// Facts about the certificate that the settings name, or about the self-signed one. None if that has not
/// been made yet. Makes nothing.
///
/// # Errors
/// Which file cannot be used and why.
pub fn facts(settings: &Settings) -> Result<Option<CertificateFacts>, CertificateError> {
    let certificate = match files(settings) {
        Some((certificate, key)) => load(certificate, key, settings.key_group_readable)?,
        None => {
            let (certificate, key) = self_signed::files(settings);
            if !certificate.exists() {
                return Ok(None);
            }
            load(&certificate, &key, false)?
        }
    };
    Ok(Some(certificate.facts))
}

/// A certificate that can be used.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) certified: CertifiedKey,
    pub(super) facts: CertificateFacts,
}

/// The certificate that the settings ask for.
pub(super) fn load_or_make(settings: &Settings) -> Result<Certificate, CertificateError> {
    match files(settings) {
        Some((certificate, key)) => load(certificate, key, settings.key_group_readable),
        None => self_signed::load_or_make(settings),
    }
}

fn files(settings: &Settings) -> Option<(&Path, &Path)> {
    (!settings.certificate.as_os_str().is_empty()).then_some((&settings.certificate, &settings.key))
}

/// `group`: the key's group may read it.
fn load(certificate: &Path, key: &Path, group: bool) -> Result<Certificate, CertificateError> {
    let chain = read(certificate, &|_| Ok(()))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(certificate, &error))?;
    let Some(first) = chain.first() else {
        return Err(CertificateError::NoCertificate { path: certificate.to_owned() });
    };
    let parts = x509::parts(first).map_err(|error| CertificateError::Damaged {
        path: certificate.to_owned(),
        reason: format!("the certificate is not X.509 ({error})"),
    })?;
    let facts = CertificateFacts {
        path: certificate.to_owned(),
        names: parts.names,
        not_before: parts.not_before,
        not_after: parts.not_after,
        self_signed: parts.self_issued,
        chain: chain.len(),
    };
    let secret = zeroize::Zeroizing::new(read(key, &|found| check_mode(key, found, group))?);
    let private = PrivateKeyDer::from_pem_slice(&secret).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::NoKey { path: key.to_owned() },
        error => damaged(key, &error),
    })?;
    let provider = rustls::crypto::ring::default_provider();
    let certified = CertifiedKey::from_der(chain, private, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertificateError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        rustls::Error::InvalidCertificate(reason) => CertificateError::Damaged {
            path: certificate.to_owned(),
            reason: format!("the certificate cannot be used ({reason})"),
        },
        error => {
            CertificateError::KeyUnusable { path: key.to_owned(), reason: why_unusable(&secret, &error) }
        }
    })?;
    Ok(Certificate { certified, facts })
}

/// DER of the object identifier of the curve P-521 (RFC 5480 §2.1.1.1: secp521r1, 1.3.132.0.35).
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// Why a key that reads well cannot be used. The library says of every kind it does not know that it cannot be read.
fn why_unusable(pem: &[u8], error: &rustls::Error) -> String {
    let on_p521 = PrivateKeyDer::from_pem_slice(pem)
        .is_ok_and(|key| key.secret_der().windows(P521.len()).any(|window| window == P521));
    match on_p521 {
        true => "it is an ECDSA key on the curve P-521, with which this server cannot sign".into(),
        false => error.to_string(),
    }
}

/// A private key that others may read is no secret, and one that they may change is theirs. Looks at the file that is
/// open, which no one can replace after the look.
fn check_mode(path: &Path, found: &Metadata, group: bool) -> Result<(), CertificateError> {
    let mode = found.permissions().mode() & 0o777;
    let who = match mode {
        mode if mode & 0o007 != 0 => "everybody may use it",
        mode if mode & 0o030 != 0 => "its group may change it",
        mode if mode & 0o040 != 0 && !group => GROUP_MAY_READ,
        _ => return Ok(()),
    };
    Err(CertificateError::KeyMode { path: path.to_owned(), mode, who, group_is_meant: group })
}

fn read(
    path: &Path,
    check: &dyn Fn(&Metadata) -> Result<(), CertificateError>,
) -> Result<Vec<u8>, CertificateError> {
    use std::io::Read;
    let failed = |source| CertificateError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    check(&file.metadata().map_err(failed)?)?;
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(CertificateError::Damaged {
            path: path.to_owned(),
            reason: format!("more than {PEM_BYTES_MAX} bytes"),
        });
    }
    Ok(bytes)
}

fn damaged(path: &Path, error: &pem::Error) -> CertificateError {
    CertificateError::Damaged { path: path.to_owned(), reason: error.to_string() }
}

/// An address in brackets without them (RFC 7622 §3.2: IPv6 literals are written so).
fn bare(domain: &str) -> &str {
    domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(domain)
}

/// The domain as certificates write it (RFC 5280 §7.2), if it can be written so.
fn ascii_domain(domain: &str) -> Option<String> {
    if domain.is_ascii() { Some(domain.to_owned()) } else { idna::domain_to_ascii(domain).ok() }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
