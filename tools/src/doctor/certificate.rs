//! The certificate: its expiry, its names, and who may read the files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::{Finding, Patient};

/// Days before the expiry at which it is time to renew.
const RENEW_DAYS: i64 = 14;

const DAY_SECONDS: i64 = 86_400;

/// Looks at the configured certificate, or at the self-signed one of the data directory.
pub(super) fn check(data: &Path, patient: &Patient) -> Vec<Finding> {
    let configured = !patient.certificate.as_os_str().is_empty();
    let path = if configured { patient.certificate.clone() } else { self_signed(data) };
    let key = if configured { patient.key.clone() } else { path.with_extension("key") };
    let mut findings = key_mode(&key, configured && patient.key_group_readable);
    findings.extend(chain(&path, configured, patient));
    findings
}

/// Whether others may read the key: the server refuses it then.
fn key_mode(key: &Path, group_readable: bool) -> Vec<Finding> {
    let check = "private key";
    let shown = key.display();
    // What is not there, or cannot be looked at, the server tells.
    let Ok(found) = std::fs::metadata(key) else { return Vec::new() };
    let mode = found.permissions().mode() & 0o777;
    let (forbidden, good) = if group_readable { (0o037, "640") } else { (0o077, "600") };
    if mode & forbidden == 0 {
        return vec![Finding::good(check, format!("{shown}, mode {mode:03o}"))];
    }
    let text = format!("{shown} has mode {mode:03o}: others may use it, and the server refuses it");
    vec![Finding::mend(check, text, format!("chmod {good} {shown}"))]
}

/// The certificate itself.
fn chain(path: &Path, configured: bool, patient: &Patient) -> Vec<Finding> {
    let check = "certificate";
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if !configured && error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::note(check, "self-signed, made at the first start")];
        }
        Err(error) => {
            let text = format!("{} cannot be read: {error}", path.display());
            return vec![Finding::mend(check, text, format!("ls -l {}", path.display()))];
        }
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    judge(path, &bytes, patient.domain.as_deref(), now.as_secs() as i64)
}

/// Where the server keeps the certificate that it makes itself.
fn self_signed(data: &Path) -> PathBuf {
    data.join("tls").join("self-signed.pem")
}

/// `now` is in seconds since 1970.
fn judge(path: &Path, bytes: &[u8], domain: Option<&str>, now: i64) -> Vec<Finding> {
    let check = "certificate";
    let shown = path.display();
    let der = match first_certificate(bytes) {
        Ok(der) => der,
        Err(text) => {
            let command = format!("openssl x509 -in {shown} -noout -text");
            return vec![Finding::mend(check, format!("{shown}: {text}"), command)];
        }
    };
    let certificate = match X509Certificate::from_der(&der) {
        Ok((_, certificate)) => certificate,
        Err(error) => {
            let command = format!("openssl x509 -in {shown} -noout -text");
            return vec![Finding::mend(check, format!("{shown} is damaged: {error}"), command)];
        }
    };
    let mut findings = vec![expiry(path, &certificate, now)];
    if let Some(domain) = domain {
        findings.push(names(path, &certificate, domain));
    }
    if certificate.issuer() == certificate.subject() {
        let text = format!("{shown} is self-signed: clients ask their users whether to trust it");
        findings.push(Finding::note(check, text));
    }
    findings
}

/// The first certificate of a PEM file, or a DER file as it is.
fn first_certificate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if bytes.first() == Some(&0x30) {
        return Ok(bytes.to_vec());
    }
    for block in Pem::iter_from_buffer(bytes) {
        let block = block.map_err(|error| format!("not PEM: {error}"))?;
        if block.label == "CERTIFICATE" {
            return Ok(block.contents);
        }
    }
    Err("no certificate in it".into())
}

fn expiry(path: &Path, certificate: &X509Certificate<'_>, now: i64) -> Finding {
    let check = "certificate";
    let shown = path.display();
    let validity = certificate.validity();
    let left = (validity.not_after.timestamp() - now).div_euclid(DAY_SECONDS);
    let command = if certificate.issuer() == certificate.subject() {
        format!("rm {shown} && whimbrelctl reload   (the server makes another one)")
    } else {
        "certbot renew && whimbrelctl reload".to_owned()
    };
    if validity.not_before.timestamp() > now {
        let text = format!("{shown} is valid from {} on only; is the clock right?", validity.not_before);
        return Finding::mend(check, text, "date -u");
    }
    match left {
        ..0 => Finding::mend(check, format!("{shown} has expired on {}", validity.not_after), command),
        0..RENEW_DAYS => Finding::mend(check, format!("{shown} expires in {left} days"), command),
        _ => Finding::good(check, format!("{shown}, valid for {left} days")),
    }
}

fn names(path: &Path, certificate: &X509Certificate<'_>, domain: &str) -> Finding {
    let check = "certificate names";
    let names: Vec<String> = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_ascii_lowercase()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    if names.iter().any(|name| covers(name, domain)) {
        return Finding::good(check, format!("cover {domain}"));
    }
    let text = format!(
        "{} is for {}, not for {domain}",
        path.display(),
        if names.is_empty() { "no domain".to_owned() } else { names.join(", ") }
    );
    Finding::mend(check, text, format!("certbot certonly -d {domain}"))
}

/// RFC 6125 §6.4.3: `*` stands for one label, the first.
fn covers(name: &str, domain: &str) -> bool {
    match name.strip_prefix("*.") {
        None => name == domain,
        Some(rest) => domain.split_once('.').is_some_and(|(_, parent)| parent == rest),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    /// A certificate for `chat.example` from 2026-01-01 to 2026-06-30.
    fn pem() -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["chat.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 6, 30);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem().into_bytes()
    }

    const JANUARY_2026: i64 = 1_767_225_600;

    #[test]
    fn expiry_is_told_in_time() {
        let pem = pem();
        let table = [
            (-1, Level::Mend, "valid from"),
            (30, Level::Good, "valid for 150 days"),
            (170, Level::Mend, "expires in 10 days"),
            (200, Level::Mend, "has expired"),
        ];
        for (day, level, text) in table {
            let findings = judge(Path::new("c.pem"), &pem, None, JANUARY_2026 + day * DAY_SECONDS);
            assert_eq!(findings[0].level, level, "day {day}: {findings:?}");
            assert!(findings[0].text.contains(text), "day {day}: {findings:?}");
        }
    }

    #[test]
    fn a_certificate_for_another_name_is_told() {
        let pem = pem();
        for (domain, level) in [("chat.example", Level::Good), ("other.example", Level::Mend)] {
            let findings = judge(Path::new("c.pem"), &pem, Some(domain), JANUARY_2026);
            assert_eq!(findings[1].level, level, "{domain}: {findings:?}");
        }
        for (name, domain, expected) in [
            ("*.example.org", "chat.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "a.b.example.org", false),
        ] {
            assert_eq!(covers(name, domain), expected, "{name} {domain}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        let cases: [&[u8]; 4] = [
            b"",
            b"text",
            b"-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
            b"\x30\x82\x01",
        ];
        for bytes in cases {
            let findings = judge(Path::new("c.pem"), bytes, None, JANUARY_2026);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(findings[0].level, Level::Mend, "{findings:?}");
        }
    }
}
