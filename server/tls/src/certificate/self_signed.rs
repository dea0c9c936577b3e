//! The self-signed certificate of a server that was given none: made at the first start, the same ever after, so
//! that clients who have trusted it once need not again.

use std::fs::{DirBuilder, File, OpenOptions, rename};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use zeroize::Zeroizing;

use super::{Certificate, ascii_domain, bare, load, now};
use crate::Settings;
use crate::error::CertificateError;

/// How long it is valid: about ten years.
const VALID_SECONDS: u64 = 3652 * 24 * 3600;

/// It is valid from a day before it was made, for clients whose clocks are behind.
const BACKDATED_SECONDS: u64 = 24 * 3600;

/// Its two files in its directory: certificate and key.
pub(super) fn files(settings: &Settings) -> (PathBuf, PathBuf) {
    let directory = &settings.self_signed;
    (directory.join("self-signed.pem"), directory.join("self-signed.key"))
}

/// Takes the one made before, or makes one if there is none, it is for another domain, has expired or is damaged.
pub(super) fn load_or_make(settings: &Settings) -> Result<Certificate, CertificateError> {
    let (certificate, key) = files(settings);
    let reason = match load(&certificate, &key, false) {
        Ok(found) if !found.facts.covers(&settings.domain) => "it was for another domain".to_owned(),
        Ok(found) if found.facts.not_after < now() => "it had expired".to_owned(),
        Ok(found) => return Ok(found),
        Err(CertificateError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            "there was none".to_owned()
        }
        // Made with the right mode: somebody has changed it, and may have read the key.
        Err(error @ (CertificateError::Read { .. } | CertificateError::KeyMode { .. })) => return Err(error),
        Err(error) => error.to_string(),
    };
    make(settings, &certificate, &key)?;
    tracing::info!(path = %certificate.display(), reason, "made a self-signed certificate");
    load(&certificate, &key, false)
}

fn make(settings: &Settings, certificate: &Path, key: &Path) -> Result<(), CertificateError> {
    let failed = |reason: String| CertificateError::SelfSigned { domain: settings.domain.clone(), reason };
    let domain = ascii_domain(bare(&settings.domain)).ok_or_else(|| failed("it is no domain name".into()))?;
    let mut names = vec![domain.clone()];
    if domain == "localhost" {
        names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    }
    let broken = |error: rcgen::Error| failed(error.to_string());
    let mut params = CertificateParams::new(names).map_err(broken)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, domain);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let seconds = u64::try_from(now()).unwrap_or_default();
    let made = date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = made - Duration::from_secs(BACKDATED_SECONDS);
    params.not_after = made + Duration::from_secs(VALID_SECONDS);
    let pair = KeyPair::generate().map_err(broken)?;
    let signed = params.self_signed(&pair).map_err(broken)?;
    let secret = Zeroizing::new(pair.serialize_pem());

    let directory = &settings.self_signed;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| CertificateError::Write { path: directory.clone(), source })?;
    // The certificate last: if only the key got there, the pair does not fit and is made anew.
    write(key, secret.as_bytes())?;
    write(certificate, signed.pem().as_bytes())?;
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(|source| CertificateError::Write { path: directory.clone(), source })
}

/// Writes a file so that there is either the whole of it or what was there before.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CertificateError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let written = || -> std::io::Result<()> {
        // A leftover of a crash may have other rights.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        rename(&new, path)
    };
    written().map_err(|source| CertificateError::Write { path: path.to_owned(), source })
}
