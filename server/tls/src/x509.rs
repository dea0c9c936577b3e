//! The little of X.509 that the server needs: names, dates, and how the certificate was signed. No trust in any of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// The parts of a certificate that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// The object identifier of the signature's algorithm. In place of that of RSASSA-PSS stands the one of the hash
    /// that it names in its parameters, SHA-1 if it names none (RFC 4055 §3.1).
    pub(super) signature: Vec<u8>,
    /// Whether issuer and subject are the same.
    pub(super) self_issued: bool,
    /// Begin of the validity, in seconds of Unix time.
    pub(super) not_before: i64,
    /// End of the validity, in seconds of Unix time.
    pub(super) not_after: i64,
    /// DNS names and addresses; the common name when there are none.
    pub(super) names: Vec<String>,
}

/// Reads a certificate (RFC 5280 §4.1).
pub(super) fn parts(certificate: &[u8]) -> Result<Parts, X509Error> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| match error {
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
        x509_parser::nom::Err::Incomplete(_) => X509Error::InvalidCertificate,
    })?;
    let algorithm = &certificate.signature_algorithm;
    let signature = match SignatureAlgorithm::try_from(algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => parameters.hash_algorithm_oid().as_bytes().to_vec(),
        _ => algorithm.algorithm.as_bytes().to_vec(),
    };
    let alternatives = certificate.subject_alternative_name()?;
    let alternatives = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let mut names: Vec<String> = alternatives.filter_map(name).collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().next();
        names.extend(common.map(|name| String::from_utf8_lossy(name.as_slice()).into_owned()));
    }
    Ok(Parts {
        signature,
        self_issued: certificate.issuer() == certificate.subject(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        names,
    })
}

/// A DNS name or an address (RFC 5280 §4.2.1.6).
fn name(alternative: &GeneralName<'_>) -> Option<String> {
    match alternative {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|bytes| Ipv6Addr::from(bytes).to_string())).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parts(&bytes);
        }
    }

    #[test]
    fn a_certificate_cut_or_changed_anywhere_does_no_harm() {
        let key = rcgen::KeyPair::generate().unwrap();
        let der = rcgen::CertificateParams::new(vec!["a.example".to_owned(), "127.0.0.1".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let der: &[u8] = der.der();
        assert_eq!(parts(der).unwrap().names, ["a.example", "127.0.0.1"]);
        for at in 0..der.len() {
            assert!(parts(&der[..at]).is_err(), "cut at {at}");
            let mut changed = der.to_vec();
            for bit in 0..8 {
                changed[at] ^= 1 << bit;
                let _ = parts(&changed);
            }
        }
    }
}
