//! A payload that only the browser can read: the keys of RFC 8291, the content coding of RFC 8188 (`aes128gcm`) in one
//! record.
//!
//! ```text
//! ephemeral key × browser's key ─ECDH─▶ ┐
//! browser's secret ────────────────────▶ HKDF ─▶ ikm ┐
//! salt ──────────────────────────────────────────────▶ HKDF ─▶ key, nonce ─▶ AES-128-GCM
//! body = salt (16) ‖ record size (4) ‖ 65 ‖ ephemeral public key (65) ‖ sealed (payload ‖ 2 ‖ zeros)
//! ```

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::es256::POINT_BYTES;

/// Bytes of a record, which push services need not exceed (RFC 8291 §4).
const RECORD_BYTES: u32 = 4_096;

/// Bytes before the record: salt, its size, the length of the key's id, which is the ephemeral public key.
const HEADER_BYTES: usize = 16 + 4 + 1 + POINT_BYTES;

/// Bytes of a payload at most: the whole body has 4,096 (RFC 8291 §4), of which one is the delimiter.
pub(super) const PLAIN_BYTES_MAX: usize = RECORD_BYTES as usize - HEADER_BYTES - 1 - 16;

/// A payload is padded to a multiple of this: its length tells little of its text.
const PADDING_BYTES: usize = 256;

/// The delimiter of the last record (RFC 8188 §2).
const LAST: u8 = 2;

const NO_KEY: &str = "the subscription's key is no point of P-256";
const NO_CHANCE: &str = "the system gives no random bytes";

/// What both keys come to, and what else the keys of a record are made of.
struct Agreed<'a> {
    secret: &'a [u8],
    browser: &'a [u8; POINT_BYTES],
    ours: &'a [u8; POINT_BYTES],
    auth: &'a [u8; 16],
    salt: &'a [u8; 16],
}

/// A length in bytes for HKDF.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// The body of a request, for the owner of the key and the secret.
///
/// # Errors
/// The key is none.
pub(super) fn encrypt(
    plain: &[u8],
    browser: &[u8; POINT_BYTES],
    auth: &[u8; 16],
) -> Result<Vec<u8>, &'static str> {
    let random = SystemRandom::new();
    let mut salt = [0; 16];
    random.fill(&mut salt).map_err(|_| NO_CHANCE)?;
    let key = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(|_| NO_CHANCE)?;
    let ours = key.compute_public_key().map_err(|_| NO_CHANCE)?;
    let ours: [u8; POINT_BYTES] = ours.as_ref().try_into().expect("ring writes points of P-256 uncompressed");
    agree_ephemeral(key, &UnparsedPublicKey::new(&ECDH_P256, browser), |secret| {
        let agreed = Agreed { secret, browser, ours: &ours, auth, salt: &salt };
        let padded = plain.len().next_multiple_of(PADDING_BYTES).min(PLAIN_BYTES_MAX);
        seal(&agreed, plain, padded.saturating_sub(plain.len()))
    })
    .map_err(|_| NO_KEY)
}

/// The body, with so many zeros behind the payload.
fn seal(agreed: &Agreed<'_>, plain: &[u8], zeros: usize) -> Vec<u8> {
    let (key, nonce) = keys(agreed);
    let mut record = Vec::with_capacity(plain.len() + 1 + zeros + 16);
    record.extend_from_slice(plain);
    record.push(LAST);
    record.resize(record.len() + zeros, 0);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).expect("the key has 16 bytes"));
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record)
        .expect("a record is short");

    let mut body = Vec::with_capacity(HEADER_BYTES + record.len());
    body.extend_from_slice(agreed.salt);
    body.extend_from_slice(&RECORD_BYTES.to_be_bytes());
    body.push(POINT_BYTES as u8);
    body.extend_from_slice(agreed.ours);
    body.append(&mut record);
    body
}

/// Key and nonce of the first record (RFC 8291 §3.4).
fn keys(agreed: &Agreed<'_>) -> ([u8; 16], [u8; NONCE_LEN]) {
    let prk = Salt::new(HKDF_SHA256, agreed.auth).extract(agreed.secret);
    let mut ikm = [0; 32];
    expand(&prk, &[b"WebPush: info\0", agreed.browser, agreed.ours], &mut ikm);
    let prk = Salt::new(HKDF_SHA256, agreed.salt).extract(&ikm);
    let (mut key, mut nonce) = ([0; 16], [0; NONCE_LEN]);
    expand(&prk, &[b"Content-Encoding: aes128gcm\0"], &mut key);
    expand(&prk, &[b"Content-Encoding: nonce\0"], &mut nonce);
    (key, nonce)
}

fn expand(prk: &Prk, info: &[&[u8]], out: &mut [u8]) {
    prk.expand(info, Bytes(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("a few bytes are fewer than HKDF can give");
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use p256::SecretKey;
    use p256::ecdh::diffie_hellman;
    use p256::elliptic_curve::sec1::ToEncodedPoint;

    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        URL_SAFE_NO_PAD.decode(text).unwrap().try_into().unwrap()
    }

    fn secret_key(text: &str) -> SecretKey {
        SecretKey::from_slice(&bytes::<32>(text)).unwrap()
    }

    fn public(key: &SecretKey) -> [u8; 65] {
        key.public_key().to_encoded_point(false).as_bytes().try_into().unwrap()
    }

    /// RFC 8291, section 5 and appendix A.
    #[test]
    fn the_example_of_rfc_8291_comes_out() {
        let ours = secret_key("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let browser = secret_key("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
        let secret = diffie_hellman(ours.to_nonzero_scalar(), browser.public_key().as_affine());
        let secret: [u8; 32] = secret.raw_secret_bytes().as_slice().try_into().unwrap();
        assert_eq!(secret, bytes("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs"), "ecdh_secret");
        let (auth, salt) = (bytes("BTBZMqHH6r4Tts7J_aSIgg"), bytes("DGv6ra1nlYgDCS1FRnbzlw"));
        let (ours, browser) = (public(&ours), public(&browser));
        let agreed = Agreed { secret: &secret, browser: &browser, ours: &ours, auth: &auth, salt: &salt };
        let (key, nonce) = keys(&agreed);
        assert_eq!(key, bytes("oIhVW04MRdy2XN9CiKLxTg"), "content encryption key");
        assert_eq!(nonce, bytes("4h_95klXJ5E_qnoN"), "nonce");
        let body = seal(&agreed, b"When I grow up, I want to be a watermelon", 0);
        let expected = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6Tlz\
                        AC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(URL_SAFE_NO_PAD.encode(body), expected);
    }

    /// RFC 8188 §3.1 has the key where RFC 8291 has what it makes of the agreement; the steps after it are the same.
    #[test]
    fn the_example_of_rfc_8188_comes_out() {
        let prk = Salt::new(HKDF_SHA256, &bytes::<16>("I1BsxtFttlv3u_Oo94xnmw"))
            .extract(&bytes::<16>("yqdlZ-tYemfogSmv7Ws5PQ"));
        let (mut key, mut nonce) = ([0; 16], [0; NONCE_LEN]);
        expand(&prk, &[b"Content-Encoding: aes128gcm\0"], &mut key);
        expand(&prk, &[b"Content-Encoding: nonce\0"], &mut nonce);
        assert_eq!(key, bytes("_wniytB-ofscZDh4tbSjHw"));
        assert_eq!(nonce, bytes("Bcs8gkIRKLI8GeI8"));
        let mut record = b"I am the walrus\x02".to_vec();
        LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap())
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record)
            .unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(record), "-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg");
    }

    #[test]
    fn a_body_has_no_more_than_push_services_take_and_tells_little_of_its_length() {
        let (browser, auth) = (public(&secret_key("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")), [7; 16]);
        let length = |plain: usize| encrypt(&vec![b'a'; plain], &browser, &auth).unwrap().len();
        assert_eq!(PLAIN_BYTES_MAX, 3_993);
        assert_eq!(length(PLAIN_BYTES_MAX), 4_096);
        assert_eq!(length(1), length(256));
        assert_eq!(length(257), length(512));
    }
}
