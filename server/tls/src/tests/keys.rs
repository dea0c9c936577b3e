//! Changes of keys.

use super::*;

#[test]
fn a_clients_key_update_is_followed_and_answered() {
    for of in SUITES.into_iter().filter(|of| is_tls13(of.0)) {
        for cut in [1, usize::MAX] {
            let mut pair = Pair::connected(of);
            pair.cut = cut;
            for _ in 0..3 {
                pair.client.refresh_traffic_keys().unwrap();
                pair.client_says(b"with new keys");
                pair.server_says(b"with new keys as well");
                pair.server_says(b"and again");
            }
        }
    }
}

#[test]
fn several_key_updates_are_answered_once() {
    let mut pair = Pair::connected(SUITES[1]);
    for _ in 0..5 {
        pair.client.refresh_traffic_keys().unwrap();
    }
    pair.talk().unwrap();
    let mut wire = Vec::new();
    pair.tls.seal(b"", &mut wire).unwrap();
    assert_eq!(wire.len(), 5 + 5 + 1 + 16, "one record with one KeyUpdate");
    pair.give_to_client(&wire);
    pair.server_says(b"heard");
}

#[test]
fn our_own_key_update_is_understood() {
    for of in SUITES.into_iter().filter(|of| is_tls13(of.0)) {
        let mut pair = Pair::connected(of);
        let mut wire = Vec::new();
        for _ in 0..3 {
            let super::super::State::Established(records) = &mut pair.tls.state else {
                panic!("established")
            };
            records.change_write_key(&mut wire);
            pair.tls.seal(b"", &mut wire).unwrap();
        }
        pair.give_to_client(&wire);
        pair.server_says(b"with new keys");
        pair.client_says(b"with old keys");
    }
}

#[test]
fn used_up_keys_are_changed_in_tls_1_3_and_end_the_connection_in_tls_1_2() {
    const LAST: u64 = (1 << 24) - 8;
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm] {
        let (mut client, mut server) = mirrored(Version::Tls13, suite, LAST - 2);
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        server.seal(&noise(5 * 16_384), &mut wire).unwrap();
        client.open(&wire, &mut plain, &mut Vec::new()).unwrap();
        assert_eq!(plain, noise(5 * 16_384));
        let records_alone = 5 * (5 + 16_384 + 1 + 16);
        assert_eq!(wire.len() - records_alone, 5 + 5 + 1 + 16, "one KeyUpdate among them");

        let (mut client, mut server) = mirrored(Version::Tls12, suite, LAST - 2);
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        let result = server.seal(&noise(5 * 16_384), &mut wire);
        assert!(matches!(result, Err(TlsError::KeysUsedUp)), "{result:?}");
        assert!(client.open(&wire, &mut plain, &mut Vec::new()).unwrap(), "close_notify is sent");
        assert_eq!(plain, noise(2 * 16_384));
        assert!(matches!(server.seal(b"x", &mut wire), Err(TlsError::NotOpen)));
    }
}

#[test]
fn a_key_update_cut_between_records_is_put_together() {
    for parts in [&[1, 4][..], &[4, 1], &[2, 2, 1], &[1, 1, 1, 1, 1]] {
        let (mut client, mut server) = mirrored(Version::Tls13, Suite::ChaCha20Poly1305, 0);
        let mut wire = Vec::new();
        let mut message = &[24, 0, 0, 1, 0][..];
        for part in parts {
            let (now, later) = message.split_at(*part);
            client.write_any(22, now, &mut wire);
            message = later;
        }
        client.move_write_key();
        client.seal(b"new", &mut wire).unwrap();
        let mut plain = Vec::new();
        server.open(&wire, &mut plain, &mut Vec::new()).unwrap();
        assert_eq!(plain, b"new", "{parts:?}");
    }
    let (mut client, mut server) = mirrored(Version::Tls13, Suite::Aes128Gcm, 0);
    let mut wire = Vec::new();
    client.write_any(22, &[24, 0], &mut wire);
    client.seal(b"between", &mut wire).unwrap();
    let mut plain = Vec::new();
    let refused = server.open(&wire, &mut plain, &mut Vec::new());
    assert!(matches!(refused, Err(TlsError::Record { .. })) && plain.is_empty(), "{refused:?}");
}
