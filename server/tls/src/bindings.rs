//! The channel binding `tls-server-end-point` (RFC 5929 §4).

use std::sync::Arc;

use ring::digest::{self, Algorithm, SHA256, SHA384, SHA512};

use super::x509;

/// Signature algorithms, and the hashes that RSASSA-PSS names in its parameters, by object identifier. Where a certificate was signed with MD5 or SHA-1, the
/// binding is made with SHA-256.
static HASHES: [(&[u8], &Algorithm); 13] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], &SHA256), // md5WithRSAEncryption
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], &SHA256), // sha1WithRSAEncryption
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], &SHA256), // sha256WithRSAEncryption
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], &SHA384), // sha384WithRSAEncryption
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], &SHA512), // sha512WithRSAEncryption
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], &SHA256),             // ecdsa-with-SHA1
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], &SHA256),       // ecdsa-with-SHA256
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], &SHA384),       // ecdsa-with-SHA384
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], &SHA512),       // ecdsa-with-SHA512
    (&[0x2b, 0x0e, 0x03, 0x02, 0x1a], &SHA256),                         // SHA-1
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], &SHA256), // SHA-256
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], &SHA384), // SHA-384
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], &SHA512), // SHA-512
];

/// The hash of the certificate. None where the RFC defines none: for a signature without a single hash, such as
/// Ed25519.
pub(super) fn server_end_point(certificate: &[u8]) -> Option<Arc<[u8]>> {
    let hash = hash_of(&x509::parts(certificate).ok()?.signature)?;
    Some(digest::digest(hash, certificate).as_ref().into())
}

fn hash_of(signature: &[u8]) -> Option<&'static Algorithm> {
    HASHES.iter().find(|(known, _)| *known == signature).map(|(_, hash)| *hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_signature_or_sha_256_for_weak_ones() {
        let sha1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
        let sha384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
        let table: [(&[u8], Option<&'static Algorithm>); 7] = [
            (HASHES[0].0, Some(&SHA256)),
            (HASHES[3].0, Some(&SHA384)),
            (HASHES[8].0, Some(&SHA512)),
            (sha1, Some(&SHA256)),
            (sha384, Some(&SHA384)),
            (&[1, 2, 3], None),
            (&[0x2b, 0x65, 0x70], None),
        ];
        for (signature, expected) in table {
            assert_eq!(hash_of(signature), expected, "{signature:x?}");
        }
    }

    #[test]
    fn the_binding_of_certificates_by_their_signature() {
        use rcgen::{
            CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
        };
        let table = [
            (&PKCS_ECDSA_P256_SHA256, Some(&SHA256)),
            (&PKCS_ECDSA_P384_SHA384, Some(&SHA384)),
            (&PKCS_ED25519, None),
        ];
        for (algorithm, hash) in table {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let certificate =
                CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
            let expected = hash.map(|hash| digest::digest(hash, certificate.der()));
            let binding = server_end_point(certificate.der());
            assert_eq!(binding.as_deref(), expected.as_ref().map(AsRef::as_ref), "{algorithm:?}");
        }
    }
}
