//! Where a store is, and who asks.

use std::fmt;
use std::time::Duration;

use hyper::Uri;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// Who asks. Neither part is written to a log.
#[derive(Clone)]
pub struct Credentials {
    /// The name of the key.
    pub access_key: Zeroizing<String>,
    /// The key.
    pub secret_key: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// A store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme, host and port, like `https://s3.example.org:9000`.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What names of objects begin with, without a slash at either end; may be empty.
    pub prefix: String,
    /// The bucket is a part of the path, not of the host's name.
    pub path_style: bool,
    /// Plain HTTP is permitted; only to a loopback address.
    pub allow_http: bool,
    /// Who asks.
    pub credentials: Credentials,
    /// Who may vouch for the store's certificate.
    pub roots: RootCertStore,
    /// Bytes of parts that all uploads together may hold.
    pub memory_bytes: usize,
    /// How long one request may take until its answer begins, its body and a new connection included.
    pub request: Duration,
}

/// Settings that cannot be used; the first part names which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {text}")]
pub struct WrongSettings {
    /// The name of the field of [`Settings`].
    pub setting: &'static str,
    /// What is wrong, and what to do.
    pub text: String,
}

fn wrong<T>(setting: &'static str, text: impl Into<String>) -> Result<T, WrongSettings> {
    Err(WrongSettings { setting, text: text.into() })
}

/// Scheme, host and port of an endpoint.
pub(crate) struct Endpoint {
    pub(crate) scheme: &'static str,
    pub(crate) authority: String,
    is_loopback: bool,
}

impl Endpoint {
    fn read(text: &str) -> Result<Endpoint, WrongSettings> {
        let like = "write it like https://s3.example.org:9000, without a path";
        let bad = || WrongSettings { setting: "endpoint", text: format!("is `{text}`; {like}") };
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        let has_path = !matches!(uri.path(), "" | "/") || uri.query().is_some();
        if has_path || text.ends_with('/') || authority.as_str().contains('@') || authority.host().is_empty()
        {
            return Err(bad());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        Ok(Endpoint { scheme, authority: authority.as_str().to_owned(), is_loopback })
    }
}

impl Settings {
    /// Checks everything but the credentials. Nothing is connected to.
    ///
    /// # Errors
    /// The field, and what to do.
    pub fn check(&self) -> Result<(), WrongSettings> {
        let endpoint = Endpoint::read(&self.endpoint)?;
        if endpoint.scheme == "http" && !endpoint.is_loopback {
            let text = format!(
                "is `{}`: files and signed requests would cross the network in the clear; use https, or an address of \
                 this machine",
                self.endpoint
            );
            return wrong("endpoint", text);
        }
        if endpoint.scheme == "http" && !self.allow_http {
            return wrong("endpoint", format!("is `{}`; set allow_http, or use https", self.endpoint));
        }
        let is_name = |text: &str, others: &[u8]| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
        };
        if !is_name(&self.region, b"-_.") {
            return wrong("region", format!("is `{}`; write it like eu-central-1", self.region));
        }
        if !(3..=63).contains(&self.bucket.len()) || !is_name(&self.bucket, b"-._") {
            return wrong("bucket", format!("is `{}`, which is no name of a bucket", self.bucket));
        }
        let is_prefix =
            |text: &str| text.split('/').all(|part| is_name(part, b"-._") && part != "." && part != "..");
        if !self.prefix.is_empty() && (self.prefix.len() > 200 || !is_prefix(&self.prefix)) {
            let text =
                format!("is `{}`; use letters, digits, `-`, `_`, `.`, and `/` between parts", self.prefix);
            return wrong("prefix", text);
        }
        Ok(())
    }

    /// The URL that the names of objects follow.
    pub(crate) fn base(&self) -> Result<String, WrongSettings> {
        let Endpoint { scheme, authority, .. } = Endpoint::read(&self.endpoint)?;
        Ok(match self.path_style {
            true => format!("{scheme}://{authority}/{}", self.bucket),
            false => format!("{scheme}://{}.{authority}", self.bucket),
        })
    }
}

/// Those who vouch for certificates: the authorities that browsers know, or those of a PEM file alone.
///
/// # Errors
/// The PEM has no certificate, or one that cannot be read.
pub fn roots(pem: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = pem else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| format!("it has a certificate that cannot be read: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("it has a certificate that cannot be used: {error}"))?;
    }
    if roots.is_empty() { Err("it has no certificate (PEM)".to_owned()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let key = || Zeroizing::new("key".to_owned());
        Settings {
            endpoint: "https://s3.example.org".into(),
            region: "eu-central-1".into(),
            bucket: "files".into(),
            prefix: "chat/uploads".into(),
            path_style: true,
            allow_http: false,
            credentials: Credentials { access_key: key(), secret_key: key() },
            roots: RootCertStore::empty(),
            memory_bytes: 1 << 20,
            request: Duration::from_secs(1),
        }
    }

    #[test]
    fn each_mistake_names_its_setting() {
        assert_eq!(settings().check(), Ok(()));
        type Change = fn(&mut Settings);
        let table: [(&str, &str, Change); 13] = [
            ("endpoint", "without a path", |s| s.endpoint = "https://a/b".into()),
            ("endpoint", "without a path", |s| s.endpoint = "https://a/".into()),
            ("endpoint", "without a path", |s| s.endpoint = "https://a?b".into()),
            ("endpoint", "without a path", |s| s.endpoint = "https://key:secret@a".into()),
            ("endpoint", "write it like", |s| s.endpoint = "s3.example.org".into()),
            ("endpoint", "write it like", |s| s.endpoint = "ftp://a".into()),
            ("endpoint", "allow_http", |s| s.endpoint = "http://127.0.0.1:9000".into()),
            ("endpoint", "in the clear", |s| {
                s.endpoint = "http://192.0.2.1:9000".into();
                s.allow_http = true;
            }),
            ("region", "eu central", |s| s.region = "eu central".into()),
            ("bucket", "no name", |s| s.bucket = "ab".into()),
            ("bucket", "no name", |s| s.bucket = "a/b".into()),
            ("prefix", "a//b", |s| s.prefix = "a//b".into()),
            ("prefix", "../a", |s| s.prefix = "../a".into()),
        ];
        for (setting, said, change) in table {
            let mut settings = settings();
            change(&mut settings);
            let error = settings.check().expect_err(said);
            assert_eq!(error.setting, setting, "{said}");
            assert!(error.to_string().contains(said), "{said}: {error}");
        }
        for endpoint in ["http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost:1"] {
            let local =
                Settings { endpoint: endpoint.into(), allow_http: true, prefix: String::new(), ..settings() };
            assert_eq!(local.check(), Ok(()), "{endpoint}");
        }
    }

    #[test]
    fn a_bucket_is_in_the_path_or_in_the_name() {
        assert_eq!(settings().base().unwrap(), "https://s3.example.org/files");
        let hosted = Settings { path_style: false, ..settings() };
        assert_eq!(hosted.base().unwrap(), "https://files.s3.example.org");
    }

    #[test]
    fn credentials_are_not_shown() {
        assert!(
            !format!("{:?}", settings()).contains("key:") && !format!("{:?}", settings()).contains("\"key\"")
        );
    }
}
